"""Invariants that need a particular net, over running members and a running supplier in virtual time.

Which test stands for which of I1 to I20 is in test_invariant_table.py.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.errors import MembershipRefused
from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation
from firmware.enforcement.dcnet.machines import MemberState, SlotState
from firmware.enforcement.dcnet.messages.documents import to_bitmap
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame
from firmware.enforcement.dcnet.messages.manifest import ManifestReply
from firmware.enforcement.dcnet.primitives import arithmetic, graph
from firmware.enforcement.dcnet.primitives.arithmetic import Purpose
from hsm.api import KeySlot
from tests.support.instant_loop import run
from tests.support.soft_module import public_of
from tests.unit.dcnet.hostile_net import Gateway, WholeNet
from tests.unit.dcnet.invariants import all_hold, durable
from tests.unit.dcnet.named_parties import signed_by
from tests.unit.dcnet.test_invariants import CHI_SQUARE_255, chi_square
from tools.counterparts.net_request import answer
from tools.counterparts.net_slots import NetSlots

seeds = st.integers(0, (1 << 32) - 1)
"""Each is another net: its keys, and whatever else is random in it."""


async def lived(net: WholeNet, slots: int) -> WholeNet:
    await net.run(slots)
    return net


def lanes(body: bytes) -> arithmetic.Lanes:
    return Frame.from_bytes(body[:-MAC_BYTES]).lanes


@settings(max_examples=2)
@given(st.integers(0, 20_000), st.integers(0, 20_000), seeds)
@example(0, 0, 1)
@example(20_000, 20_000, 1)
def test_i2_what_leaves_a_gateway_is_uniform_whatever_it_measured(
    energy: int, export: int, seed: int
) -> None:
    net = run(lived(WholeNet(12, seed=seed, reading=lambda _slot, _index: (energy, export)), 20))
    for what in ("submit", "open"):
        octets = b"".join(arithmetic.from_lanes(lanes(body)) for _, _, body in net.frames(what))
        assert len(octets) > 5_000
        assert chi_square(octets) < CHI_SQUARE_255


def test_i7_i19_both_ends_have_one_pad_in_every_epoch_and_old_keys_are_gone() -> None:
    async def days() -> None:
        net, epochs = WholeNet(4), 0
        left_behind: dict[str, set[bytes]] = {}
        async with net:
            for day in range(1, 6):
                await net.until(4 * day)
                views = []
                for gateway in net.gateways:
                    membership = gateway.member.membership
                    assert membership is not None
                    epoch = net.rules.epoch_of(4 * day)
                    views.append(membership.view(epoch))
                    with pytest.raises(MembershipRefused, match="erased"):
                        membership.ring.move(net.rules.net, epoch - 1)
                    kept = b"".join(gateway.data.values())
                    chains = {edge.chain for edge in membership.ring._edges.values()}
                    assert all(chain in kept for chain in chains)  # the sealed store goes along
                    assert not any(chain in kept for chain in left_behind.get(gateway.name, ()))
                    left_behind[gateway.name] = left_behind.get(gateway.name, set()) | chains
                for own in views:
                    for peer, edge in own.edges.items():
                        other = views[peer - 1].edges[own.index]
                        mine, theirs = (e.output(bytes(32), 7, Purpose.PAD, 24) for e in (edge, other))
                        assert mine == theirs
                epochs += 1
        assert epochs == 5
        assert [one["verdict"] for one in net.totals.values()] == ["totalled"] * 20  # so the signs are right

    run(days())


# -- a supplier that tells two stories -------------------------------------------------------------


class TwoStories(NetSlots):
    """From slot 2 on shows `fooled` another manifest than the rest; to who asks again, a third one."""

    fooled: frozenset[int] = frozenset()
    again = False

    async def _get_manifest(self, request: web.Request) -> web.Response:
        slot, index = int(request.match_info["slot"]), int(request.match_info["index"])
        reply = await super()._get_manifest(request)
        if slot != 2 or index not in self.fooled:
            return reply
        tally, _, _ = self.manifests[slot]
        honest = tally.manifest
        assert honest is not None
        hello = to_bitmap([index] if self.again else [], tally.terms.size)
        other = replace(honest, hello=hello, result=None)  # another hash, the same sums
        body = ManifestReply(signed_by("emp", other.to_bytes()), tally.siblings(index)).to_bytes()
        return answer(body)


@settings(max_examples=10)
@given(st.frozensets(st.integers(1, 5), min_size=1, max_size=4))
def test_i8_two_stories_destroy_the_next_total(fooled: frozenset[int]) -> None:
    liar = type("Liar", (TwoStories,), {"fooled": fooled})
    net = run(lived(WholeNet(5, slots=liar), 4))
    assert net.totals[1]["verdict"] == "totalled"
    third: dict[int, arithmetic.Lanes] = {
        g.index: lanes(b) for g, slot, b in net.frames("submit") if slot == 3
    }
    references = {
        Frame.from_bytes(b[:-MAC_BYTES]).reference for _, slot, b in net.frames("submit") if slot == 3
    }
    assert len(references) == 2
    masks = [
        seed for g in net.gateways for e in g.entries_written if e.slot == 3 for seed in {e.seed} if seed
    ]
    opened = [arithmetic.self_mask(seed, 3, 3) for seed in set(masks)]
    assert len(opened) == len(third) == 5  # even with everybody's mask, there is no sum to be had
    assert arithmetic.total(third.values(), opened, 3)[2] != 5
    told = net.totals.get(3)
    assert told is None or told["verdict"] != "totalled" or told["lanes"] == net.true_sum(3, told["members"])


def test_i3_i4_a_second_manifest_after_a_restart_is_not_opened() -> None:
    """The first was opened; killed, and the supplier shows others to whoever asks again."""

    async def killed_after_opening(point: int) -> WholeNet:
        liar = type("Liar", (TwoStories,), {"fooled": frozenset({1})})
        net = WholeNet(4, slots=liar)
        async with net:
            await net.until(1)
            gateway = net.gateways[0]
            before = gateway.points
            while gateway.points < before + point:  # noqa: ASYNC110 - a number of points is no event
                await asyncio.sleep(1)
            gateway.kill(30)
            liar.again = True  # type: ignore[attr-defined]
            await net.until(5)
        return net

    for point in range(1, 30, 4):
        net = run(killed_after_opening(point))
        opens = {body for gateway, slot, body in net.frames("open") if (gateway.index, slot) == (1, 2)}
        submits = {body for gateway, slot, body in net.frames("submit") if (gateway.index, slot) == (1, 2)}
        assert len(opens) <= 1, point
        assert len(submits) <= 1, point


def test_i4_a_signed_fork_of_the_chain_ends_in_quarantine() -> None:
    class Fork(NetSlots):
        async def _get_manifest(self, request: web.Request) -> web.Response:
            slot, index = int(request.match_info["slot"]), int(request.match_info["index"])
            reply = await super()._get_manifest(request)
            if slot < 3 or index != 1:
                return reply
            tally, _, _ = self.manifests[slot]
            assert tally.manifest is not None
            other = replace(tally.manifest, previous=bytes(32))
            return answer(ManifestReply(signed_by("emp", other.to_bytes()), ()).to_bytes())

    net = run(lived(WholeNet(4, slots=Fork), 7))
    gateway = net.gateways[0]
    assert gateway.member.state is MemberState.QUARANTINE
    assert [event.kind for event in gateway.events].count(NetEventKind.QUARANTINE) == 1
    assert max(slot for one, slot, _ in net.frames("submit") if one is gateway) == 3
    assert net.totals[7]["members"] == ["gw2", "gw3", "gw4"]


# -- graphs, floors, several nets ------------------------------------------------------------------


@settings(max_examples=2)
@given(st.integers(65, 75), seeds)
def test_i14_every_member_of_a_large_net_has_the_degree_the_rules_ask_for(size: int, seed: int) -> None:
    """More members than have a complete graph; joining and leaving is in test_invariants.py (core)."""
    net = run(lived(WholeNet(size, seed=seed, reading=lambda _, i: (i, 0), n_min=16, d_min=6, delta=0.05), 2))
    adjacent = net.gateways[0].member.membership.adjacent  # type: ignore[union-attr]
    assert all(gateway.member.membership.adjacent == adjacent for gateway in net.gateways)  # type: ignore[union-attr]
    assert min(len(peers) for peers in adjacent.values()) >= 8
    assert max(len(peers) for peers in adjacent.values()) <= 16
    assert graph.component(1, adjacent, adjacent.keys()) == set(range(1, size + 1))
    assert net.totals[2]["lanes"] == net.true_sum(2, net.totals[2]["members"])
    assert len(net.totals[2]["members"]) == size


def test_i15_what_leaks_from_one_suppliers_net_into_another_changes_no_sum() -> None:
    """The same four gateways in two nets, the same module and keys; every frame goes to both suppliers."""

    class Both(WholeNet):
        other: WholeNet

        async def serve(self, gateway: str, method: str, resource: str, body: bytes) -> Any:
            if body and ("/submit/" in resource or "/open/" in resource):
                there = resource.replace(self.rules.net.hex(), self.other.rules.net.hex())
                await WholeNet.serve(self.other, gateway, method, there, body)
            return await super().serve(gateway, method, resource, body)

    async def two() -> tuple[Both, Both]:
        here, there = Both(4, seed=1), Both(4, seed=1, net_id="6e65742d30303032")
        here.other, there.other = there, here
        async with here, there:
            await asyncio.gather(here.until(6), there.until(6))
        return here, there

    here, there = run(two())
    keys = [g.module.keys for g in (here.gateways[0], there.gateways[0])]
    assert {key.private_numbers() for key in keys[0].values()} == {
        key.private_numbers() for key in keys[1].values()
    }
    for net, other in ((here, there), (there, here)):
        assert [one["verdict"] for one in net.totals.values()] == ["totalled"] * 6
        run(all_hold(net))
        ours, theirs = ({(g.index, s): lanes(b) for g, s, b in one.frames("submit")} for one in (net, other))
        mixed = arithmetic.total(
            [ours[1, 2], ours[2, 2], theirs[3, 2], theirs[4, 2]],
            [lanes(b) for g, s, b in net.frames("open") if s == 2],
            3,
        )
        assert mixed[2] != 4
        refused = [one for one in net.emitted if one["event"] == "refused" and one["what"] == "submit"]
        assert len(refused) >= 20  # every foreign frame was noticed


def bridged(name: str, given: PeerAuthorisation) -> PeerAuthorisation:
    """Two halves of four that only members 4 and 5 join."""
    own = {"a": (1, 2, 3, 4), "b": (5, 6, 7, 8)}[name]
    bridge = {"a": 5, "b": 4}[name]
    return replace(given, peers=tuple(one for one in given.peers if one[0] in {*own, bridge}))


@settings(max_examples=6)
@given(st.sampled_from([4, 5]), st.integers(5, 7), seeds)
def test_i16_when_the_net_falls_apart_below_n_min_every_member_refuses(
    broken: int, n_min: int, seed: int
) -> None:
    halves = (("a", 4), ("b", 4))
    net = WholeNet(8, seed=seed, administrators=halves, n_min=n_min, d_min=1, delta=0.4)
    net.authorise = bridged

    async def bridge_breaks() -> None:
        async with net:
            await net.until(2)
            net.gateways[broken - 1].cut = True
            await net.until(3)

    run(bridge_breaks())
    assert net.totals[2]["verdict"] == "totalled"
    assert net.totals[3]["verdict"] == "aborted"
    assert len(net.totals[3]["members"]) == 7  # delta alone would have allowed it
    assert not [slot for _, slot, _ in net.frames("open") if slot == 3]
    for gateway in net.gateways:
        entries, _ = run(durable(gateway))
        assert entries[3].state is SlotState.OWED
        assert gateway.index == broken or "component" in entries[3].reason


@settings(max_examples=8)
@given(st.integers(0, 4), st.integers(0, 4))
def test_i17_the_canary_counts_exactly_if_all_pads_cancel(wrong: int, towards: int) -> None:
    """A gateway whose key of one edge is spoilt after both ends have confirmed it."""

    async def with_a_spoilt_key() -> WholeNet:
        net = WholeNet(5)
        async with net:
            await net.gateways[wrong].clock.sleep_until(net.rules.slot_end(0) - timedelta(minutes=5))
            membership = net.gateways[wrong].member.membership
            assert membership is not None
            if wrong != towards:
                membership.ring._edges[towards + 1].chain = bytes(16)
            await net.until(4)
        return net

    net = run(with_a_spoilt_key())
    pair = {net.gateways[wrong].name, net.gateways[towards].name}
    assert set(net.totals) == {1, 2, 3, 4}
    for one in net.totals.values():
        spoilt = len(pair) == 2 and pair <= set(one["members"])
        assert one["verdict"] == ("aborted" if spoilt else "totalled")
    assert len(net.totals[1]["members"]) == 5
    named = [one["edges"] for one in net.emitted if one["event"] == "audit"]
    assert named == ([] if wrong == towards else [[sorted((wrong + 1, towards + 1))]])
    run(all_hold(net))


@settings(max_examples=6)
@given(st.integers(0, 4), st.integers(0, 4))
def test_a_module_that_agrees_on_another_secret_is_found_before_anything_is_sent(
    wrong: int, towards: int
) -> None:
    """A module that agrees on another secret with one peer than that peer does: both ends dispute."""

    async def with_a_wrong_module() -> WholeNet:
        net = WholeNet(5, patience_s=86400.0)
        async with net:
            while not (point := _point_of(net.gateways[towards])):  # noqa: ASYNC110 - a key is no event
                await asyncio.sleep(1)
            net.gateways[wrong].module.wrong_towards = point
            await net.until(8)
        return net

    net = run(with_a_wrong_module())
    pair = {net.gateways[wrong].name, net.gateways[towards].name} if wrong != towards else set()
    for gateway in net.gateways:
        disputed = NetEventKind.DISPUTED in [event.kind for event in gateway.events]
        assert disputed is (gateway.name in pair)
    assert {one["verdict"] for one in net.totals.values()} == {"totalled"}
    assert {name for one in net.totals.values() for name in one["left_out"]} == pair
    run(all_hold(net))


def _point_of(gateway: Gateway) -> bytes:
    key = gateway.module.keys.get(KeySlot.DCNET_1)
    return b"" if key is None else public_of(key).point
