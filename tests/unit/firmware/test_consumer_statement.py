"""What a consumer is told of its days in a net, once each, counted from the log; and in which words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import msgspec
import pytest

from firmware.clock.clock import AdjustableClock
from firmware.flow.consumer_statement import MOST_DAYS, ConsumerStatements, entries_between
from firmware.log.entry import Event, Level, LogKind, Outcome
from firmware.log.journal import Logs
from firmware.log.vocabulary import MEANINGS
from firmware.profile.model import ProfileSet
from firmware.store.stores import Stores
from tests.support.soft_module import SoftModule
from tests.unit.firmware.profile_set import NET_ID, group_total, net, series
from tools.cli.plain_words import Lang, language, sentence

START = datetime(2026, 1, 1, 22, tzinfo=UTC)


class World:
    def __init__(self, stores: Stores) -> None:
        self.clock = AdjustableClock(START)
        self.stores, self.logs = stores, Logs(stores, self.clock)
        self.journal = self.logs.consumer("household")
        self.profiles = ProfileSet(processing=(series(),), communication=(group_total(),))
        self.valid = True

    def service(self) -> ConsumerStatements:
        """A new life of it."""
        registry = SimpleNamespace(active=self.profiles)
        return ConsumerStatements(registry, self.logs, self.stores.consumer, self.clock, lambda: self.valid)

    async def hidden(self, slot: int, among: int) -> None:
        await self.journal.write(
            Event.CONCEALED_CONTRIBUTION, subject=NET_ID, slot=str(slot), anonymity_set=str(among)
        )

    async def statements(self) -> list:
        return [e for e in await self.journal.entries() if e.event is Event.CONCEALMENT_STATEMENT]


@pytest.fixture
async def world(tmp_path):
    async with await Stores.open(tmp_path / "state", SoftModule()) as stores:
        yield World(stores)


def words(entry, lang: Lang) -> str:
    return sentence(msgspec.json.decode(entry.to_bytes()), lang)


async def test_a_day_is_stated_once_with_what_the_log_holds(world: World) -> None:
    await world.service().step()
    assert await world.statements() == []
    await world.hidden(1, 140)
    await world.hidden(2, 128)
    await world.journal.write(
        Event.CONCEALMENT_ABORTED, Outcome.FAILURE, subject=NET_ID, slot="3", text="left out"
    )
    await world.journal.write(Event.DATA_RELEASED, subject="billing", entries="1")
    await world.service().step()
    assert await world.statements() == []
    world.clock.advance(timedelta(hours=3).total_seconds())
    await world.hidden(4, 999)  # of the next day
    for _ in range(3):
        await world.service().step()
    (said,) = await world.statements()
    assert (said.subject, said.outcome, said.evidence["day"]) == (NET_ID, Outcome.SUCCESS, "2026-01-01")
    assert {k: said.evidence[k] for k in ("hidden", "kept", "smallest_group", "largest_group", "plain")} == {
        "hidden": "2",
        "kept": "1",
        "smallest_group": "128",
        "largest_group": "140",
        "plain": "0",
    }
    assert "128–140 households" in words(said, Lang.EN)
    assert "No plain value" in words(said, Lang.EN)
    assert "Kein Wert" in words(said, Lang.DE)


async def test_a_plain_value_is_not_kept_quiet(world: World) -> None:
    await world.service().step()
    await world.hidden(1, 128)
    await world.journal.write(Event.DATA_RELEASED, subject="total", entries="96")
    world.clock.advance(timedelta(days=1).total_seconds())
    await world.service().step()
    (said,) = await world.statements()
    assert (said.outcome, said.evidence["plain"]) == (Outcome.FAILURE, "1")
    assert "ATTENTION: 1 data sets" in words(said, Lang.EN)
    assert "No plain value" not in words(said, Lang.EN)
    assert "ACHTUNG" in words(said, Lang.DE)


@pytest.mark.parametrize(("n_min", "said"), [(16, False), (15, True)])
async def test_the_statement_of_a_small_net_says_so_as_well(world: World, n_min: int, said: bool) -> None:
    """Every line of such a net's log does, and this one would else sound as if somebody was hidden."""
    small = msgspec.structs.replace(
        group_total(), net=net(n_min=n_min, d_min=4, insecure_small_nets=n_min < 16)
    )
    world.profiles = ProfileSet(processing=(series(),), communication=(small,))
    await world.service().step()
    world.clock.advance(timedelta(days=1).total_seconds())
    await world.service().step()
    (entry,) = await world.statements()
    assert ("INSECURE small net" in entry.text) is said
    assert ("too small to hide anybody" in words(entry, Lang.EN)) is said
    assert (entry.level is Level.WARNING) is said


async def test_days_are_made_up_for_but_not_without_end(world: World) -> None:
    await world.service().step()
    world.clock.advance(timedelta(days=3).total_seconds())
    await world.service().step()
    assert [one.evidence["day"][-2:] for one in await world.statements()] == ["01", "02", "03"]
    world.clock.advance(timedelta(days=4000).total_seconds())
    await world.service().step()
    assert len(await world.statements()) == 3 + MOST_DAYS
    world.clock.set_utc(START + timedelta(days=3))
    await world.service().step()  # a clock that goes back states nothing twice
    assert len(await world.statements()) == 3 + MOST_DAYS
    world.clock.set_utc(START + timedelta(days=4))
    await world.service().step()  # and does not wait for years
    assert (await world.statements())[-1].evidence["day"] == "2026-01-04"


async def test_entries_are_found_across_pages(world: World) -> None:
    for slot in range(450):
        await world.hidden(slot, 128)
        world.clock.advance(60)
    begin = START + timedelta(minutes=30)
    found = await entries_between(world.journal, begin, begin + timedelta(minutes=300))
    assert [int(one.evidence["slot"]) for one in found] == list(range(30, 330))


def test_every_event_of_a_consumers_log_has_words() -> None:
    entry = {"sub_event": "", "subject": "s", "text": "t", "destination": "", "user": "u", "evidence": {}}
    for event in (event for event, meaning in MEANINGS.items() if LogKind.CONSUMER in meaning.logs):
        german, english = (sentence({**entry, "event": event.value}, lang) for lang in (Lang.DE, Lang.EN))
        assert german != english, event
    insecure = {**entry, "event": "concealed-contribution", "text": "[INSECURE small net] "}
    assert "too small" in sentence(insecure, Lang.EN)
    for kind in ("recovered", "audited", "reconciled"):
        mended = {**entry, "event": "concealment-repaired", "sub_event": kind, "evidence": {"slot": "7"}}
        assert sentence(mended, Lang.EN) != sentence({**mended, "sub_event": ""}, Lang.EN)
    assert sentence({**entry, "event": "unheard-of"}, Lang.DE) == "unheard-of s t"


def test_the_language_follows_the_environment() -> None:
    assert language({}) is Lang.EN
    assert language({"LANG": "de_DE.UTF-8"}) is Lang.DE
    assert language({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}) is Lang.EN


@pytest.mark.parametrize(
    ("event", "kind", "words"),
    [
        ("contract-change", "switched", "other households"),
        ("contract-change", "left", "no longer belongs"),
        ("contract-change", "revoked", "withdrew members"),
        ("peer-misbehaved", "redrawn", "new draw"),
        ("peer-misbehaved", "disputed", "wrong key"),
        ("peer-misbehaved", "quarantine", "takes no part any more"),
    ],
)
def test_what_happens_to_a_net_has_words_of_its_own(event: str, kind: str, words: str) -> None:
    entry = {
        "event": event,
        "sub_event": kind,
        "subject": "00ff",
        "destination": "",
        "user": "",
        "text": "why",
        "evidence": {"anonymity_set": "40"},
    }
    for lang in Lang:
        assert "00ff" in sentence(entry, lang)
    assert words in sentence(entry, Lang.EN)
