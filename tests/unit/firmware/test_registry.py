"""Orders to active profiles: once, rising versions, durable in one step (FMT_SMF.1, FPT_RPL.1)."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec.structs import replace

from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.profile import codec
from firmware.profile.model import ProfileSet
from firmware.profile.registry import Registry, SealedProfiles
from firmware.store.partition import Partition
from lmn.model import MeterId
from lmn.ports import ReceptionMode
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.profile_set import (
    METER,
    at,
    bill,
    billing,
    group_total,
    household,
    meter_profile,
    net,
    peer,
    plain_series,
    series,
)
from wan.ports import Order, Receipt

ID = MeterId.from_text(METER)


class MemoryProfiles:
    def __init__(self):
        self.record, self.receipts, self.fail = None, {}, False
        self.news = []

    async def active(self):
        return self.record

    async def receipt(self, message_id):
        return self.receipts.get(message_id)

    async def keep(self, record, receipt, news=()):
        await asyncio.sleep(0)
        if self.fail:
            raise StoreUnavailable("full")
        self.record = record if record is not None else self.record
        self.receipts[receipt.message_id] = receipt
        self.news += news


class World:
    def __init__(self, store=None, **options):
        self.now, self.reports = at(0), []
        self.store = store or MemoryProfiles()
        options = {"small_nets_allowed": False, **options}
        self.registry = Registry(self.store, lambda: self.now, report=self._note, **options)

    async def _note(self, receipt):
        self.reports.append(receipt)


def order(profiles: ProfileSet | bytes, version=1, identity=None, kind="profiles") -> Order:
    body = profiles if isinstance(profiles, bytes) else codec.to_json(profiles)
    return Order(identity or f"order-{version}", kind, at(0), version, body)


async def test_an_order_becomes_active():
    world = World()
    receipt = await world.registry.apply(order(household()))
    changes = "+meters/meter +processing/bill +processing/series +communication/billing +communication/total"
    assert receipt == Receipt("order-1", accepted=True, code="ok", reason=f"version 1 is active: {changes}")
    assert (world.registry.active, world.registry.version) == (household(), 1)
    assert world.reports == [receipt]


async def test_meters_and_peers_follow():
    world = World()
    assert world.registry.access(ID) is None
    assert world.registry.peers() == {}
    await world.registry.apply(order(household(meters=(meter_profile(key_hex="ab" * 16),))))
    access = world.registry.access(ID)
    assert (access.meter, access.key, access.mode) == (ID, b"\xab" * 16, ReceptionMode.OPEN)
    found = world.registry.peers()["emp"]
    assert (found.host, found.port, found.tls_certificate[:1], found.sig_certificate[:1]) == (
        "emp.example",
        443,
        b"\x30",
        b"\x30",
    )
    await world.registry.apply(order(ProfileSet(), version=2))
    assert world.registry.access(ID) is None
    assert world.registry.peers() == {}


async def test_local_meters_are_received_unless_an_order_names_them():
    world = World(local_meters=(meter_profile(key_hex="01" * 16),))
    assert world.registry.access(ID).key == b"\x01" * 16
    await world.registry.apply(order(household(meters=(meter_profile(key_hex="02" * 16),))))
    assert world.registry.access(ID).key == b"\x02" * 16
    await world.registry.apply(order(ProfileSet(), version=2))
    assert world.registry.access(ID).key == b"\x01" * 16


async def test_the_same_order_again_gives_the_first_receipt():
    world = World()
    first = await world.registry.apply(order(household()))
    assert await world.registry.apply(order(ProfileSet(), version=7, identity="order-1")) == first
    assert world.registry.active == household()
    assert len(world.reports) == 1


@pytest.mark.parametrize("version", [0, -1, 3, 2])
async def test_a_version_must_rise(version):
    world = World()
    await world.registry.apply(order(household(), version=3))
    receipt = await world.registry.apply(order(ProfileSet(), version=version, identity="later"))
    assert (receipt.accepted, receipt.code) == (False, "version")
    assert world.registry.active == household()


async def test_another_kind_of_order_is_refused():
    receipt = await World().registry.apply(order(household(), kind="firmware"))
    assert (receipt.accepted, receipt.code) == (False, "kind")


async def test_a_broken_set_is_refused_with_every_fault():
    world = World()
    broken = household(processing=(bill(consumer="x"), series(meter="ABC-00000000-01-02")))
    receipt = await world.registry.apply(order(broken))
    assert (receipt.accepted, receipt.code) == (False, "invalid")
    assert "processing[0].consumer" in receipt.reason
    assert "processing[1].meter" in receipt.reason
    assert world.registry.version == 0
    receipt = await world.registry.apply(order(b"no json", identity="two"))
    assert receipt.code == "invalid"


async def test_a_small_net_needs_the_gateway_s_own_flag():
    small = household(communication=(group_total(net=net(n_min=3, d_min=2, insecure_small_nets=True)),))
    assert (await World().registry.apply(order(small))).code == "invalid"
    assert (await World(small_nets_allowed=True).registry.apply(order(small))).accepted


async def test_a_set_that_undoes_concealment_is_refused():
    world = World()
    undoing = household(communication=(billing(processing="series"), group_total()))
    receipt = await world.registry.apply(order(undoing))
    assert (receipt.accepted, receipt.code) == (False, "undoes-concealment")
    assert "billing" in receipt.reason
    assert world.registry.active == ProfileSet()


async def test_small_steps_do_not_undo_it_either():
    world = World()
    short = household(processing=(bill(billing_period_s=7200), series()))
    shifted = household(processing=(bill(billing_period_s=7200, valid_from=at(900)), series()))
    assert (await world.registry.apply(order(short))).accepted
    world.now = at(7260)
    assert (await world.registry.apply(order(shifted, version=2))).code == "undoes-concealment"
    assert (await world.registry.apply(order(ProfileSet(), version=3))).accepted
    world.now = at(7290)
    assert (await world.registry.apply(order(shifted, version=4))).code == "undoes-concealment"
    world.now = at(7200 + 3600)
    assert (await world.registry.apply(order(shifted, version=5))).accepted


async def test_the_memory_of_earlier_sets_survives_a_restart():
    world = World()
    short = household(processing=(bill(billing_period_s=7200), series()))
    await world.registry.apply(order(short))
    world.now = at(7260)
    await world.registry.apply(order(ProfileSet(), version=2))
    again = World(world.store)
    again.now = at(7290)
    await again.registry.load()
    shifted = household(processing=(bill(billing_period_s=7200, valid_from=at(900)), series()))
    assert (await again.registry.apply(order(shifted, version=3))).code == "undoes-concealment"


async def test_what_cannot_be_kept_does_not_become_active():
    world = World()
    world.store.fail = True
    with pytest.raises(StoreUnavailable):
        await world.registry.apply(order(household()))
    assert (world.registry.active, world.reports) == (ProfileSet(), [])
    world.store.fail = False
    assert (await world.registry.apply(order(household()))).accepted


async def test_since_when_a_profile_is_as_it_is():
    world = World()
    await world.registry.apply(order(household()))
    world.now = at(1000)
    changed = household(processing=(bill(billing_period_s=31 * 86400), series()))
    await world.registry.apply(order(changed, version=2))
    assert world.registry.communication_since("billing") == at(1000)
    assert world.registry.processing_since("bill") == at(1000)
    assert world.registry.communication_since("total") == at(0)
    assert world.registry.processing_since("series") == at(0)
    assert world.registry.communication_since("nothing") is None
    assert world.registry.processing_since("nothing") is None


@pytest.mark.parametrize(
    ("first", "then", "kept"),
    [
        ({}, {"valid_until": at(5000)}, True),
        ({"valid_until": at(5000)}, {"valid_until": at(9000)}, True),
        ({"valid_until": at(9000)}, {}, True),
        (
            {"valid_until": at(900)},
            {"valid_until": at(9000)},
            False,
        ),  # what lies in between belongs to nobody
        ({}, {"valid_until": at(5000), "recipients": ("emp", "other")}, False),
    ],
)
async def test_an_end_that_is_moved_in_time_keeps_a_profile_in_force(first, then, kept):
    world = World()
    await world.registry.apply(order(household(processing=(bill(), series(**first)))))
    world.now = at(1000)
    await world.registry.apply(order(household(processing=(bill(), series(**then))), version=2))
    since = at(0) if kept else at(1000)
    assert world.registry.processing_since("series") == since
    assert world.registry.communication_since("total") == since
    assert world.registry.communication_since("billing") == at(0)


async def test_watchers_are_told():
    world, seen = World(), []
    world.registry.watch(seen.append)
    await world.registry.apply(order(household()))
    await world.registry.apply(order(household(), version=1, identity="old"))
    assert seen == [household()]


async def test_a_refused_signature_is_noted_once():
    world = World()
    first = await world.registry.refuse("order-1", "signature", "not the administrator's" + "!" * 5000)
    assert (first.accepted, first.code, len(first.reason) <= 2000) == (False, "signature", True)
    assert await world.registry.refuse("order-1", "signature", "again") == first
    assert world.reports == [first]


async def test_a_forged_order_does_not_stand_in_the_way_of_the_true_one():
    world = World()
    await world.registry.refuse("order-1", "signature", "forged")
    assert (await world.registry.apply(order(household()))).accepted
    assert not (await world.registry.refuse("order-1", "signature", "forged")).accepted
    assert (await world.registry.apply(order(household()))).accepted


async def test_refusals_do_not_fill_the_memory():
    world = World()
    for number in range(600):
        await world.registry.refuse(f"forged-{number}", "signature", "")
    assert len(world.registry._refusals) == 256


async def test_orders_are_applied_one_at_a_time():
    world = World()
    with pytest.raises(AssertionError):
        await asyncio.gather(
            world.registry.apply(order(household(), version=3)),
            world.registry.apply(order(household(), version=2)),
        )


async def test_a_record_that_is_not_ours():
    world = World()
    for record in (b"{}", b"\xff", b'{"version":1,"profiles":{"meters":[{}]},"since":{},"history":[]}'):
        world.store.record = record
        with pytest.raises(StoreCorrupt):
            await world.registry.load()


async def test_all_of_it_survives_in_a_partition(tmp_path):
    async with await Partition.open(tmp_path / "system.db", "system", module_of()) as partition:
        world = World(SealedProfiles(partition))
        await world.registry.load()
        receipt = await world.registry.apply(order(household(), version=4))
        refused = await world.registry.apply(order(household(), version=4, identity="again"))
    async with await Partition.open(tmp_path / "system.db", "system", module_of()) as partition:
        world = World(SealedProfiles(partition))
        await world.registry.load()
        assert (world.registry.active, world.registry.version) == (household(), 4)
        assert world.registry.communication_since("total") == at(0)
        assert await world.registry.apply(order(ProfileSet(), version=9, identity="order-4")) == receipt
        assert await world.registry.apply(order(ProfileSet(), version=9, identity="again")) == refused
        assert world.reports == []
    assert b"key_hex" not in (tmp_path / "system.db").read_bytes()
    assert b"household" not in (tmp_path / "system.db").read_bytes()


async def test_two_names_of_one_supplier_count_as_one():
    disguised = peer("second", tls_certificate=peer().tls_certificate)
    twice = household(
        processing=(series("open", recipients=("second",)), series()),
        communication=(billing(processing="open", recipient="second", peer=disguised), group_total()),
    )
    assert (await World().registry.apply(order(twice))).code == "undoes-concealment"
    assert replace(plain_series(), meters=()).meters == ()


def _order(kind: str, version: int, body: bytes = b"{}") -> Order:
    return order(body, version, kind=kind)


FIRST, SECOND = household(), household(communication=(billing(),))


async def test_a_staged_set_is_checked_and_waits():
    world = World()
    seen = []
    world.registry.watch(seen.append)
    await world.registry.apply(order(FIRST))
    receipt = await world.registry.apply(order(SECOND, 2, kind="profiles.stage"))
    assert receipt.accepted
    assert receipt.reason == "version 2 is staged: -communication/total"
    assert (world.registry.active, world.registry.version, seen) == (FIRST, 1, [FIRST])
    bad = await world.registry.apply(order(b'{"meters":[{}]}', 3, kind="profiles.stage"))
    assert (bad.accepted, bad.code) == (False, "invalid")
    done = await world.registry.apply(_order("profiles.activate", 4, b'{"version":2}'))
    assert done.reason == "version 2 is active, by version 4: -communication/total"
    assert (world.registry.active, world.registry.version, seen) == (SECOND, 4, [FIRST, SECOND])


async def test_what_is_staged_survives_a_restart_and_is_used_up():
    store = MemoryProfiles()
    await World(store).registry.apply(order(FIRST, kind="profiles.stage"))
    second = World(store)
    await second.registry.load()
    assert second.registry.active == ProfileSet()
    assert (await second.registry.apply(_order("profiles.activate", 2, b'{"version":1}'))).accepted
    third = World(store)
    await third.registry.load()
    assert third.registry.active == FIRST
    again = await third.registry.apply(_order("profiles.activate", 3, b'{"version":1}'))
    assert (again.accepted, again.code) == (False, "not-staged")


@pytest.mark.parametrize("body", [b"{}", b'{"version":"1"}', b'{"version":1,"more":2}', b"[", b"\xff"])
async def test_an_order_to_activate_with_another_form_is_refused(body):
    world = World()
    await world.registry.apply(order(FIRST, kind="profiles.stage"))
    receipt = await world.registry.apply(_order("profiles.activate", 2, body))
    assert (receipt.accepted, receipt.code) == (False, "invalid")


async def test_a_roll_back_brings_the_set_before_and_then_the_one_it_replaced():
    world = World()
    nothing = await world.registry.apply(_order("profiles.rollback", 1))
    assert (nothing.accepted, nothing.code) == (False, "nothing-before")
    await world.registry.apply(order(FIRST, 2))
    world.now = at(10)
    await world.registry.apply(order(SECOND, 3))
    back = await world.registry.apply(_order("profiles.rollback", 4))
    assert back.reason == "rolled back, by version 4: +communication/total"
    assert (world.registry.active, world.registry.version) == (FIRST, 4)
    # What was away counts as new: values measured meanwhile never leave under it.
    assert world.registry.communication_since("total") == at(10)
    assert world.registry.communication_since("billing") == at(0)
    await world.registry.apply(_order("profiles.rollback", 5))
    assert world.registry.active == SECOND


PLAIN = ProfileSet(meters=FIRST.meters, processing=(series(),), communication=(billing(processing="series"),))
HIDDEN = household(processing=(series(),), communication=(group_total(),))


async def test_a_roll_back_that_would_undo_a_concealment_is_refused():
    """The values before and after a slot that was hidden for a moment enclose it."""
    world = World()
    await world.registry.apply(order(PLAIN, 1))
    world.now = at(7 * 86400 + 100)
    assert (await world.registry.apply(order(HIDDEN, 2))).accepted
    world.now = at(7 * 86400 + 200)
    refused = await world.registry.apply(_order("profiles.rollback", 3))
    assert (refused.accepted, refused.code) == (False, "undoes-concealment")
    assert world.registry.active == HIDDEN


async def test_who_went_from_plain_values_into_a_net_may_go_on():
    """Neither the plain values of the time before nor those of the time after enclose what was hidden."""
    world = World()
    strict = replace(HIDDEN, meters=(meter_profile(mode=ReceptionMode.STRICT, key_hex="00" * 16),))
    for version, (day, profiles) in enumerate(
        [(0, PLAIN), (7, HIDDEN), (8, strict), (9, PLAIN), (16, HIDDEN), (17, strict)], start=1
    ):
        world.now = at(day * 86400)
        receipt = await world.registry.apply(order(profiles, version))
        assert receipt.accepted, receipt


async def test_no_version_is_taken_twice_whatever_the_kind_was():
    world = World()
    await world.registry.apply(order(FIRST, 5, kind="profiles.stage"))
    for kind, body in (("profiles", codec.to_json(SECOND)), ("profiles.activate", b'{"version":5}')):
        receipt = await world.registry.apply(Order(f"late-{kind}", kind, at(0), 5, body))
        assert (receipt.accepted, receipt.code) == (False, "version")
    assert world.registry.active == ProfileSet()


async def test_a_record_of_the_first_firmware_is_read():
    store = MemoryProfiles()
    await World(store).registry.apply(order(FIRST, 7))
    record = json.loads(store.record)
    known = ("version", "profiles", "since", "history")
    store.record = json.dumps({key: record[key] for key in known}).encode()
    world = World(store)
    await world.registry.load()
    assert world.registry.active == FIRST
    assert not (await world.registry.apply(order(SECOND, 7, identity="again"))).accepted
    assert (await world.registry.apply(_order("profiles.rollback", 8))).code == "nothing-before"


async def test_a_profile_that_became_active_at_a_false_time_counts_from_now():
    world = World()
    world.now = at(86_400 * 400)
    await world.registry.apply(order(household()))
    world.now = at(100)
    assert world.registry.communication_since("total") == at(100)
    assert world.registry.processing_since("series") == at(100)
    world.now = at(900)
    assert world.registry.communication_since("total") == at(100)  # not again and again
    assert world.registry.communication_since("nothing") is None
    world.now = at(0)
    assert world.registry.communication_since("total") == at(100)  # a little ahead is no false time
