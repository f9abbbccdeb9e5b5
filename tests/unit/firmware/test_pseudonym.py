"""Delivery under a pseudonym (FPR_PSE.1): nothing that leaves names the gateway, its meter or its owner."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from firmware.enforcement.gate import Gate, Reason
from firmware.enforcement.pseudonym import Pseudonyms
from firmware.errors import ReleaseRefused
from firmware.metering.dataset import Dataset, to_document
from firmware.profile.check import check
from firmware.profile.model import ProfileSet
from firmware.profile.registry import Forwarded
from tests.unit.firmware.profile_set import METER, OTHER_TLS, at, billing, group_total, meter_profile, peer
from tests.unit.firmware.tariff_examples import example_of
from tests.unit.firmware.tariff_task import profile, value

GATEWAY = "esgw0100000001"
SECRET = bytes(range(32))
VOLTAGE = "1-0:32.7.0"
POINT = "DE00056266802AO6G56M11SN51G21M24S"
GRID = profile(10, obis=VOLTAGE, billing_period_s=900, usage_point=POINT, tariff="Mill Lane 4")
OUT = billing("voltage-of-mill-lane-4", processing="tariff", purpose="grid", pseudonymised=True)
NAMES = [
    GATEWAY, GATEWAY.upper(), METER, METER.lower(), "ELS", "12345678", "78563412", "household",
    OUT.id, "mill-lane", "tariff", "gwa", POINT, "Mill Lane",
]  # fmt: skip
"""Whatever could tell whose a data set is, as it stands in ids, telegrams and profiles."""


def a_set(rule=GRID, *communication) -> ProfileSet:
    return ProfileSet(meters=(meter_profile(),), processing=(rule,), communication=communication or (OUT,))


def dataset(to_s: int = 900, **changes) -> Dataset:
    entries = (value(at(to_s), 230, VOLTAGE, unit="V"),)
    fields = {
        "processing": "tariff", "taf": 10, "consumer": "household",
        "from_utc": at(to_s - 900), "to_utc": at(to_s), "entries": entries,
        "usage_point": POINT, "tariff": "Mill Lane 4",
    }  # fmt: skip
    return Dataset(**(fields | changes))


class World:
    def __init__(self, profiles: ProfileSet, pseudonyms: Pseudonyms | None = None):
        self.denials = []
        self.gate = Gate(
            GATEWAY,
            "gwa",
            lambda: profiles,
            lambda _net: None,
            self._denied,
            pseudonyms or Pseudonyms(SECRET),
        )

    async def _denied(self, denial):
        self.denials.append(denial)

    async def release(self, data: Dataset, communication=OUT):
        return await self.gate.release(
            data, communication=communication.id, recipient="emp", purpose=communication.purpose
        )


async def test_fpr_pse_1_nothing_that_leaves_names_anybody():
    release = await World(a_set()).release(dataset())
    shown = f"{release.message_id} {release.sender} ".encode() + release.body
    for name in NAMES:
        assert name.encode() not in shown, name
    document = json.loads(release.body)
    assert set(document) == {"message_id", "pseudonym", "taf", "period", "entries", "padding"}
    assert set(document["entries"][0]) == {"obis", "time_utc", "value", "unit", "status"}
    assert document["entries"][0]["value"] == "230"
    assert (release.recipient, release.via) == ("emp", "gwa")
    assert release.sender == document["pseudonym"]


async def test_a_plain_profile_names_everybody():
    """What the scan looks for is what the same data set holds without a pseudonym."""
    plain = replace(OUT, pseudonymised=False)
    release = await World(a_set(GRID, plain)).release(dataset(), plain)
    shown = f"{release.message_id} ".encode() + release.body
    found = {name for name in NAMES if name.encode() in shown}
    assert {GATEWAY, METER, OUT.id, "12345678", "ELS", POINT, "Mill Lane"} <= found
    assert (release.sender, release.via) == ("", "")


async def test_the_pseudonym_stays_and_each_message_has_an_id_of_its_own():
    first, second = [await World(a_set()).release(dataset(end)) for end in (900, 1800)]
    again = await World(a_set()).release(dataset())
    assert first.sender == second.sender == again.sender
    assert first.message_id == again.message_id != second.message_id
    assert first.sender not in first.message_id  # the administrator sees the id and must not learn the name
    event = await World(a_set(replace(GRID, grid_state=example_of(10).grid_state))).release(dataset())
    assert event.message_id == first.message_id


@pytest.mark.parametrize(
    "other",
    [
        (OUT, replace(GRID, consumer="tenant-2")),
        (OUT, replace(GRID, meter="ELS-87654321-33-02")),
        (replace(OUT, recipient="other"), GRID),
        (replace(OUT, id="second"), GRID),
    ],
)
def test_another_tenant_meter_recipient_or_profile_gets_another_pseudonym(other):
    pseudonyms = Pseudonyms(SECRET)
    assert pseudonyms.of(*other) != pseudonyms.of(OUT, GRID)
    assert Pseudonyms(bytes(32)).of(OUT, GRID) != pseudonyms.of(OUT, GRID)
    assert "Pseudonyms()" in repr(pseudonyms)


def test_occasions_have_ids_of_their_own():
    pseudonyms = Pseudonyms(SECRET)
    ids = {pseudonyms.message_id(OUT, at(900), why) for why in ("", "limit", "request-1")}
    assert len(ids) == 3


async def test_every_size_is_the_same():
    world = World(a_set())
    small = await world.release(dataset())
    large = await world.release(dataset(entries=(value(at(900), "1234567890123.123456", VOLTAGE, unit="V"),)))
    nothing = await world.release(dataset(entries=()))
    assert len(small.body) == len(large.body) == len(nothing.body)


async def test_what_has_an_owners_name_in_it_does_not_leave():
    world = World(a_set())
    with pytest.raises(ReleaseRefused):
        await world.release(dataset(signatures=(bytes(64),)))
    bill = replace(OUT, purpose="billing")
    refused = World(a_set(GRID, bill))
    with pytest.raises(ReleaseRefused):
        await refused.release(dataset(), bill)
    assert [one.reason for one in world.denials + refused.denials] == [Reason.PSEUDONYM] * 2


async def test_without_anybody_to_forward_it_it_stays():
    denials = []

    async def denied(denial):
        denials.append(denial.reason)

    for administrator, pseudonyms in (("", Pseudonyms(SECRET)), ("gwa", None)):
        gate = Gate(GATEWAY, administrator, a_set, lambda _net: None, denied, pseudonyms)
        with pytest.raises(ReleaseRefused):
            await gate.release(dataset(), communication=OUT.id, recipient="emp", purpose="grid")
    assert denials == [Reason.PSEUDONYM] * 2


def test_a_signed_value_is_never_written_under_a_pseudonym():
    signed = dataset(signatures=(bytes(64),))
    with pytest.raises(ValueError, match="whose"):
        to_document(signed, identity="m", gateway="", communication="", pseudonym="p")


# ------------------------------------------------------------------ what a profile may ask for


def places(*communication, rule=GRID, **changes) -> list[str]:
    profiles = replace(a_set(rule, *communication), **changes)
    return [problem.place for problem in check(profiles, small_nets_allowed=False)]


def test_a_grid_state_under_a_pseudonym_is_well():
    assert places(OUT) == []


@pytest.mark.parametrize(
    ("communication", "rule"),
    [
        (replace(OUT, purpose="billing"), profile(7)),
        (OUT, replace(GRID, signed_values=True)),
        (replace(group_total(processing="tariff"), pseudonymised=True), profile(7)),
    ],
)
def test_what_must_say_whose_it_is_is_refused(communication, rule):
    assert "communication[0].pseudonymised" in places(communication, rule=rule)


@pytest.mark.parametrize(
    "recipient",
    [
        {},
        {"peer": peer("emp", host="another.example")},
        {"recipient": "other", "peer": peer("other", enc_certificate=OUT.peer.enc_certificate)},
    ],
)
def test_who_gets_the_same_consumers_values_by_name_could_compare(recipient):
    rule = replace(GRID, recipients=("emp", "other"))
    plain = replace(OUT, id="plain", pseudonymised=False, **recipient)
    assert "communication[0].pseudonymised" in places(OUT, plain, rule=rule)


def test_somebody_else_may_have_them_by_name():
    rule = replace(GRID, recipients=("emp", "other"))
    stranger = peer("other", tls_certificate=OTHER_TLS)
    plain = replace(OUT, id="plain", pseudonymised=False, recipient="other", peer=stranger)
    assert places(OUT, plain, rule=rule) == []


def test_a_group_total_beside_it_tells_nobody_s_values():
    series = replace(profile(7), id="series")
    profiles = ProfileSet(
        meters=(meter_profile(),), processing=(GRID, series), communication=(OUT, group_total())
    )
    assert check(profiles, small_nets_allowed=False) == []


def test_no_connection_leads_to_who_gets_pseudonyms_alone():
    plain = replace(OUT, id="plain", pseudonymised=False)
    assert Forwarded.of(a_set()) == Forwarded(frozenset({"emp"}), frozenset({"emp"}))
    assert Forwarded.of(a_set(GRID, OUT, plain)) == Forwarded(frozenset({"emp"}), frozenset())
    assert Forwarded.of(a_set(GRID, plain)) == Forwarded()


def test_what_waits_for_a_former_recipient_takes_the_way_that_it_was_released_for():
    plain = replace(OUT, id="plain", pseudonymised=False)
    assert Forwarded.of(ProfileSet(), a_set()) == Forwarded(frozenset({"emp"}), frozenset({"emp"}))
    assert Forwarded.of(a_set(GRID, plain), a_set()) == Forwarded(frozenset({"emp"}), frozenset())
    assert Forwarded.of(a_set(), a_set(GRID, plain)) == Forwarded(frozenset({"emp"}), frozenset())
