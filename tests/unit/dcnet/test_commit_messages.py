"""What V-mode adds to a slot beside its proofs: masked blindings, messages, one opening, what it loads."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.errors import MalformedObject, NetRefused, OpeningRefused, UnexpectedStep
from firmware.enforcement.dcnet.messages.commit import CommitOrder, CommitV, OpenV, Reason
from firmware.enforcement.dcnet.primitives import edwards, scalars
from firmware.enforcement.dcnet.primitives.arithmetic import Prf, Purpose
from firmware.enforcement.dcnet.primitives.range_proof import commit
from firmware.enforcement.dcnet.primitives.scalars import ORDER
from firmware.enforcement.dcnet.service import committing
from tests.unit.dcnet.support import rules
from tests.unit.dcnet.test_round import Net
from tools.counterparts.net_commitments import Commitments

MASKED = (11 << 100, 12 << 200)
SHOWN = ((edwards.times_base(2), edwards.times_base(3)), bytes(736))


# -- masked blindings -------------------------------------------------------------------------------------


def edge_keys(members: int) -> dict[tuple[int, int], Prf]:
    pairs = [(a, b) for a in range(1, members + 1) for b in range(a + 1, members + 1)]
    return {pair: Prf(hashlib.sha256(bytes(pair)).digest()[:16]) for pair in pairs}


def of(index: int, edges: dict[tuple[int, int], Prf]) -> dict[int, Prf]:
    return {a if b == index else b: prf for (a, b), prf in edges.items() if index in (a, b)}


@given(st.lists(st.integers(0, ORDER - 1), min_size=4, max_size=4), st.sets(st.integers(1, 4), max_size=2))
@settings(max_examples=25, deadline=None)
def test_masks_cancel_modulo_the_order_over_whoever_is_left(blindings: list[int], absent: set[int]) -> None:
    edges, previous, slot = edge_keys(4), b"p" * 32, 9
    everybody, accepted = set(range(1, 5)), sorted(set(range(1, 5)) - absent)
    masked, opened = [], []
    for index in accepted:
        own, seed = of(index, edges), bytes([index]) * 16
        mask = scalars.self_mask(seed, slot, 1)
        towards = scalars.pads(index, own, everybody, previous, slot, 1)
        masked.append(scalars.add((blindings[index - 1],), mask, towards))
        opened.append(scalars.add(mask, scalars.pads(index, own, absent, previous, slot, 1)))
    expected = sum(blindings[index - 1] for index in accepted) % ORDER
    assert scalars.total(masked, opened, 1) == (expected,)


def test_a_mask_of_64_bits_would_leave_a_reading_bare_and_ours_leaves_nothing() -> None:
    """Why blindings are masked modulo the group's order: of 2^64 masks most of a blinding is seen."""
    blinding, edges = scalars.wide(b"b" * 64), of(1, edge_keys(3))
    seeds = [number.to_bytes(16, "big") for number in range(200)]
    pads = scalars.pads(1, edges, {2, 3}, b"p" * 32, 1, 1)
    ours = [scalars.add((blinding,), scalars.self_mask(seed, 1, 1), pads)[0] for seed in seeds]
    weak = [blinding + int.from_bytes(hashlib.sha256(seed).digest()[:8], "big") for seed in seeds]
    top = 1 << 200
    assert len({word // top for word in weak}) == 1  # 52 of its 252 bits are the blinding's own
    assert len({word // top for word in ours}) > 190
    ups = sum(word > ORDER // 2 for word in ours)
    assert 60 < ups < 140
    # What little then is unknown is searched; here of 8 bits, to be quick: the value falls out of C alone.
    value, known = 77, blinding & ~0xFF
    point = commit(value, blinding)
    found = [
        (guess, low) for guess in (76, 77, 78) for low in range(256) if commit(guess, known + low) == point
    ]
    assert found == [(value, blinding & 0xFF)]


def test_blindings_use_a_purpose_of_their_own() -> None:
    prf = Prf(b"k" * 16)
    words = {purpose: prf.output(b"c" * 32, 5, purpose, 64) for purpose in range(5)}
    assert len(set(words.values())) == 5
    assert Purpose.BLINDING == 4
    assert scalars.pads(1, {2: prf}, {2}, b"c" * 32, 5, 1) == (scalars.wide(words[4]),)
    assert scalars.pads(2, {1: prf}, {1}, b"c" * 32, 5, 1) == (-scalars.wide(words[4]) % ORDER,)


# -- what a gateway without V-mode pays -------------------------------------------------------------------


def test_a_gateway_without_v_mode_does_not_load_libsodium() -> None:
    said = "import sys; import firmware.__main__, firmware.boot; "
    said += "import firmware.enforcement.dcnet.service.driver; print('nacl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_one_module_alone_loads_libsodium() -> None:
    root = Path(edwards.__file__).parents[4]
    users = [
        path.relative_to(root).as_posix()
        for top in ("firmware", "hsm", "lmn", "han", "wan", "tools")
        for path in (root / top).rglob("*.py")
        if re.search(r"^\s*(from|import) nacl\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert users == ["firmware/enforcement/dcnet/primitives/edwards.py"]


def test_a_policy_with_v_slots_needs_libsodium(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "find_spec", lambda _name: None)
    nothing: Any = None
    names = ("client", "ledger", "signatures", "module", "clock", "apart", "tell", "log")
    with pytest.raises(NetRefused, match="PyNaCl"):
        committing.Committing(rules(v_slots=1), **dict.fromkeys(names, nothing))
    committing.Committing(rules(v_slots=0), **dict.fromkeys(names, nothing))


# -- messages ---------------------------------------------------------------------------------------------


def messages() -> list[Any]:
    points, proof = SHOWN
    head = (b"net-0001", 1, 20_000, 7, 3, b"m" * 32, b"d" * 32)
    return [
        CommitOrder(b"net-0001", 1, 7, 96, Reason.RANGE),
        CommitV(*head, points, MASKED, proof),
        OpenV(b"net-0001", 1, 7, 3, b"h" * 32, MASKED),
    ]


@pytest.mark.parametrize("one", messages(), ids=lambda one: type(one).__name__)
def test_messages_have_one_encoding(one: Any) -> None:
    data = one.to_bytes()
    assert type(one).from_bytes(data) == one
    assert data[1] == 0x18  # the kind, above 23, in two bytes
    assert data[2] == type(one).KIND
    for wrong in (data[:-1], data + b"\x00", data[:2] + b"\x07" + data[3:], b""):
        with pytest.raises(MalformedObject):
            type(one).from_bytes(wrong)


def test_messages_hold_numbers_below_the_order_and_as_many_lanes_as_there_can_be() -> None:
    order, said, opened = messages()
    over = opened.to_bytes().replace(scalars.to_bytes(MASKED[0]), ORDER.to_bytes(32, "little"))
    with pytest.raises(MalformedObject):
        OpenV.from_bytes(over)
    for lanes in ((), (1,) * 9):
        with pytest.raises(MalformedObject):
            OpenV.from_bytes(replace(opened, words=lanes).to_bytes())
    with pytest.raises(MalformedObject):
        CommitV.from_bytes(replace(said, proof=bytes(2049)).to_bytes())
    with pytest.raises(MalformedObject):
        CommitV.from_bytes(replace(said, points=(bytes(31), bytes(32))).to_bytes())
    with pytest.raises(MalformedObject):
        CommitOrder.from_bytes(order.to_bytes()[:-1] + b"\x09")
    assert (len(order.to_bytes()), len(said.to_bytes()), len(opened.to_bytes())) == (17, 964, 118)


def test_a_round_opens_its_blindings_between_acceptance_and_opening_only() -> None:
    net, accepted = Net(), {1, 2, 4, 5}
    for index in accepted:
        current = net.rounds[index]
        with pytest.raises(UnexpectedStep):
            current.blindings(2)
        current.consider(net.manifest(accepted), net.path(index, accepted))
        words = current.blindings(2)
        assert words == current.blindings(2)
        current.open()
        with pytest.raises(UnexpectedStep):
            current.blindings(2)


def test_a_refused_round_opens_no_blinding() -> None:
    net = Net()
    with pytest.raises(OpeningRefused):
        net.rounds[1].consider(net.manifest(previous=bytes(32)), net.path(1))
    with pytest.raises(UnexpectedStep):
        net.rounds[1].blindings(2)


async def test_under_another_roster_the_rest_of_an_order_is_signed_anew() -> None:
    """A member takes no order of another roster; so a change of rosters in the middle does not end V-mode."""
    said: list[Any] = []

    class Keys:
        async def sign(self, content: bytes) -> bytes:
            return content

    keys: Any = Keys()
    supplier = Commitments(rules(v_slots=4), keys, said.append, lambda _index: None)
    supplier.demand(7)

    async def ordered(slot: int, version: int) -> CommitOrder | None:
        roster = SimpleNamespace(version=version, to_bytes=lambda: bytes(version))
        now: Any = SimpleNamespace(roster=roster, founding=SimpleNamespace(certificates={}))
        tally: Any = SimpleNamespace(slot=slot)
        await supplier.begin(now, tally)
        assert supplier.active(slot) == (supplier._signed is not None)
        return None if supplier._signed is None else supplier._signed[0]

    net = rules().net
    assert await ordered(6, 1) is None
    assert await ordered(7, 1) == CommitOrder(net, 1, 7, 4, Reason.DEMAND)
    assert await ordered(8, 1) == CommitOrder(net, 1, 7, 4, Reason.DEMAND)
    assert await ordered(9, 2) == CommitOrder(net, 2, 9, 2, Reason.DEMAND)
    assert await ordered(10, 2) == CommitOrder(net, 2, 9, 2, Reason.DEMAND)
    assert await ordered(11, 2) is None
    with pytest.raises(ValueError):
        supplier.demand(12, slots=5)
    assert [(one["slot"], one["last_slot"]) for one in said] == [(7, 10)]
