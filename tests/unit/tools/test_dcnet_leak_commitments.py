"""`smgw dcnet leak` and V-mode: commitments tell nothing, blindings are a lane; searches without an end."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from firmware.enforcement.dcnet import primitives
from firmware.enforcement.dcnet.messages.commit import CommitOrder, CommitV, OpenV, Reason
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame, FrameType, digest
from firmware.enforcement.dcnet.messages.manifest import Manifest
from firmware.enforcement.dcnet.primitives import edwards, range_proof
from firmware.enforcement.dcnet.primitives.range_proof import RangeProof
from firmware.enforcement.dcnet.primitives.scalars import ORDER
from tests.support import leak_oracle as other
from tests.unit.tools.test_dcnet_leak import recorded
from tools.cli.dcnet import app
from tools.dcnet import commitments, oracle
from tools.dcnet.commitments import small_multiples
from tools.dcnet.leak import Known, Verdict, known
from tools.dcnet.record import MESSAGES, BadRecord, PublicNet, Seen, plain, read
from tools.demo.district import record as district

SIZE = 6
VICTIM = 5
VICTIMS = "gw-0-5"
Change = Callable[[CommitV], CommitV]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitments, "LARGEST", 1 << 10)


class Street:
    """A simulated net whose members also play V-mode; every blinding is known to the test."""

    def __init__(self, folder: Path, slots: int = 1) -> None:
        recorded(folder, nets=1, gateways=SIZE, dropout=0.0, slots=slots)
        self.folder, self.source = folder, Random(1)
        self.seen, _ = read(folder)
        self.blindings: dict[tuple[int, int], list[int]] = {}
        self.said: dict[tuple[int, int], CommitV] = {}
        self.opened: dict[tuple[int, int], OpenV] = {}
        for one in self.seen:
            if one.kind in ("submit", "open"):
                body = one.data[:-MAC_BYTES]
                frame = Frame.from_bytes(body)
                place = frame.index, frame.slot
                if frame.type is FrameType.SUBMIT:
                    self.blindings[place] = [self.scalar(), self.scalar()]
                    self.said[place] = self.committed(frame, digest(body))
                else:
                    words = self.scalar(), self.scalar()
                    self.opened[place] = OpenV(
                        frame.net, frame.version, frame.slot, frame.index, frame.reference, words
                    )

    def scalar(self) -> int:
        return self.source.randrange(ORDER)

    def committed(self, frame: Frame, name: bytes) -> CommitV:
        values = 100 + 10 * frame.index + frame.slot, 0
        points = map(range_proof.commit, values, self.blindings[frame.index, frame.slot])
        place = frame.net, frame.version, frame.epoch, frame.slot, frame.index, frame.reference
        return CommitV(*place, name, tuple(points), (self.scalar(), self.scalar()), b"")

    def manifest_without(self, *missing: int) -> Manifest:
        """A second manifest of the first slot."""
        first = next(Manifest.from_bytes(one.data) for one in self.seen if one.kind == "manifest")
        return replace(first, accepted=to_bitmap(sorted({*range(1, SIZE + 1)} - {*missing}), SIZE))

    def record(self, *more: Seen) -> list[Seen]:
        first = next(iter(self.said.values()))
        order = CommitOrder(first.net, first.version, 0, 2, Reason.DEMAND)
        return [
            *self.seen,
            Seen("emp", "members", "orderv", order.to_bytes()),
            *(Seen(f"gw-0-{i}", "emp", "commitv", one.to_bytes()) for (i, _), one in self.said.items()),
            *(Seen(f"gw-0-{i}", "emp", "openv", _sealed(one)) for (i, _), one in self.opened.items()),
            *more,
        ]

    def judged(self, *more: Seen, corrupt: Iterable[str] = ()) -> Known:
        return known(self.record(*more), frozenset(corrupt))


def _sealed(said: OpenV) -> bytes:
    return said.to_bytes() + bytes(MAC_BYTES)


@pytest.fixture
def street(tmp_path: Path) -> Street:
    return Street(tmp_path / "r")


def test_commitments_and_masked_blindings_tell_nothing_beyond_the_sums(street: Street) -> None:
    before, after = known(street.seen, ()), street.judged()
    assert after.committed == SIZE
    assert after.verdict is Verdict.NOTHING
    assert after.basis == before.basis
    assert street.judged(corrupt=["1", "2"]).verdict is known(street.seen, ("1", "2")).verdict


def test_a_resend_says_nothing_new(street: Street) -> None:
    assert street.judged(*street.record()).committed == SIZE


def test_blindings_of_a_slot_show_its_sum_without_the_lanes(street: Street) -> None:
    """What follows of blindings follows of readings: the commitments open with it."""
    without = [one for one in street.record() if one.kind not in ("submit", "open")]
    (row,) = known(without, ()).basis
    assert len(row) == SIZE
    assert known([one for one in without if one.kind != "openv"], ()).basis == []


def test_an_unmasked_blinding_is_found_and_the_word_says_so(street: Street) -> None:
    said = street.said[VICTIM, 0]
    street.said[VICTIM, 0] = replace(said, masked=(said.masked[0], street.blindings[VICTIM, 0][1]))
    (street.folder / MESSAGES).write_text("".join(one.to_line() + "\n" for one in street.record()))
    done = CliRunner().invoke(app, ["leak", str(street.folder), "--json"])
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["singles"], told["verdict"], told["ok"]) == ([f"{VICTIMS} slot 0"], "leak", False)
    assert f"{SIZE} commitments" in CliRunner().invoke(app, ["leak", str(street.folder)]).stdout


def test_an_opening_that_gives_the_blinding_is_found(street: Street) -> None:
    street.opened[VICTIM, 0] = replace(street.opened[VICTIM, 0], words=tuple(street.blindings[VICTIM, 0]))
    assert street.judged().singles == [(VICTIMS, "", 0)]


def test_a_blinding_under_a_self_mask_alone_is_found(street: Street) -> None:
    """The opening takes the self-mask off; pads would still be there."""
    opened = street.opened[VICTIM, 0].words
    masked = tuple((a + b) % ORDER for a, b in zip(street.blindings[VICTIM, 0], opened, strict=True))
    street.said[VICTIM, 0] = replace(street.said[VICTIM, 0], masked=masked)
    assert street.judged().singles == [(VICTIMS, "", 0)]
    assert street.judged(corrupt=[VICTIMS]).singles == []  # a corrupt member's is no secret


def test_blindings_opened_under_a_second_manifest_give_the_difference(street: Street) -> None:
    second = street.manifest_without(VICTIM)
    lines = [Seen("emp", "members", "manifest", second.to_bytes())]
    name = document_hash(second)
    for (index, _), one in street.opened.items():
        if index != VICTIM:
            lines.append(Seen(f"gw-0-{index}", "emp", "openv", _sealed(replace(one, manifest_hash=name))))
    assert street.judged(*lines).singles == [(VICTIMS, "", 0)]
    assert street.judged(*lines[:1]).verdict is Verdict.NOTHING


def test_a_seed_that_is_known_takes_the_mask_off_the_blinding_too(street: Street) -> None:
    """The shares of a lost member, whose neighbours all help: what it committed to is open."""
    others = [str(index) for index in range(1, SIZE + 1) if index != VICTIM]
    kinds = {"submit", "open", "openv"}
    without = [one for one in street.record() if not (one.sender == VICTIMS and one.kind in kinds)]
    threshold = next(PublicNet.from_bytes(one.data).threshold for one in without if one.kind == "net")
    shares = []
    for index in map(int, others[:threshold]):
        said = street.opened[index, 0]
        share = ((VICTIM, bytes(16)),)
        place = FrameType.SHARE, 0, said.net, index, said.version, 0, said.manifest_hash
        data = Frame(*place, shares=share).to_bytes() + bytes(MAC_BYTES)
        shares.append(Seen(f"gw-0-{index}", "emp", "share", data))
    assert 2 <= threshold == len(shares)
    assert known([*without, *shares[1:]], others).singles == []
    assert known([*without, *shares], others).singles == [(VICTIMS, "", 0)]
    assert known([*without, *shares], others[1:]).singles == []


def test_a_blinding_that_serves_twice_shows_a_difference(tmp_path: Path) -> None:
    street = Street(tmp_path / "r", slots=2)
    assert street.judged().verdict is Verdict.NOTHING
    again = range_proof.commit(400, street.blindings[VICTIM, 0][0])
    later = street.said[VICTIM, 1]
    street.said[VICTIM, 1] = replace(later, points=(again, later.points[1]))
    assert {(VICTIMS, "", 0), (VICTIMS, "", 1)} in street.judged().too_small
    other_lane = range_proof.commit(400, street.blindings[VICTIM, 1][1])
    street.said[VICTIM, 1] = replace(later, points=(other_lane, later.points[1]))
    assert street.judged().singles == [(VICTIMS, "", 1)]


def test_equal_commitments_are_equal_readings(street: Street) -> None:
    mine, others = street.said[VICTIM, 0], street.said[2, 0]
    street.said[VICTIM, 0] = replace(mine, points=(others.points[0], mine.points[1]))
    assert street.judged().too_small == [{("gw-0-2", "", 0), (VICTIMS, "", 0)}]
    assert street.judged(corrupt=["2"]).singles == [(VICTIMS, "", 0)]


def test_a_nonce_that_serves_in_two_proofs_counts_as_both_readings_known(street: Street) -> None:
    def proof(first: int) -> bytes:
        points = [edwards.times_base(first), *(edwards.times_base(street.scalar()) for _ in range(3))]
        return RangeProof(*points, *(street.scalar() for _ in range(3)), (), 1, 1).to_bytes()

    street.said = {place: replace(one, proof=proof(street.scalar())) for place, one in street.said.items()}
    assert street.judged().verdict is Verdict.NOTHING
    for index in (2, VICTIM):
        street.said[index, 0] = replace(street.said[index, 0], proof=proof(7))
    assert set(street.judged().singles) == {("gw-0-2", "", 0), (VICTIMS, "", 0)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: replace(one, points=(bytes(32), one.points[1])), "not a point of prime order"),
        (lambda one: replace(one, proof=bytes(31)), "range proof of 31 bytes"),
        (lambda one: replace(one, points=one.points[:1], masked=one.masked[:1]), "another number of lanes"),
        (lambda one: replace(one, reference=b"?" * 32), "behind a manifest that is not in the record"),
        (lambda one: replace(one, net=b"?" * 8), "key graph is not in the record"),
    ],
)
def test_what_cannot_be_accounted_for_is_refused_by_name(
    street: Street, change: Change, message: str
) -> None:
    street.said[VICTIM, 0] = change(street.said[VICTIM, 0])
    with pytest.raises(BadRecord, match=message):
        street.judged()


def test_an_opening_of_blindings_under_an_unknown_manifest_is_refused(street: Street) -> None:
    street.opened[VICTIM, 0] = replace(street.opened[VICTIM, 0], manifest_hash=b"?" * 32)
    with pytest.raises(BadRecord, match="an opening under a manifest"):
        street.judged()


def test_without_libsodium_commitments_are_refused_and_not_passed_over(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, edwards.__name__)
    monkeypatch.delattr(primitives, "edwards")
    monkeypatch.setitem(sys.modules, "nacl", None)
    with pytest.raises(BadRecord, match="PyNaCl"):
        street.judged()


def test_small_multiples_are_found_at_every_end() -> None:
    points = [edwards.times_base(number) for number in (0, 1, 99, 100, ORDER - 1, 5000)]
    assert small_multiples(points, 100) == {0, 1, 2}
    assert small_multiples(points, 101) == {0, 1, 2, 3}
    assert small_multiples([], 100) == frozenset()


def test_a_district_s_record_holds_them_taken_or_turned_away(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From what a supplier noted: an order once, each member's messages, also one it answered badly."""
    monkeypatch.setattr(district, "content", lambda signed: signed.removeprefix(b"signed "))
    said, opened = street.said[VICTIM, 0], street.opened[VICTIM, 0]
    order = CommitOrder(said.net, said.version, 0, 2, Reason.DEMAND).to_bytes()
    base = f"/dcnet/v1/{said.net.hex()}"

    def flow(method: str, path: str, body: bytes = b"", answer: bytes = b"", status: int = 200) -> Any:
        about = {"t_utc": "2026-03-01T12:00:00Z", "from": VICTIMS, "to": "altstrom", "status": status}
        return about | {"method": method, "path": base + path, "hex": body.hex(), "answer": answer.hex()}

    flows = [
        flow("GET", "/orderv/0", answer=b"signed " + order),
        flow("GET", "/orderv/1", answer=b"signed " + order),
        flow("GET", "/orderv/2"),
        flow("PUT", f"/commitv/0/{VICTIM}", b"signed " + said.to_bytes(), status=404),
        flow("PUT", f"/commitv/0/{VICTIM}", b"signed " + said.to_bytes()),
        flow("PUT", f"/openv/0/{VICTIM}", _sealed(opened), status=201),
    ]
    written = district.record(cast("Any", None), flows, (), {})
    assert [(one.kind, one.data) for one in written] == [
        ("orderv", order),
        ("commitv", said.to_bytes()),
        ("openv", _sealed(opened)),
    ]
    assert written[1:] == [replace(one, sender=VICTIMS, to="altstrom") for one in written[1:]]


# -- searches ---------------------------------------------------------------------------------------------


def test_a_search_without_an_end_is_a_result_of_its_own(tmp_path: Path) -> None:
    """Everybody's bill over more slots than the net's ties all sums together: too many sets to look at."""
    folder = tmp_path / "r"
    recorded(folder, nets=1, gateways=8, dropout=0.0, slots=3)
    bills = [Seen(f"gw-0-{index}", "emp", "plain", plain(0, 19)).to_line() for index in range(1, 9)]
    (folder / "plain.jsonl").write_text("\n".join(bills))
    done = CliRunner().invoke(app, ["leak", str(folder), "--json"])
    assert done.exit_code == 3
    told = json.loads(done.stdout)
    assert (told["verdict"], told["complete"], told["ok"], told["too_small"]) == (
        "incomplete",
        False,
        False,
        [],
    )
    done = CliRunner().invoke(app, ["leak", str(folder)])
    assert done.exit_code == 3
    assert "not searched to the end" in done.stdout
    assert "nothing outside" not in done.stdout
    assert "3: nothing was found" in CliRunner().invoke(app, ["leak", "--help"]).stdout
    bills.append(Seen("gw-0-1", "emp", "plain", plain(0, 0)).to_line())
    (folder / "plain.jsonl").write_text("\n".join(bills))
    done = CliRunner().invoke(app, ["leak", str(folder)])
    assert done.exit_code == 1  # what was found is a leak, whatever else there is
    assert "other sums that are too small may be there" in done.stdout


READINGS = [f"x{i}" for i in range(6)]


@settings(max_examples=150)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(READINGS), st.sampled_from([1, -1, 2]), min_size=2, max_size=5),
        min_size=1,
        max_size=4,
    ),
    st.dictionaries(st.sampled_from(READINGS), st.sampled_from([2, 3, 5])),
)
def test_a_search_finds_a_set_below_its_floor_whenever_there_is_one(
    seen: list[dict[str, int]], floors: dict[str, int]
) -> None:
    """Also where a smaller set beside it has enough readings for the net it is in."""

    def floor(some: Iterable[object]) -> int:
        return min((floors[str(one)] for one in some if one in floors), default=0)

    basis = oracle.determined(seen, READINGS)
    if not basis:
        return
    found = oracle.search(basis, floor)
    assert found.complete
    assert all(len(one) < floor(one) for one in found.below)
    expected = [
        frozenset(some)
        for size in range(1, len(READINGS) + 1)
        for some in itertools.combinations(READINGS, size)
        if size < floor(some) and _holds(basis, frozenset(some))
    ]
    assert bool(found.below) == bool(expected)
    assert all(any(mine <= one for mine in found.below) for one in expected)


def _holds(basis: list[oracle.Row], some: frozenset[str]) -> bool:
    """Whether a combination is determined with exactly these readings."""
    inside = other._eliminate(basis, set(READINGS) - some)
    return {symbol for row in inside for symbol in row} == some
