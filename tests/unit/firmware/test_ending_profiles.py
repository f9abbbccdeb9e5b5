"""FDP_IFF.1/MTR: what was due while its profile was in force leaves, once; a profile can always be ended."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from firmware.enforcement.uniform import offset
from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.profile.model import ProfileSet
from hsm.errors import CertificateRefused, ModuleUnavailable
from tests.unit.firmware.pipeline_street import Street, started
from tests.unit.firmware.profile_set import at, plain_series
from tests.unit.firmware.test_registry import order

KEY = bytes(range(32))
PERIOD = 3600


async def waiting(street: Street) -> Any:
    """A gateway whose first delivery is due and waits for its offset."""
    (communication,) = plain_series().communication
    profiles = replace(plain_series(900), communication=(replace(communication, spread_s=3000),))
    gateway = await started(street, profiles)
    gateway.deliver.due._wait_for = partial(offset, KEY)
    for second in range(0, PERIOD + 1, 900):
        gateway.hear(second, 5)
    await gateway.until(PERIOD + 20)
    assert gateway.outbox.sent == []
    return gateway


@pytest.mark.parametrize("change", ["removed", "all gone", "other certificate", "other owner"])
async def test_what_was_due_under_a_profile_that_ends_still_leaves_once(street: Street, change: str) -> None:
    gateway = await waiting(street)
    active = gateway.registry.active
    (communication,) = active.communication
    following = {
        "removed": replace(active, communication=()),
        "all gone": ProfileSet(),
        "other certificate": replace(active, communication=(replace(communication, spread_s=7),)),
        "other owner": replace(
            active,
            meters=tuple(replace(one, consumer="next") for one in active.meters),
            processing=tuple(replace(one, consumer="next") for one in active.processing),
        ),
    }[change]
    assert (await gateway.registry.apply(order(following, version=2, identity="o-2"))).accepted
    (document,) = gateway.documents()
    assert len(document["entries"]) == 4
    assert gateway.notes[0].consumer == "household"
    await gateway.until(PERIOD + 3100)  # nothing twice, and nothing that was not due
    assert len(gateway.outbox.sent) == 1


async def test_a_profile_that_stays_is_not_hurried(street: Street) -> None:
    gateway = await waiting(street)
    again = replace(gateway.registry.active, meters=gateway.registry.active.meters)
    assert (await gateway.registry.apply(order(again, version=2, identity="o-2"))).accepted
    assert gateway.outbox.sent == []
    await gateway.until(PERIOD + 3100)
    assert len(gateway.outbox.sent) == 1


@pytest.mark.parametrize(
    ("end_s", "hurried"), [(2 * PERIOD, False), (PERIOD + 20, False), (PERIOD - 900, True)]
)
async def test_another_end_hurries_only_what_would_not_be_due_under_it(
    street: Street, end_s: int, hurried: bool
) -> None:
    """A contract that is cut short keeps its offset, unless the new end lies before what is due."""
    gateway = await waiting(street)
    active = gateway.registry.active
    (processing,) = active.processing
    shorter = replace(active, processing=(replace(processing, valid_until=at(end_s)),))
    assert (await gateway.registry.apply(order(shorter, version=2, identity="o-2"))).accepted
    assert bool(gateway.outbox.sent) is hurried
    await gateway.until(PERIOD + 3100)
    assert len(gateway.outbox.sent) == 1


async def test_an_order_that_is_refused_hurries_nothing(street: Street) -> None:
    gateway = await waiting(street)
    assert not (await gateway.registry.apply(order(ProfileSet(), version=1, identity="o-2"))).accepted
    assert gateway.outbox.sent == []


@pytest.mark.parametrize(
    "fault", [CertificateRefused("expired"), ModuleUnavailable("gone"), StoreCorrupt("damaged")]
)
async def test_nothing_keeps_the_administrator_from_ending_a_profile(
    street: Street, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await waiting(street)

    async def refuse(_release: Any) -> None:
        raise fault

    told: list[tuple[str, BaseException]] = []
    gateway.outbox.send = refuse
    gateway.deliver.due._report = lambda *what: told.append(what)
    assert (await gateway.registry.apply(order(ProfileSet(), version=2, identity="o-2"))).accepted
    assert "ends before what it owed" in caplog.text
    assert told == [("firmware.flow.delivery", fault)]  # for the system log


async def test_a_store_that_takes_nothing_changes_no_profile(street: Street) -> None:
    gateway = await waiting(street)

    async def full(_release: Any) -> None:
        raise StoreUnavailable("full")

    send, gateway.outbox.send = gateway.outbox.send, full
    with pytest.raises(StoreUnavailable):
        await gateway.registry.apply(order(ProfileSet(), version=2, identity="o-2"))
    assert gateway.registry.version == 1
    gateway.outbox.send = send
    assert (await gateway.registry.apply(order(ProfileSet(), version=2, identity="o-2"))).accepted
    assert len(gateway.outbox.sent) == 1


async def test_a_former_recipient_is_known_until_the_next_set_and_after_a_restart(street: Street) -> None:
    gateway = await waiting(street)
    (name,) = gateway.registry.peers()
    await gateway.registry.apply(order(ProfileSet(), version=2, identity="o-2"))
    assert not gateway.registry.peers()
    assert set(gateway.registry.former_peers()) == {name}
    gateway = await street.start()
    assert set(gateway.registry.former_peers()) == {name}
    await gateway.registry.apply(order(ProfileSet(), version=3, identity="o-3"))
    assert not gateway.registry.former_peers()
