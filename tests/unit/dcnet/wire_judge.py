"""What must hold after a run over a hostile wire, looked up in what the supplier received.

Frames are read by their layout in docs/dcnet.md and recomputed by the second model (`wire.Wire`), not by the
product's round.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from hashlib import sha256

from cryptography.x509 import load_pem_x509_certificate

from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.messages.documents import from_bitmap
from firmware.enforcement.dcnet.messages.manifest import Manifest, ManifestReply
from tests.unit.dcnet.wire import Wire, content
from tests.unit.dcnet.wire_net import WireNet

_TYPE, _INDEX, _CONTEXT = slice(1, 2), slice(16, 20), slice(32, 64)
_SUBMIT, _OPEN = b"\x01", b"\x02"
SCALE = 10
"""Tenths of Wh in a lane."""


def judge(net: WireNet, slots: range) -> Counter[str]:
    """Check everything, and count what was there to be checked."""
    assert not net.unexpected, net.unexpected
    assert all(one.status < 500 for one in net.exchanges), [one for one in net.exchanges if one.status >= 500]
    seen = Counter({"totals": 0})
    seen.update(one["verdict"] for one in net.totals.values())
    seen["left out"] = sum(bool(one["left_out"]) for one in net.totals.values())
    seen["repeated"] = _frames_are_sent_once_or_again_as_they_were(net)
    _who_is_left_out_stays_closed(net)
    _totals_are_plain_sums(net)
    _nothing_is_lost_or_counted_twice(net, slots)
    seen["opened"] = _every_frame_is_what_the_second_model_says(net)
    return seen


def _frames(net: WireNet, what: str, type_: bytes) -> list[tuple[str, int, bytes]]:
    return [
        (one.gateway, int(one.request.split("/")[-2]), one.body)
        for one in net.exchanges
        if f"/{what}/" in one.request and one.body[_TYPE] == type_
    ]


def _frames_are_sent_once_or_again_as_they_were(net: WireNet) -> int:
    """I3, I4, I6; returns how many were sent again."""
    again = 0
    for what, type_ in (("submit", _SUBMIT), ("open", _OPEN)):
        bodies = defaultdict(list)
        for gateway, slot, body in _frames(net, what, type_):
            bodies[gateway, slot].append(body)
        for who, found in bodies.items():
            assert len(set(found)) == 1, (what, who)
            again += len(found) - 1
    return again


def _who_is_left_out_stays_closed(net: WireNet) -> None:
    """I5: whoever opens is named by the manifest it opens under."""
    accepted = {}
    for one in net.exchanges:
        if "/manifest/" in one.request and "/epoch/" not in one.request and one.status == 200:
            text = content(ManifestReply.from_bytes(one.answer).signed)
            accepted[sha256(text).digest()] = from_bitmap(Manifest.from_bytes(text).accepted, len(net.houses))
    for gateway, slot, body in _frames(net, "open", _OPEN):
        index = int.from_bytes(body[_INDEX], "little")
        assert net.houses[index - 1].name == gateway
        assert index in accepted[body[_CONTEXT]], (gateway, slot)


def _totals_are_plain_sums(net: WireNet) -> None:
    """I1, I17, I18."""
    numbers = {house.name: house.number for house in net.houses}
    for slot, told in net.totals.items():
        if told["verdict"] == "totalled":
            energy = sum(net.reading(slot, numbers[name]) for name in told["members"])
            assert told["lanes"] == [SCALE * energy, 0, len(told["members"])], slot


def _nothing_is_lost_or_counted_twice(net: WireNet, slots: range) -> None:
    """I12, each gateway by itself: its part in the totals and what it owes are what it measured."""
    for house in net.houses:
        assert sorted(house.measured) == list(slots)
        counted = {
            slot
            for slot, told in net.totals.items()
            if told["verdict"] == "totalled" and house.name in told["members"]
        }
        summed = sum(house.measured[slot] for slot in counted)
        owed = sum(one.import_wh for one in house.owed)
        assert summed + owed == sum(house.measured.values()), house.name
        states = {one.slot: one.state for one in house.entries}
        for slot, state in states.items():
            if slot != slots[-1]:
                assert state is (SlotState.TOTALLED if slot in counted else SlotState.OWED), (
                    house.name,
                    slot,
                )
        assert counted <= states.keys()


def _every_frame_is_what_the_second_model_says(net: WireNet) -> int:
    """I1, I6, I17 once more, bit by bit, and that nothing plain left; returns how many openings."""
    totalled = [slot for slot, told in net.totals.items() if told["verdict"] == "totalled"]
    readings = {
        slot: {house.number: (SCALE * net.reading(slot, house.number), 0, 1) for house in net.houses}
        for slot in totalled
    }
    sent = [
        [(one.request, one.body) for one in net.exchanges if one.gateway == house.name and one.body]
        for house in net.houses
    ]
    answers = [(one.request, one.answer) for one in net.exchanges if one.status == 200]
    enc = load_pem_x509_certificate((net.enrolled.folder / "emp/enc.pem").read_bytes()).public_key()
    modules = [house.module for house in net.houses]
    wire = Wire(modules, enc, sent, [answers for _ in net.houses], readings)  # type: ignore[arg-type]  # an EC key
    return wire.judge()
