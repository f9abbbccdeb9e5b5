"""What V-mode's messages give away by their numbers, tested on the commitments themselves. Loads libsodium.

The linear algebra takes masks as what they should be: fresh, uniform, over all of a blinding. Of lanes
nobody can tell whether they are. Of blindings everybody can, because the commitment is beside them: a word
that holds a bare blinding opens it. What is tested is in `revealed`; a found one is a fact like any other.
What is not seen: a mask that covers most of a blinding, values beyond `LARGEST`, what a proof hides on
purpose. Spec: docs/dcnet.md, "smgw dcnet leak".
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Final

from firmware.enforcement.dcnet.messages.commit import CommitV, OpenV
from tools.dcnet.oracle import PRIME, Row
from tools.dcnet.record import BadRecord

LARGEST: Final = 1 << 24
"""Values below it are looked for, in 0.1 Wh: 1677 kWh in one slot."""
_ONE_AFTER_ANOTHER: Final = 2


@dataclass(frozen=True, slots=True)
class Committed:
    """The commitments of one member in one slot, and what was sent to open their blindings."""

    reading: Hashable | None
    """None: of a corrupt member; it is no secret."""
    said: CommitV
    opened: tuple[OpenV, ...]


def revealed(all_of: Sequence[Committed]) -> Iterator[Row]:
    """Yield what follows beyond the linear algebra of masks, as combinations of readings.

    A reading is known if a masked blinding, what opens it or their difference is the blinding itself, if one
    of its blindings serves in the other lane or in the member's next slot too (the difference of the readings
    shows), or if a nonce of its range proof serves in another one. Equal commitments are equal readings.

    Raises:
        BadRecord: PyNaCl is not installed, or numbers of lanes differ.
        MalformedObject: a point or a proof is none.
    """
    try:
        from firmware.enforcement.dcnet.primitives import edwards, range_proof
    except ModuleNotFoundError as error:
        if error.name != "nacl":
            raise
        raise BadRecord("commitments are judged with PyNaCl, which is not installed (extra vmode)") from error
    for one in all_of:
        for element in one.said.points:
            edwards.point(element)
        if any(len(opened.words) != len(one.said.points) for opened in one.opened):
            raise BadRecord(f"member {one.said.index}: an openv for another number of lanes than its commitv")
    yield from _repeated((one, one.said.points) for one in all_of)
    proofs = [(one, range_proof.RangeProof.from_bytes(one.said.proof)) for one in all_of if one.said.proof]
    for row in _repeated((one, (proof.a, proof.s, proof.t1, proof.t2)) for one, proof in proofs):
        yield from ({reading: 1} for reading in row)
    targets = [*_bare(all_of), *_differences(all_of)]
    points = [edwards.combine(terms) for terms, _ in targets]
    found = small_multiples(points, LARGEST)
    yield from (row for number, (_, row) in enumerate(targets) if number in found)


_Target = tuple[list[tuple[int, bytes]], Row]
"""A sum of scalar * point, and what follows if it is a small multiple of the base point."""


def _repeated(elements: Iterable[tuple[Committed, Iterable[bytes]]]) -> Iterator[Row]:
    """Yield that readings are equal where an element that should be unique is not."""
    first: dict[bytes, Committed] = {}
    for one, several in elements:
        for element in several:
            before = first.setdefault(element, one)
            if before is one:
                continue
            row: Row = {}
            for reading, sign in ((before.reading, 1), (one.reading, PRIME - 1)):
                if reading is not None:
                    row[reading] = (row.get(reading, 0) + sign) % PRIME or 1
            yield row


def _bare(all_of: Iterable[Committed]) -> Iterator[_Target]:
    """Yield C - word * H for each word that supplier and listeners can make of one member's messages."""
    from firmware.enforcement.dcnet.primitives.range_proof import BLINDING_BASE

    for one in all_of:
        if one.reading is None:
            continue
        for lane, element in enumerate(one.said.points):
            words = [one.said.masked[lane]]
            for opened in one.opened:
                words += [opened.words[lane], one.said.masked[lane] - opened.words[lane]]
            for word in dict.fromkeys(words):
                yield [(1, element), (-word, BLINDING_BASE)], {one.reading: 1}


def _differences(all_of: Iterable[Committed]) -> Iterator[_Target]:
    """Yield the differences of a member's commitments: between its lanes, and from each slot to its next."""
    from firmware.enforcement.dcnet.primitives.edwards import BASE

    members: dict[tuple[bytes, int, int], list[Committed]] = {}
    for one in all_of:
        if one.reading is not None:
            members.setdefault((one.said.net, one.said.version, one.said.index), []).append(one)
    for several in members.values():
        several.sort(key=lambda one: one.said.slot)
        for number, one in enumerate(several):
            points = one.said.points
            for lane, element in enumerate(points):
                for other in points[lane + 1 :]:
                    yield [(1, element), (-1, other), (LARGEST // 2, BASE)], {one.reading: 1}
            for later in several[number + 1 : number + _ONE_AFTER_ANOTHER]:
                if later.reading != one.reading:
                    row: Row = {one.reading: 1, later.reading: PRIME - 1}
                    for element, other in zip(points, later.said.points, strict=False):
                        yield [(1, element), (-1, other), (LARGEST // 2, BASE)], row


def small_multiples(points: Sequence[bytes], below: int) -> frozenset[int]:
    """Return which points are x * G with 0 <= x < `below`, by baby steps and giant steps.

    Takes about 2 sqrt(below * points) additions of points.
    """
    from firmware.enforcement.dcnet.primitives.edwards import BASE, IDENTITY, add, times

    if not points:
        return frozenset()
    size = min(below, isqrt(below * len(points)) + 1)
    small, step = set(), IDENTITY
    for _ in range(size):
        small.add(step)
        step = add(step, BASE)
    back = times(-size, BASE)
    found = set()
    for number, here in enumerate(points):
        for _ in range(-(-below // size)):
            if here in small:
                found.add(number)
                break
            here = add(here, back)
    return frozenset(found)
