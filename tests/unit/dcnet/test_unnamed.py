"""Why a broken equation of V-mode names nobody: everything that was seen fits every member's guilt alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from firmware.enforcement.dcnet.messages.commit import CommitV, OpenV
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame
from firmware.enforcement.dcnet.primitives import range_proof, verifiable
from firmware.enforcement.dcnet.primitives.scalars import ORDER
from firmware.enforcement.dcnet.slot.commitment import Work
from tests.support.instant_loop import run
from tests.unit.dcnet.committing_net import LIAR, SIZE, shrunk, slot_of
from tests.unit.dcnet.running_net import Home, RunningNet

RING = 1 << 64


@pytest.fixture(autouse=True)
def unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commitments and sums are real, the proofs are left out; what each member knows is noted."""

    def shown(_binding: Any, values: Any, blindings: Any, _masked: Any, _secret: bytes) -> Any:
        points = tuple(
            range_proof.commit(value, blinding) for value, blinding in zip(values, blindings, strict=True)
        )
        OPENINGS[points[0]] = (values[0], blindings[0])
        return points, b""

    monkeypatch.setattr(verifiable, "shown", shown)
    monkeypatch.setattr(verifiable, "check", lambda *_: None)


OPENINGS: dict[bytes, tuple[int, int]] = {}
"""Commitment -> (value, blinding): what nobody is ever told."""


def explained(sent: list[int], meant: list[int], ring: int, guilty: int) -> tuple[dict[int, int], int]:
    """Return pads between `guilty` and each other one with which all others have sent what they meant.

    Args:
        sent: of each member what is left of its words once its opening is taken off: meaning and pads.
        meant: of each what it has committed to.
        ring: of the words.
        guilty: a member.

    Returns:
        The pads, and by how much the guilty one is then off.
    """
    pads = {one: (sent[one] - meant[one]) % ring for one in range(len(sent)) if one != guilty}
    off = sent[guilty] - meant[guilty] + sum(pads.values())  # the other end takes each pad off
    return pads, off % ring


@pytest.mark.parametrize("what", ["value", "blinding", "opening of the blinding"])
def test_whoever_lied_every_member_explains_what_was_seen_as_well_as_the_liar(what: str) -> None:
    """Even to who is shown all readings and blindings: only pads would tell, and they show a reading."""

    async def main() -> None:
        async with shrunk() as net:
            slot, liar = net.first, net.homes[LIAR - 1]
            net.coordinator.slots.commitments.demand(slot, slots=1)
            lie(net, liar, what)
            await slot_of(net, slot)
            (check,) = net.of("v-check")
            assert (check["fits"], check["lanes"]) == (False, [0])
            assert not net.of("v-named")
            words, blindings, values, rhos = list[int](), list[int](), list[int](), list[int]()
            tally = net.coordinator.slots.manifests[slot][0]
            assert len(tally.accepted) == SIZE
            for home in net.homes:
                y, r = (
                    Frame.from_bytes(home.bodies(f"/{one}/{slot}/")[0][:-MAC_BYTES])
                    for one in ("submit", "open")
                )
                said = CommitV.from_bytes(home.bodies(f"/commitv/{slot}/")[0].partition(b"|")[2])
                opened = OpenV.from_bytes(home.bodies(f"/openv/{slot}/")[0][:-MAC_BYTES])
                words.append((y.lanes[0] - r.lanes[0]) % RING)
                blindings.append((said.masked[0] - opened.words[0]) % ORDER)
                value, rho = OPENINGS[said.points[0]]
                values.append(value)
                rhos.append(rho)
            off = set()
            for guilty in range(SIZE):
                for sent, meant, ring in ((words, values, RING), (blindings, rhos, ORDER)):
                    pads, by = explained(sent, meant, ring, guilty)
                    # Any pads are as likely as any others to who has no key of theirs; with these everybody
                    # else is honest, and the guilty one is off by the same.
                    assert all((meant[one] + pad) % ring == sent[one] for one, pad in pads.items())
                    off.add((ring, by))
            lanes, masks = (next(by for of, by in off if of == ring) for ring in (RING, ORDER))
            assert len(off) == 2  # whoever is taken for the liar
            assert bool(lanes) == (what == "value")
            assert bool(masks) == (what != "value")

    run(main())


def lie(net: RunningNet, home: Home, what: str) -> None:
    """This home's commitments fit nothing that it sends: in its value, its blinding, or what opens it."""
    assert home.member is not None
    committing = home.member._serving.committing

    async def apart(work: Callable[[], CommitV]) -> CommitV:
        true: Work = work.__self__  # type: ignore[attr-defined]
        if what == "value":
            true = replace(true, reading=(true.reading[0] + 1, *true.reading[1:]))
        said = true.commit()
        if what == "blinding":
            return replace(said, masked=((said.masked[0] + 1) % ORDER, *said.masked[1:]))
        return said

    def forge(resource: str, body: bytes) -> bytes:
        if "/openv/" not in resource:
            return body
        said, now = OpenV.from_bytes(body[:-MAC_BYTES]), net.coordinator.slots.now
        assert now is not None
        wrong = replace(said, words=((said.words[0] + 1) % ORDER, *said.words[1:])).to_bytes()
        mac = CMAC(AES(now.terms.mac_keys[LIAR]))
        mac.update(wrong)
        return wrong + mac.finalize()

    committing._apart = apart
    if what == "opening of the blinding":
        home.forge = forge
