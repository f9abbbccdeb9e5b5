"""The policy gate: default deny, five must match, concealed values have no way out (FDP_IFF.1/MTR)."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.enforcement.gate import Allow, Deny, Gate, Reason, Request, decide
from firmware.errors import ReadingRefused, ReleaseRefused
from firmware.metering.dataset import Dataset
from firmware.metering.register import RegisteredValue
from firmware.profile.model import ProfileSet
from lmn.model import ACTIVE_ENERGY_EXPORT, ACTIVE_ENERGY_IMPORT, MeterId
from tests.unit.firmware.profile_set import (
    METER,
    NET_ID,
    at,
    bill,
    billing,
    group_total,
    household,
    meter_profile,
    peer,
    plain_series,
)
from wan.ports import Receipt

GATEWAY = "esgw0100000001"
MONTH = 30 * 86400
FRAME = f"/dcnet/v1/{NET_ID}/submit/7"


class Stage:
    def __init__(self):
        self.taken, self.owed, self.exported = [], [], {}

    async def contribute(self, slot, energy_wh, export_wh=0):
        if export_wh:
            self.exported[slot] = export_wh
        if energy_wh is not None and energy_wh > 1000:
            raise ReadingRefused("too much")
        self.taken.append((slot, energy_wh))

    async def owe(self, first_slot, last_slot, energy_wh, export_wh=0):
        if export_wh:
            self.exported[first_slot, last_slot] = export_wh
        self.owed.append((first_slot, last_slot, energy_wh))


class World:
    def __init__(self, profiles):
        self.denials, self.stage = [], Stage()
        self.profiles = profiles
        nets = {NET_ID: self.stage}
        self.gate = Gate(GATEWAY, "gwa", lambda: self.profiles, nets.get, self._note)

    async def _note(self, denial):
        self.denials.append(denial)

    async def refused(self, attempt, reason):
        with pytest.raises(ReleaseRefused) as refused:
            await attempt
        assert refused.value.reason == reason.value
        assert [denial.reason for denial in self.denials] == [reason]


def entry(second, value="17", meter=METER, obis=ACTIVE_ENERGY_IMPORT):
    return RegisteredValue(MeterId.from_text(meter), obis, at(second), Decimal(value), "Wh", 5 << 32)


def month(**changes) -> Dataset:
    fields = {
        "processing": "bill",
        "taf": 1,
        "consumer": "household",
        "from_utc": at(0),
        "to_utc": at(MONTH),
        "entries": (entry(MONTH),),
    }
    return Dataset(**{**fields, **changes})


def asked(**changes) -> Request:
    fields = {
        "communication": "billing",
        "recipient": "emp",
        "consumer": "household",
        "from_utc": at(0),
        "to_utc": at(MONTH),
        "purpose": "billing",
    }
    return Request(**{**fields, **changes})


BILL = {"communication": "billing", "recipient": "emp", "purpose": "billing"}


def test_what_matches_is_allowed():
    answer = decide(household(), asked())
    assert isinstance(answer, Allow)
    assert answer.net is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"communication": "nothing"}, Reason.PROFILE),
        ({"recipient": "other"}, Reason.RECIPIENT),
        ({"consumer": "neighbour"}, Reason.CONSUMER),
        ({"from_utc": at(-1)}, Reason.WINDOW),
        ({"from_utc": at(MONTH)}, Reason.WINDOW),
        ({"purpose": "group-total"}, Reason.PURPOSE),
        ({"purpose": ""}, Reason.PURPOSE),
    ],
)
def test_one_thing_wrong_is_denied(change, reason):
    answer = decide(household(), asked(**change))
    assert isinstance(answer, Deny)
    assert answer.reason is reason


@pytest.mark.parametrize(
    ("profiles", "reason"),
    [
        (ProfileSet(), Reason.PROFILE),
        (household(processing=()), Reason.PROFILE),
        (household(meters=()), Reason.CONSUMER),
        (household(meters=(meter_profile(consumer="neighbour"),)), Reason.CONSUMER),
        (household(processing=(bill(recipients=("other",)),)), Reason.RECIPIENT),
        (household(communication=(billing(peer=peer("other")),)), Reason.RECIPIENT),
        (household(processing=(bill(valid_until=at(MONTH - 1)),)), Reason.WINDOW),
        (household(processing=(bill(valid_from=at(1)),)), Reason.WINDOW),
    ],
)
def test_profiles_that_do_not_fit_each_other_are_denied(profiles, reason):
    answer = decide(profiles, asked())
    assert isinstance(answer, Deny)
    assert answer.reason is reason


names = st.sampled_from(["billing", "total", "emp", "other", "household", "neighbour", "bill", "series", ""])
purposes = st.sampled_from(["billing", "group-total", "", "statistics"])
seconds = st.integers(-10, MONTH + 10) | st.sampled_from([0, 900, MONTH])


@given(names, names, names, seconds, seconds, purposes)
def test_default_deny(communication, recipient, consumer, begin, end, purpose):
    """Whatever is asked: allowed only if all five match a profile."""
    profiles = household()
    answer = decide(profiles, Request(communication, recipient, consumer, at(begin), at(end), purpose))
    right = {("billing", "billing"), ("total", "group-total")}
    matches = (
        (communication, purpose) in right
        and recipient == "emp"
        and consumer == "household"
        and 0 <= begin < end
    )
    assert isinstance(answer, Allow) == matches


@given(names, names, names, seconds, seconds, purposes)
def test_no_profile_no_release(communication, recipient, consumer, begin, end, purpose):
    answer = decide(ProfileSet(), Request(communication, recipient, consumer, at(begin), at(end), purpose))
    assert isinstance(answer, Deny)


async def test_a_bill_leaves_once_a_month():
    world = World(household())
    release = await world.gate.release(month(), **BILL)
    assert (release.recipient, release.message_id) == ("emp", f"{GATEWAY}-billing-20260131T000000Z")
    document = json.loads(release.body)
    assert document["message_id"] == release.message_id
    assert document["gateway"] == GATEWAY
    assert document["entries"][0]["value"] == "17"
    assert world.denials == []


async def test_the_same_period_is_the_same_message():
    world = World(household())
    first, second = [await world.gate.release(month(), **BILL) for _ in range(2)]
    assert (first.message_id, first.body) == (second.message_id, second.body)


@pytest.mark.parametrize(
    "change",
    [
        {"taf": 7},
        {"processing": "series"},
        {"to_utc": at(900), "entries": (entry(900),)},
        {"from_utc": at(900)},
        {"entries": (entry(MONTH), entry(MONTH))},
        {"entries": (entry(900),)},
        {"entries": (entry(0),)},
        {"entries": (entry(MONTH, meter="ELS-87654321-33-02"),)},
        {"entries": (entry(MONTH, obis=ACTIVE_ENERGY_EXPORT),)},
    ],
)
async def test_a_data_set_that_is_not_its_profile_s_is_denied(change):
    world = World(household())
    await world.refused(world.gate.release(month(**change), **BILL), Reason.CONTENT)


async def test_values_off_the_grid_are_denied():
    world = World(plain_series())
    fields = {"processing": "series", "taf": 7, "to_utc": at(3600), "entries": (entry(901),)}
    await world.refused(world.gate.release(month(**fields), **BILL), Reason.CONTENT)
    good = month(**{**fields, "entries": (entry(900), entry(3600))})
    assert (await world.gate.release(good, **BILL)).recipient == "emp"


async def test_a_recipient_without_right_is_denied_and_reported():
    profiles = household(communication=(billing(recipient="other", peer=peer("other")),))
    world = World(profiles)
    attempt = world.gate.release(month(), communication="billing", recipient="other", purpose="billing")
    await world.refused(attempt, Reason.RECIPIENT)
    assert "17" not in repr(world.denials)


async def test_a_concealed_profile_never_releases_a_value():
    world = World(household())
    fields = {"processing": "series", "taf": 7, "to_utc": at(86400), "entries": (entry(900),)}
    attempt = world.gate.release(
        month(**fields), communication="total", recipient="emp", purpose="group-total"
    )
    await world.refused(attempt, Reason.CONCEALED)
    assert world.stage.taken == []


async def test_a_concealed_value_goes_to_its_net_and_nothing_comes_back():
    world = World(household())
    assert await world.gate.conceal("total", consumer="household", end_utc=at(1800), energy_wh=250) is None
    assert await world.gate.conceal("total", consumer="household", end_utc=at(2700), energy_wh=None) is None
    assert world.stage.taken == [(1, 250), (2, None)]


async def test_a_value_that_the_net_does_not_take_is_an_error():
    world = World(household())
    with pytest.raises(ReadingRefused):
        await world.gate.conceal("total", consumer="household", end_utc=at(900), energy_wh=5000)


async def test_an_interruption_is_owed():
    world = World(household())
    await world.gate.owe("total", consumer="household", from_utc=at(900), to_utc=at(3600), energy_wh=70)
    await world.gate.owe("total", consumer="household", from_utc=at(0), to_utc=at(900), energy_wh=3)
    assert world.stage.owed == [(1, 3, 70), (0, 0, 3)]


@pytest.mark.parametrize(
    ("communication", "consumer", "end", "reason"),
    [
        ("nothing", "household", 900, Reason.PROFILE),
        ("billing", "household", 900, Reason.NOT_CONCEALED),
        ("total", "neighbour", 900, Reason.CONSUMER),
        ("total", "household", 0, Reason.WINDOW),
    ],
)
async def test_concealing_is_denied_like_anything_else(communication, consumer, end, reason):
    world = World(household())
    await world.refused(
        world.gate.conceal(communication, consumer=consumer, end_utc=at(end), energy_wh=1), reason
    )
    assert world.stage.taken == []


async def test_concealing_needs_a_right_and_a_net():
    world = World(household(communication=(group_total(recipient="other", peer=peer("other")),)))
    attempt = world.gate.conceal("total", consumer="household", end_utc=at(900), energy_wh=1)
    await world.refused(attempt, Reason.RECIPIENT)
    world = World(household(communication=(group_total(net=household().communication[1].net),)))
    world.gate = Gate(GATEWAY, "gwa", lambda: world.profiles, lambda _: None, world._note)
    attempt = world.gate.conceal("total", consumer="household", end_utc=at(900), energy_wh=1)
    await world.refused(attempt, Reason.NOT_CONCEALED)


async def test_an_instant_between_slots_is_a_mistake_of_ours():
    world = World(household())
    with pytest.raises(ValueError, match="no slot"):
        await world.gate.conceal("total", consumer="household", end_utc=at(901), energy_wh=1)
    with pytest.raises(ValueError, match="no slot"):
        await world.gate.owe("total", consumer="household", from_utc=at(0), to_utc=at(901), energy_wh=1)


async def test_frames_of_a_net_leave():
    world = World(household())
    release = await world.gate.release_frame("total", FRAME, b"\x01\x02")
    other = await world.gate.release_frame("total", FRAME, b"\x01\x03")
    reconcile = f"/dcnet/v1/{NET_ID}/reconcile/submit/0/1"  # its reconcile net lies below the net
    assert (await world.gate.release_frame("total", reconcile, b"\x01")).body == b"\x01"
    assert (release.recipient, release.body) == ("emp", b"\x01\x02")
    assert release.message_id != other.message_id


@pytest.mark.parametrize(
    ("communication", "resource", "reason"),
    [
        ("nothing", FRAME, Reason.PROFILE),
        ("billing", FRAME, Reason.NOT_CONCEALED),
        ("total", "/dcnet/v1/ffffffffffffffff/submit", Reason.RESOURCE),
        ("total", f"/dcnet/v1/{NET_ID}/../../../emp/v1/x", Reason.RESOURCE),
        ("total", f"/dcnet/v1/{NET_ID}", Reason.RESOURCE),
    ],
)
async def test_frames_have_no_other_way(communication, resource, reason):
    world = World(household())
    await world.refused(world.gate.release_frame(communication, resource, b""), reason)


async def test_frames_need_a_right():
    world = World(household(communication=(group_total(recipient="other", peer=peer("other")),)))
    await world.refused(world.gate.release_frame("total", FRAME, b""), Reason.RECIPIENT)


@pytest.mark.parametrize("below", ["complaint", "relay/bundle/1/esgw0100000001", "relay/roster/1"])
async def test_complaints_and_foundings_go_to_the_administrator(below):
    world = World(household())
    release = await world.gate.release_to_administrator("total", f"/dcnet/v1/{NET_ID}/{below}", b"\x01")
    assert (release.recipient, release.body) == ("gwa", b"\x01")


@pytest.mark.parametrize(
    ("communication", "resource", "reason"),
    [
        ("nothing", f"/dcnet/v1/{NET_ID}/complaint", Reason.PROFILE),
        ("billing", f"/dcnet/v1/{NET_ID}/complaint", Reason.NOT_CONCEALED),
        ("total", "/dcnet/v1/ffffffffffffffff/complaint", Reason.RESOURCE),
        ("total", FRAME, Reason.RESOURCE),
        ("total", f"/dcnet/v1/{NET_ID}/complaint/more", Reason.RESOURCE),
        ("total", f"/dcnet/v1/{NET_ID}/relay/submit/1/1", Reason.RESOURCE),
        ("total", f"/dcnet/v1/{NET_ID}/relay/open/1/1", Reason.RESOURCE),
        ("total", f"/dcnet/v1/{NET_ID}/relay/bundle", Reason.RESOURCE),
        ("total", f"/dcnet/v1/{NET_ID}/relay/bundle/../submit/1", Reason.RESOURCE),
    ],
)
async def test_nothing_else_of_a_net_goes_to_the_administrator(communication, resource, reason):
    world = World(household())
    await world.refused(world.gate.release_to_administrator(communication, resource, b""), reason)


def test_receipts_go_to_the_administrator():
    world = World(household())
    receipt = Receipt("order-1", accepted=False, code="version", reason="old")
    release = world.gate.release_control(receipt)
    assert release.recipient == "gwa"
    assert json.loads(release.body) == {
        "message_id": "order-1",
        "accepted": False,
        "code": "version",
        "reason": "old",
    }
