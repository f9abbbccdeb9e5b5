"""Edge confirmation: known answers with a second computation, and everything a wrong tag can do."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from firmware.enforcement.dcnet.errors import MalformedObject, MembershipRefused
from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.founding.confirmation import (
    Confirmations,
    EdgeConfirm,
    EdgeDispute,
    confirm_for,
    tag_for,
)
from firmware.enforcement.dcnet.founding.keyring import KeyRing
from firmware.enforcement.dcnet.founding.succession import Leave, PeerWithdrawal, VersionNotice
from firmware.enforcement.dcnet.machines import MemberState, SlotState
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.primitives import kdf
from firmware.enforcement.dcnet.service.confirming import check_usable
from firmware.errors import StoreCorrupt
from hsm.api import KeySlot
from tests.unit.dcnet.fake_emp import World
from tests.unit.dcnet.support import NET
from tests.unit.dcnet.test_membership import Net as PaperNet

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "dcnet" / "confirm.json"


def second_tag(root: bytes, roster_hash: bytes, direction: int) -> bytes:
    """HKDF-Expand by hand: one block of HMAC-SHA-256 over the length-prefixed parts and the counter 1."""
    parts = (b"smgw-dc/1", b"confirm", roster_hash, bytes([direction]))
    info = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    return hmac.new(root, info + b"\1", hashlib.sha256).digest()[:8]


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["cases"])
def test_known_answers_and_a_second_computation(case: dict[str, str]) -> None:
    root, roster_hash = bytes.fromhex(case["root"]), bytes.fromhex(case["roster_hash"])
    for direction, name in ((0, "upward"), (1, "downward")):
        tag = kdf.confirm_tag(root, roster_hash, upward=direction == 0)
        assert tag.hex() == case[name]
        assert tag == second_tag(root, roster_hash, direction)


async def test_both_ends_confirm_each_other_and_nobody_else() -> None:
    net = await PaperNet.make(5)
    members = [await net.join(index) for index in range(1, 6)]
    said = {one.index: confirm_for(one.roster, one.index, one.ring.tags()) for one in members}
    for one in members:
        assert one.ring.unconfirmed == set(range(1, 6)) - {one.index}
        for peer in one.ring.peers:
            certificate = f"certificate of gw{peer}".encode()
            right = tag_for(one.roster, one.index, certificate, said[peer])
            assert not one.ring.confirm(peer, bytes(8))
            own = dict(one.ring.tags())[peer]
            assert not one.ring.confirm(peer, own)  # reflected: the direction is in the tag
            assert one.ring.confirm(peer, right)
        assert not one.ring.unconfirmed


@pytest.mark.parametrize(
    ("change", "certificate", "detail"),
    [
        (lambda s: replace(s, version=2), b"certificate of gw2", "another roster"),
        (lambda s: replace(s, net=bytes(8)), b"certificate of gw2", "another roster"),
        (lambda s: replace(s, roster_hash=bytes(32)), b"certificate of gw2", "another roster"),
        (lambda s: replace(s, index=9), b"certificate of gw2", "no such member"),
        (lambda s: replace(s, index=0), b"certificate of gw2", "no such member"),
        (lambda s: s, b"certificate of gw3", "another certificate"),
        (lambda s: replace(s, tags=s.tags[1:]), b"certificate of gw2", "no tag for us"),
    ],
)
async def test_a_confirmation_that_is_not_ours_is_refused(
    change: Callable[[EdgeConfirm], EdgeConfirm], certificate: bytes, detail: str
) -> None:
    net = await PaperNet.make(4)
    mine, other = await net.join(1), await net.join(2)
    said = confirm_for(other.roster, 2, other.ring.tags())
    with pytest.raises(MembershipRefused, match=detail) as caught:
        tag_for(mine.roster, 1, certificate, change(said))
    assert caught.value.code == "confirmation"


async def test_edges_that_may_not_be_used() -> None:
    net = await PaperNet.make(4)
    mine = await net.join(1)
    hashes = [entry.certificate_hash for entry in mine.roster.entries]
    check_usable(mine, frozenset({1}), frozenset())
    for expected, withdrawn, code in (
        ({1, 2}, set(), "confirmation"),
        ({1, 3}, {hashes[2]}, "revoked"),
        ({1}, {hashes[0]}, "revoked"),
    ):
        with pytest.raises(MembershipRefused) as caught:
            check_usable(mine, frozenset(expected), frozenset(withdrawn))
        assert caught.value.code == code
    check_usable(mine, frozenset({1}), frozenset({hashes[2]}))  # withdrawn, but not expected


def test_documents_have_one_form() -> None:
    confirm = EdgeConfirm(NET, 1, bytes(32), 1, ((2, bytes(8)), (3, b"\1" * 8)))
    dispute = EdgeDispute(NET, 1, bytes(32), 1, 2, b"\7" * 32)
    notice = VersionNotice(NET, 1, 2, 20_000, wanted=True)
    leave = Leave(NET, 1, 2, 20_001)
    withdrawal = PeerWithdrawal(NET, 3, (bytes(32), b"\1" * 32))
    for one in (confirm, dispute, notice, leave, withdrawal):
        assert type(one).from_bytes(one.to_bytes()) == one
        with pytest.raises(MalformedObject):
            type(one).from_bytes(one.to_bytes() + b"\0")
    for wrong in (
        replace(confirm, tags=confirm.tags[::-1]),
        replace(confirm, tags=(confirm.tags[0],) * 2),
        replace(withdrawal, certificates=withdrawal.certificates[::-1]),
    ):
        with pytest.raises(MalformedObject):
            type(wrong).from_bytes(wrong.to_bytes())
    with pytest.raises(MalformedObject):
        Confirmations.from_bytes(b"\0")


def test_a_damaged_ring_is_named() -> None:
    with pytest.raises(StoreCorrupt):
        KeyRing.from_bytes(b"\x80")


# -- a member and its supplier ---------------------------------------------------------------------------


async def test_the_key_goes_once_the_edges_are_confirmed_and_a_restart_needs_it_no_more() -> None:
    world = World()
    await world.run(await world.member(), 0)
    assert KeySlot.DCNET_1 not in world.module.keys
    agreed = world.module.counts["agree"]
    member = await world.member()
    await member.contribute(1, 77)
    await world.run(member, 2)
    assert [entry.state for entry in await member.slots()] == [SlotState.TOTALLED]
    assert world.module.counts["agree"] == agreed
    assert world.module.counts["generate_key_pair"] == 1


async def test_a_power_cut_before_the_confirmation_repeats_the_agreement() -> None:
    world = World()
    world.emp.silent = frozenset({2, 3, 4, 5})
    world.emp.lost = lambda resource: "/manifest/" in resource
    member = await world.member()
    await world.run(member, 0)
    assert member.state is MemberState.ROSTERED
    assert KeySlot.DCNET_1 in world.module.keys
    world.emp.silent, world.emp.lost = frozenset(), lambda _resource: False
    again = await world.member()
    await again.contribute(1, 77)
    await world.run(again, 2)
    assert [entry.state for entry in await again.slots()] == [SlotState.TOTALLED]
    assert world.module.counts["generate_key_pair"] == 1
    assert KeySlot.DCNET_1 not in world.module.keys


async def test_who_is_not_expected_need_not_confirm_and_may_do_so_later() -> None:
    world = World()
    world.emp.silent = frozenset({5})  # the epoch manifest leaves 5 out
    member = await world.member()
    await member.contribute(1, 10)
    await world.run(member, 2)
    assert member.membership is not None
    assert member.membership.ring.unconfirmed == {5}
    assert (await member.slots())[0].state is not SlotState.MEASURED
    ring = await world.store.get("dcnet-state", f"{NET.hex()}/keys-1")
    assert ring is not None
    assert KeyRing.from_bytes(ring).unconfirmed == {5}
    world.emp.silent = frozenset()
    await member._versions.admit(member.membership, frozenset({1, 5}))
    kept = await world.store.get("dcnet-state", f"{NET.hex()}/keys-1")
    assert kept is not None
    assert not KeyRing.from_bytes(kept).unconfirmed


async def test_a_wrong_tag_is_disputed_and_keeps_the_member_out() -> None:
    world = World()

    def lie(said: EdgeConfirm) -> EdgeConfirm:
        return replace(said, tags=((1, bytes(8)),)) if said.index == 3 else said

    world.emp.tell = lie
    member = await world.member()
    await member.contribute(1, 10)
    await world.run(member, 3)
    assert member.state is MemberState.ROSTERED
    assert not world.emp.submitted
    assert [o.import_wh for o in await member.owed()] == [10]
    assert [e.kind for e in world.events].count(NetEventKind.DISPUTED) == 1
    said = EdgeDispute.from_bytes(world.emp.disputes[0].partition(b"|")[2])
    assert (said.index, said.peer) == (1, 3)
    assert said.roster_hash == document_hash(world.emp.roster)
    assert KeySlot.DCNET_1 in world.module.keys


async def test_a_replayed_confirmation_of_another_roster_is_as_good_as_none() -> None:
    world = World()
    world.emp.tell = lambda said: replace(said, roster_hash=bytes(32)) if said.index == 2 else said
    member = await world.member()
    await world.run(member, 2)
    assert member.state is MemberState.ROSTERED
    assert not world.emp.disputes


async def test_a_confirmed_ring_of_another_graph_is_refused() -> None:
    net = await PaperNet.make(4)
    mine = await net.join(1)
    ring = KeyRing(mine.ring.epoch, mine.ring.mac_key, {})
    with pytest.raises(MembershipRefused, match="another graph"):
        await net.join(1, ring=ring)
