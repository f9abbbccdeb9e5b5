"""Recovery under witnesses in running members, supplier and administrators."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.machines import MemberState, SlotState
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.faults import RecoveryOrder
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame, seal
from firmware.enforcement.dcnet.messages.manifest import Manifest, ManifestReply
from firmware.enforcement.dcnet.messages.witnessed import LostMember, OrderReply, Witnessed
from tests.support.instant_loop import run
from tests.unit.dcnet.running_net import Home, RunningNet, energies, energy_of
from tests.unit.dcnet.support import attested_by, signed_by

SIZE = 8
three = st.permutations(range(1, SIZE + 1)).map(lambda order: (order[0], order[1], order[2]))
"""Different members."""


def witnessed(**changes: object) -> RunningNet:
    return RunningNet(SIZE, recovery="witness", **changes)


def silent_at(what: str, *homes: Home) -> None:
    for home in homes:
        home.cut = lambda resource: f"/{what}/" in resource


def content(envelope: bytes) -> bytes:
    """What an order's or a manifest's envelope holds."""
    return Witnessed.from_bytes(envelope).signed.partition(b"|")[2]


def test_a_member_lost_after_the_manifest_is_recovered_and_the_total_is_right() -> None:
    async def main() -> None:
        async with witnessed() as net:
            slot, lost = net.first, net.homes[2]
            silent_at("open", lost)
            await net.contribute(slot)
            await net.until(slot, 59)
            total = net.totals()[slot]
            assert total["verdict"] == "totalled", net.events
            assert total["lanes"] == [energies(net, slot) * 10, 0, SIZE]
            assert [event["lost"] for event in net.of("recovery ordered")] == [[3]]
            for home in net.homes:
                assert (await home.states())[slot] is SlotState.TOTALLED
            assert sum(NetEventKind.RECOVERED in home.kinds() for home in net.homes) == SIZE - 1
            assert net.homes[0].member is not None
            shown = await net.homes[0].member.faults()
            assert shown["recovered"] == [{"slot": slot, "shares": 1}]
            silent_at("nothing", lost)
            await net.contribute(slot + 1)
            await net.until(slot + 1, 59)
            assert net.totals()[slot + 1]["lanes"] == [energies(net, slot + 1) * 10, 0, SIZE]

    run(main())


def test_without_recovery_nothing_of_it_leaves_and_the_slot_is_owed() -> None:
    async def main() -> None:
        async with RunningNet(SIZE) as net:
            slot = net.first
            silent_at("open", net.homes[2])
            await net.contribute(slot)
            await net.until(slot, 59)
            assert net.totals()[slot]["verdict"] == "aborted"
            for home in net.homes:
                assert await home.owed() == {slot: energy_of(home, slot)}
                assert not [
                    request for request, _ in home.sent if "/order/" in request or "/share/" in request
                ]
                (submitted,) = home.bodies("/submit/")
                assert not Frame.from_bytes(submitted[:-MAC_BYTES]).shares

    run(main())


@pytest.mark.parametrize(("f_max", "verdict"), [(2, "aborted"), (3, "totalled")])
def test_how_many_may_be_lost_is_the_policys_word(f_max: int, verdict: str) -> None:
    """And so are the number of shares that are dealt and how many give a seed."""

    async def main() -> None:
        async with witnessed(m=6, t=4, f_max=f_max, insecure_small_nets=True) as net:
            silent_at("open", *net.homes[:3])
            await net.contribute(net.first)
            await net.until(net.first, 59)
            assert net.totals()[net.first]["verdict"] == verdict
            (submitted,) = net.homes[7].bodies("/submit/")
            assert [holder for holder, _ in Frame.from_bytes(submitted[:-MAC_BYTES]).shares] == [*range(1, 7)]

    run(main())


def test_two_lost_members_are_recovered_and_three_are_not() -> None:
    async def main() -> None:
        async with witnessed() as net:
            slot = net.first
            silent_at("open", *net.homes[:2])
            await net.contribute(slot)
            await net.until(slot, 59)
            assert net.totals()[slot]["lanes"] == [energies(net, slot) * 10, 0, SIZE]
            silent_at("open", *net.homes[:3])  # more than f_max neighbours of everybody else
            await net.contribute(slot + 1)
            await net.until(slot + 1, 59)
            assert net.totals()[slot + 1]["verdict"] == "aborted"
            assert len(net.of("recovery ordered")) == 1
            for home in net.homes:
                assert await home.owed() == {slot + 1: energy_of(home, slot + 1)}

    run(main())


def test_one_wrong_share_is_outvoted_and_named_and_shares_are_not_taken_twice() -> None:
    async def main() -> None:
        async with witnessed() as net:
            slot, liar = net.first, net.homes[5]

            def wrong(resource: str, body: bytes) -> bytes:
                if "/share/" not in resource:
                    return body
                assert liar.member is not None
                assert liar.member.membership is not None
                frame = Frame.from_bytes(body[:-MAC_BYTES])
                forged = replace(frame, shares=((frame.shares[0][0], bytes(16)),))
                return seal(forged.to_bytes(), liar.member.membership.mac_key)

            liar.forge = wrong
            silent_at("open", net.homes[2])
            await net.contribute(slot)
            base = f"/dcnet/v1/{net.rules.net.hex()}/share"
            await net.until(slot, 59)
            assert net.totals()[slot]["lanes"] == [energies(net, slot) * 10, 0, SIZE]
            (recovered,) = net.of("recovered")
            assert (recovered["member"], recovered["shares"], recovered["wrong"]) == (3, SIZE - 1, [6])
            # Replayed: to the same slot, to the next one, as another holder's.
            share, *_ = net.homes[0].bodies("/share/")
            silent_at("open", net.homes[3])
            silent_at("share", net.homes[6])  # so that the supplier waits
            liar.forge = lambda _resource, body: body
            await net.contribute(slot + 1)
            assert (await net.ask("gw1", "PUT", f"{base}/{slot}/1/3", share)).status == 410
            await net.until(slot + 1, 35)
            assert (await net.ask("gw1", "PUT", f"{base}/{slot + 1}/1/3", share)).status == 400
            assert (await net.ask("gw1", "PUT", f"{base}/{slot + 1}/1/4", share)).status == 400
            assert (await net.ask("gw1", "PUT", f"{base}/{slot + 1}/2/4", share)).status == 403
            await net.until(slot + 1, 59)
            assert net.totals()[slot + 1]["lanes"] == [energies(net, slot + 1) * 10, 0, SIZE]

    run(main())


def test_a_holder_killed_between_order_and_share_gives_it_after_its_restart() -> None:
    async def main() -> None:
        async with witnessed() as net:
            slot, holders = net.first, [home for home in net.homes if home is not net.homes[2]]
            silent_at("open", net.homes[2])
            silent_at("share", *holders)
            await net.contribute(slot)
            await net.until(slot, 35)
            for home in holders:
                assert [key for _, key in home.store.data if key.endswith("/order")]
                await net.kill(home)
            await net.until(slot, 36)
            for home in holders:
                silent_at("nothing", home)
                net.start(home)
            await net.until(slot, 59)
            assert net.totals()[slot]["lanes"] == [energies(net, slot) * 10, 0, SIZE]
            for home in net.homes:
                assert (await home.states())[slot] is SlotState.TOTALLED
                assert len(set(home.bodies("/share/"))) <= 1

    run(main())


def another_order(net: RunningNet, reply: bytes, lost: set[int]) -> bytes:
    """The same reply under another order that all have signed."""
    given = OrderReply.from_bytes(reply)
    order = replace(RecoveryOrder.from_bytes(content(given.order)), lost=to_bitmap(lost, SIZE))
    return OrderReply(net.cosigned(order), given.lost).to_bytes()


@settings(max_examples=6)
@given(three, st.booleans())
def test_a_second_order_is_proof_of_a_lie_also_after_a_restart(
    drawn: tuple[int, int, int], restart: bool
) -> None:
    asked, lost, more = drawn

    async def main() -> None:
        async with witnessed() as net:
            slot, victim = net.first, net.homes[asked - 1]
            silent_at("open", net.homes[lost - 1])
            for number, home in enumerate(net.homes, 1):
                if number not in (asked, lost):
                    silent_at("share", home)  # so that the supplier goes on asking
            await net.contribute(slot)
            await net.until(slot, 35)
            assert len(victim.bodies("/share/")) == 1
            if restart:
                await net.restart(victim)
            victim.alter = lambda resource, body: (
                another_order(net, body, {lost, more}) if "/order/" in resource and body else body
            )
            await net.until(slot, 44)
            assert victim.member is not None
            assert victim.member.state is MemberState.QUARANTINE
            assert NetEventKind.QUARANTINE in victim.kinds()
            assert len(victim.bodies("/share/")) == 1
            first, second = victim.member.chain.proof or (b"", b"")
            orders = [RecoveryOrder.from_bytes(content(one)) for one in (first, second)]
            assert [one.lost for one in orders] == [
                to_bitmap({lost}, SIZE),
                to_bitmap({lost, more}, SIZE),
            ]
            await net.restart(victim)
            await net.until(slot, 50)
            assert victim.member.state is MemberState.QUARANTINE

    run(main())


@settings(max_examples=6)
@given(three)
def test_an_order_for_a_member_whose_neighbour_was_left_out_is_refused_by_all(
    drawn: tuple[int, int, int],
) -> None:
    absent, lost, _ = drawn

    async def main() -> None:
        async with witnessed() as net:
            slot = net.first
            silent_at("submit", net.homes[absent - 1])
            silent_at("open", net.homes[lost - 1])

            def ordered(resource: str, body: bytes) -> bytes:
                if "/order/" not in resource or not orders:
                    return body
                frame = net.homes[lost - 1].bodies("/submit/")[-1][:-MAC_BYTES]
                return OrderReply(orders[0], (LostMember(lost, frame, ()),)).to_bytes()

            orders: list[bytes] = []
            for home in net.homes:
                home.alter = ordered
            await net.contribute(slot)
            await net.until(slot, 29)
            net.coordinator.slots.recovering.reply = lambda _slot, _index: b"x"  # type: ignore[method-assign]
            (_, envelope, _) = net.coordinator.slots.manifests[slot]
            manifest = Manifest.from_bytes(content(envelope))
            named = RecoveryOrder(net.rules.net, 1, slot, document_hash(manifest), to_bitmap({lost}, SIZE))
            orders.append(net.cosigned(named))
            await net.until(slot, 59)
            assert not net.of("recovery ordered")  # the honest supplier would not have tried
            assert net.totals()[slot]["verdict"] == "aborted"
            for home in (net.homes[number - 1] for number in {*range(1, SIZE + 1)} - {absent, lost}):
                assert [e.reason for e in home.events if "absent-neighbour" in e.reason], home.events
                assert not home.bodies("/share/")

    run(main())


def test_an_order_that_comes_after_d4_gets_no_share() -> None:
    async def main() -> None:
        async with witnessed() as net:
            slot = net.first
            silent_at("open", net.homes[2])
            for home in net.homes:
                home.delay_s = lambda resource: 14.0 if "/order/" in resource else 0.01
            await net.contribute(slot)
            await net.until(slot + 1, 5)
            assert net.totals()[slot]["verdict"] == "aborted"
            for home in net.homes:
                assert not home.bodies("/share/")
                assert slot in await home.owed()

    run(main())


def cosignature_missing(reply: ManifestReply) -> ManifestReply:
    whole = Witnessed.from_bytes(reply.signed)
    return replace(reply, signed=replace(whole, cosigned=whole.cosigned[:1]).to_bytes())


def cosigned_by_a_stranger(reply: ManifestReply) -> ManifestReply:
    whole = Witnessed.from_bytes(reply.signed)
    stranger = attested_by("gwa9", content(reply.signed))
    return replace(reply, signed=replace(whole, cosigned=(whole.cosigned[0], stranger)).to_bytes())


def another_was_cosigned(reply: ManifestReply) -> ManifestReply:
    """What a supplier has that shows each administrator another manifest."""
    whole, manifest = Witnessed.from_bytes(reply.signed), Manifest.from_bytes(content(reply.signed))
    other = replace(manifest, hello=b"\x01").to_bytes()
    first = attested_by("gwa1", other)
    return replace(reply, signed=Witnessed(signed_by("emp", other), (first, whole.cosigned[1])).to_bytes())


def not_witnessed(reply: ManifestReply) -> ManifestReply:
    return replace(reply, signed=Witnessed.from_bytes(reply.signed).signed)


@pytest.mark.parametrize(
    "how", [cosignature_missing, cosigned_by_a_stranger, another_was_cosigned, not_witnessed]
)
def test_a_manifest_is_considered_only_with_every_administrators_cosignature(how) -> None:  # type: ignore[no-untyped-def]
    async def main() -> None:
        async with witnessed() as net:
            slot, victim = net.first, net.homes[0]

            def shown(resource: str, body: bytes) -> bytes:
                if f"/manifest/{slot}/" not in resource or not body:
                    return body
                return bytes(how(ManifestReply.from_bytes(body)).to_bytes())

            victim.alter = shown
            await net.contribute(slot)
            await net.until(slot, 59)
            assert not victim.bodies("/open/")
            assert (await victim.states())[slot] is SlotState.REFUSED  # owed, or in the total?
            assert net.totals()[slot]["lanes"] == [energies(net, slot) * 10, 0, SIZE]  # recovered as b
            victim.alter = lambda _resource, body: body
            await net.contribute(slot + 1)
            await net.until(slot + 1, 59)
            assert (await victim.states())[slot] is SlotState.TOTALLED
            assert await victim.owed() == {}

    run(main())


def test_no_administrator_signs_two_manifests_and_without_them_the_slot_is_owed() -> None:
    async def main() -> None:
        async with witnessed() as net:
            slot, away = net.first + 1, net.administrators["gwa2"]
            await net.contribute(net.first)  # the epoch has begun
            await net.until(net.first, 59)
            away.away = True
            await net.contribute(slot)
            await net.until(slot, 59)
            assert list(net.totals()) == [net.first]
            for home in net.homes:
                assert (await home.states())[slot] is SlotState.REFUSED
                assert len(home.bodies("/open/")) == 1  # of the slot before
            await net.contribute(slot + 1)
            await net.until(slot + 1, 2)
            away.away = False
            await net.until(slot + 1, 59)
            assert net.totals()[slot]["verdict"] == "aborted"
            for later in range(slot + 2, slot + 6):
                await net.contribute(later)
            await net.until(slot + 5, 59)
            verdicts = {number: total["verdict"] for number, total in net.totals().items()}
            assert verdicts[slot + 5] == "totalled", verdicts
            for home in net.homes:
                assert (await home.owed())[slot] == energy_of(home, slot)
            signed = net.keys.sign(
                Manifest(net.rules.net, 1, slot, bytes(32), b"\x01", b"\x00", bytes(32)).to_bytes()
            )
            with pytest.raises(Exception, match="second"):
                await away.cosign(await signed)

    run(main())
