"""From the stick to the store, with bad input in between: named, logged, nothing lost, and it goes on."""

from __future__ import annotations

from firmware.log.entry import Event
from lmn.model import MeterId
from tests.support.whole_gateway import Site
from tools.counterparts.meter_wmbus import ElectricityMeter


async def test_garbage_and_cut_off_bytes_from_the_stick(site: Site) -> None:
    async with site.running() as life:
        await site.send()
        await life.accepted(1)
        await site.stick.write(bytes(range(1, 160)) * 3)
        await site.stick.write(b"\xa5\xf2\x03\x30\x44")  # the beginning of a message that never ends
        await site.send()  # may be swallowed by it on a line that has no pauses
        await site.send()
        await site.send()
        entry = await life.entry(Event.METER_COMMUNICATION_FAULT, "line")
        await life.accepted(3)
    assert "no whole message" in entry.text
    assert life.gateway.telegrams.rejected_total == 0


async def test_a_wrong_mac(site: Site) -> None:
    async with site.running() as life:
        good = site.next_telegram()
        await site.send(good[:-1] + bytes([good[-1] ^ 1]))
        await life.rejected("mac")
        entry = await life.entry(Event.TELEGRAM_REFUSED, "mac")
        await site.send(good)  # the forged one has not used up its counter
        await life.accepted(1)
    assert entry.subject == str(site.meter.meter)


async def test_an_old_counter(site: Site) -> None:
    old = site.next_telegram()
    async with site.running() as life:
        await site.send()
        await life.accepted(1)
        await site.send(old)
        await life.rejected("counter")
        assert (await life.entry(Event.TELEGRAM_REFUSED, "counter")).subject == str(site.meter.meter)
        await site.send()
        await life.accepted(2)


async def test_a_repeaters_copy_and_a_replay_after_a_restart(site: Site) -> None:
    async with site.running() as life:
        telegram = await site.send()
        await life.accepted(1)
        await site.send(telegram)
        await life.copied(1)
        assert life.gateway.telegrams.rejected_total == 0
    site.stick.vanish()
    site.stick.plug()
    async with site.running() as life:
        await site.send(telegram)
        await life.rejected("counter")
        await life.entry(Event.TELEGRAM_REFUSED, "counter")
        await site.send()
        await life.accepted(1)


async def test_an_unknown_meter_is_counted_and_not_decoded(site: Site) -> None:
    stranger = ElectricityMeter(MeterId("SMG", "99999999", 0x01, 0x02), bytes(16))
    async with site.running() as life:
        await site.send(stranger.telegram())
        await life.rejected("unknown-meter")
        await site.send()
        await life.accepted(1)
        assert len(await life._parts.stores.consumer.records("reading")) == 2  # both registers of our meter
        assert "99999999" not in str(await life.system.entries())  # every neighbour's meter is heard


async def test_the_stick_unplugged_and_plugged_again(site: Site) -> None:
    async with site.running() as life:
        await site.send()
        await life.accepted(1)
        site.stick.vanish()
        entry = await life.entry(Event.METER_COMMUNICATION_FAULT, "port")
        site.stick.plug()
        await site.send()
        await life.accepted(2)
    assert entry.subject.startswith("lmn.wmbus")
