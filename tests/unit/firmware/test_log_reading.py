"""FAU_SAR.1 /SYS /CON /CAL, FAU_STG.2, FAU_STG.4 /SYS /CON /CAL: who reads what, overflow, seals, exports."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import product

import msgspec
import pytest

from firmware.clock.clock import AdjustableClock
from firmware.enforcement.roles import LOGS, Reader, Role, may_read, require_read
from firmware.errors import AccessRefused, LogFull, StoreCorrupt, StoreUnavailable
from firmware.log.entry import Event, LogKind
from firmware.log.export import check_export
from firmware.log.journal import Journal, Logs
from firmware.log.reading import MAX_ENTRIES, LogReader, Range
from firmware.log.seal import Seal, first_previous, seal_digest, to_sign
from firmware.log.sealer import Sealer
from firmware.store.stores import Stores
from hsm.api import CertificateUse, Curve, KeySlot
from hsm.errors import ModuleUnavailable
from hsm.x509 import verify
from tests.support.pki import tree
from tests.support.soft_module import SoftModule
from tools.cli.log import _path_to

START = datetime(2026, 1, 1, tzinfo=UTC)
GWA, TECH = Reader(Role.GWA, "gwa"), Reader(Role.SERVICE_TECH)
ANNA, BERT = Reader(Role.CONSUMER, "anna"), Reader(Role.CONSUMER, "bert")
GATEWAY = "esgw0100000001"


class World:
    def __init__(self, stores: Stores, module: SoftModule, **options) -> None:
        self.clock, self.module = AdjustableClock(START), module
        self.overflows: list[tuple[str, Event]] = []
        self.logs = Logs(stores, self.clock, overflow=self._note, **options)
        self.sealer = Sealer(self.logs, module, self.clock, GATEWAY)
        self.reader = LogReader(self.logs, self.clock, GATEWAY, signer=self.sealer)

    async def _note(self, log: str, event: Event, text: str) -> None:
        assert text
        self.overflows.append((log, event))

    async def fill(self, count: int, journal: Journal | None = None) -> None:
        for number in range(count):
            await (journal or self.logs.system).write(Event.BOOT, text=f"entry {number}")


@pytest.fixture
async def module():
    one = SoftModule()
    await one.generate_key_pair(KeySlot.WAN_SIG, Curve.BRAINPOOL_P256)
    return one


@pytest.fixture
async def stores(tmp_path, module):
    async with await Stores.open(tmp_path, module) as opened:
        yield opened


@pytest.fixture
def world(stores, module):
    return World(stores, module)


# --- who may read -------------------------------------------------------------------------------------------

ALLOWED = {
    (Role.GWA, LogKind.SYSTEM),
    (Role.SERVICE_TECH, LogKind.SYSTEM),
    (Role.CONSUMER, LogKind.CONSUMER),
    (Role.GWA, LogKind.CALIBRATION),
}


@pytest.mark.parametrize(("role", "kind"), list(product(Role, LogKind)))
def test_fau_sar_1_the_reader_matrix(role, kind):
    """Written out a second time on purpose: a change of the table is a change of this test."""
    consumer = "anna" if kind is LogKind.CONSUMER else ""
    assert may_read(Reader(role, "anna"), kind, consumer) == ((role, kind) in ALLOWED)
    if (role, kind) not in ALLOWED:
        with pytest.raises(AccessRefused, match=role.value):
            require_read(Reader(role, "anna"), kind, consumer)


def test_fau_sar_1_con_a_consumer_reads_the_own_log_alone():
    assert may_read(ANNA, LogKind.CONSUMER, "anna")
    assert not may_read(ANNA, LogKind.CONSUMER, "bert")
    assert not may_read(Reader(Role.CONSUMER), LogKind.CONSUMER, "")
    assert LOGS.keys() == set(LogKind)


async def test_fau_sar_1_readers_get_their_log_and_the_reading_is_logged(world):
    await world.logs.system.write(Event.BOOT)
    await world.logs.consumer("anna").write(Event.DATA_SENT)
    await world.logs.calibration.write(Event.TIME_DEVIATION)
    assert [one.event for one in await world.reader.read(TECH, LogKind.SYSTEM)] == [Event.BOOT]
    assert [one.event for one in await world.reader.read(ANNA, LogKind.CONSUMER, "anna")] == [Event.DATA_SENT]
    assert [one.event for one in await world.reader.read(GWA, LogKind.CALIBRATION)] == [Event.TIME_DEVIATION]
    assert [one.event for one in await world.reader.read(ANNA, LogKind.CONSUMER, "anna")] == [
        Event.DATA_SENT,
        Event.LOG_READ,
    ]
    entries = await world.logs.system.entries()
    assert [(one.event, one.user, one.subject) for one in entries[1:]] == [
        (Event.LOG_READ, "service-tech", "log system"),
        (Event.LOG_READ, "gwa/gwa", "log calibration"),
    ]


@pytest.mark.parametrize(
    ("reader", "kind", "consumer"),
    [
        (GWA, LogKind.CONSUMER, "anna"),
        (BERT, LogKind.CONSUMER, "anna"),
        (ANNA, LogKind.SYSTEM, ""),
        (TECH, LogKind.CALIBRATION, ""),
        (BERT, LogKind.CONSUMER, "bert"),
    ],
)
async def test_fau_sar_1_everybody_else_is_refused_and_that_is_logged(world, reader, kind, consumer):
    await world.logs.consumer("anna").write(Event.DATA_SENT)
    for read in (world.reader.read, world.reader.export):
        with pytest.raises(AccessRefused):
            await read(reader, kind, consumer)
    denied = [one.event for one in await world.logs.system.entries()]
    assert denied == ([] if reader is BERT and consumer == "bert" else [Event.ACCESS_DENIED] * 2)
    assert await world.logs.consumers() == ["anna"]  # asking makes no log


async def test_a_reading_is_bounded_and_can_be_continued(world):
    await world.fill(MAX_ENTRIES + 50)
    first = await world.reader.read(GWA, LogKind.SYSTEM)
    assert len(first) == MAX_ENTRIES
    rest = await world.reader.read(GWA, LogKind.SYSTEM, what=Range(after=first[-1].number))
    assert [one.number for one in rest] == list(range(MAX_ENTRIES + 1, MAX_ENTRIES + 52))
    newest = await world.reader.read(GWA, LogKind.SYSTEM, what=Range(newest=3))
    assert [one.number for one in newest] == [MAX_ENTRIES + 50, MAX_ENTRIES + 51, MAX_ENTRIES + 52]
    assert len(await world.reader.read(GWA, LogKind.SYSTEM, what=Range(limit=7))) == 7


async def test_a_reading_has_a_limit_of_bytes(world, monkeypatch):
    await world.fill(20)
    monkeypatch.setattr("firmware.log.reading.MAX_BYTES", 1000)
    some = await world.reader.read(GWA, LogKind.SYSTEM)
    assert 1 <= len(some) < 20
    monkeypatch.setattr("firmware.log.reading.MAX_BYTES", 1)
    assert len(await world.reader.read(GWA, LogKind.SYSTEM)) == 1


async def test_a_reading_by_time_is_one_piece(world):
    for day in (0, 1, 2, 3, 1, 4):  # the clock went back once
        world.clock.set_utc(START + timedelta(days=day))
        await world.logs.system.write(Event.BOOT, text=str(day))
    what = Range(from_utc=START + timedelta(days=1), to_utc=START + timedelta(days=3))
    assert [one.text for one in await world.reader.read(GWA, LogKind.SYSTEM, what=what)] == [
        "1",
        "2",
        "3",
        "1",
    ]
    for wrong in (
        {"after": -1},
        {"after": 1 << 63},
        {"limit": 0},
        {"newest": 0},
        {"from_utc": datetime(2026, 1, 1)},  # noqa: DTZ001
    ):
        with pytest.raises(ValueError, match=r"at least|time zone"):
            Range(**wrong)


async def test_a_full_disk_hides_no_system_log_and_no_consumer_log_is_read_unlogged(world, monkeypatch):
    await world.logs.system.write(Event.BOOT)
    await world.logs.consumer("anna").write(Event.DATA_SENT)

    async def full(self, *_, **__):
        raise StoreUnavailable("disk full")

    monkeypatch.setattr(Journal, "write", full)
    assert len(await world.reader.read(GWA, LogKind.SYSTEM)) == 1
    with pytest.raises(StoreUnavailable):
        await world.reader.read(ANNA, LogKind.CONSUMER, "anna")


# --- overflow -----------------------------------------------------------------------------------------------


async def test_fau_stg_4_sys_the_oldest_go_and_the_administrator_is_told(stores, module):
    world = World(stores, module, capacity={LogKind.SYSTEM: 50})
    await world.sealer.seal()
    await world.fill(70)
    assert world.overflows[0] == ("system", Event.LOG_TRIMMED)
    assert (await world.logs.system.span())[0] > 1
    await world.logs.system.verify()


async def test_fau_stg_4_con_what_is_guaranteed_stays_even_beyond_the_capacity(stores, module):
    limits = {"capacity": {LogKind.CONSUMER: 50}, "guaranteed": {LogKind.CONSUMER: timedelta(days=457)}}
    world = World(stores, module, **limits)
    log = world.logs.consumer("anna")
    await world.fill(80, log)
    assert await log.span() == (1, 80)
    assert world.overflows == [("consumer/anna", Event.MEMORY_CRITICAL)]
    world.clock.set_utc(START + timedelta(days=457))
    await world.fill(1, log)
    assert (await log.span())[0] == 1  # not a second too early
    world.clock.advance(1)
    await world.fill(1, log)
    assert (await log.span())[0] > 1
    assert world.overflows[-1] == ("consumer/anna", Event.LOG_TRIMMED)
    await log.verify()


async def test_fau_stg_4_cal_nothing_goes_the_administrator_is_told_twice_then_it_is_full(stores, module):
    world = World(stores, module, capacity={LogKind.CALIBRATION: 10})
    log = world.logs.calibration
    await world.fill(9, log)
    assert not await log.is_full()
    await world.fill(1, log)
    assert world.overflows == [("calibration", Event.MEMORY_CRITICAL)]
    assert await log.is_full()
    for _ in range(2):
        with pytest.raises(LogFull):
            await log.write(Event.TIME_DEVIATION)
    assert world.overflows[1:] == [("calibration", Event.LOG_FULL)]
    assert (await log.verify()).number == 10
    assert not await world.logs.system.is_full()


# --- seals --------------------------------------------------------------------------------------------------


async def test_fau_stg_2_seals_form_a_chain_and_hold_under_the_modules_key(world):
    assert await world.sealer.seal() == 0  # nothing to seal yet
    await world.fill(3)
    await world.logs.consumer("anna").write(Event.DATA_SENT)
    assert await world.sealer.seal() == 2
    assert await world.sealer.seal() == 0  # nothing new
    await world.fill(2)
    assert await world.sealer.seal() == 1
    (one, first), (two, second) = await world.logs.system.seals()
    seals = [Seal.from_bytes(first), Seal.from_bytes(second)]
    assert [(one, seals[0].last), (two, seals[1].last)] == [(1, 3), (2, 5)]
    assert (seals[0].previous, seals[1].previous) == (first_previous("system"), seal_digest(first))
    key = await world.module.public_key(KeySlot.WAN_SIG)
    for seal in seals:
        assert verify(key, to_sign(seal.signed(), key), bytes.fromhex(seal.signature))
        assert seal.digest == (await world.logs.system.head(seal.last)).digest
    assert not verify(key, to_sign(seals[0].signed() + b" ", key), bytes.fromhex(seals[0].signature))
    assert seals[0].log == "system"
    for broken in (b"", b"{}", b"[" * 100_000):
        with pytest.raises(StoreCorrupt):
            Seal.from_bytes(broken)


async def test_a_module_without_a_key_seals_nothing_and_one_that_fails_says_so(world):
    await world.fill(1)
    world.module.faults["sign"] = ModuleUnavailable("gone")
    with pytest.raises(ModuleUnavailable):
        await world.sealer.seal()
    assert await world.logs.system.last_seal() is None
    del world.module.faults["sign"], world.module.keys[KeySlot.WAN_SIG]
    assert await world.sealer.seal() == 0
    assert world.sealer.sealing is False
    assert await world.sealer.sign(b"x") is None


async def test_seals_of_what_is_gone_go_too_and_the_chain_of_seals_holds(stores, module):
    world = World(stores, module, capacity={LogKind.SYSTEM: 50})
    for _ in range(40):
        await world.fill(5)
        await world.sealer.seal()
    kept = await world.logs.system.seals()
    assert 2 <= len(kept) < 20
    verdict = check_export(await world.reader.export(GWA, LogKind.SYSTEM), verify)
    assert verdict.findings == []
    assert verdict.seals >= len(kept) - 1


# --- exports ------------------------------------------------------------------------------------------------


async def exported(world, count: int = 12, what: Range | None = None) -> list[bytes]:
    for _ in range(count // 3):
        await world.fill(3)
        await world.sealer.seal()
    return (await world.reader.export(GWA, LogKind.SYSTEM, what=what)).splitlines(keepends=True)


def checked(lines: list[bytes]):
    return check_export(b"".join(lines), verify)


async def test_an_export_verifies_without_the_gateway(world):
    lines = await exported(world)
    verdict = checked(lines)
    assert verdict.findings == []
    assert verdict.signed
    assert (verdict.seals, len(verdict.entries)) == (4, 12)
    assert verdict.header.gateway == GATEWAY
    assert verdict.certified is None
    part = checked(await exported(world, 3, Range(after=5, limit=4)))
    assert part.findings == []
    assert [one.number for one in part.entries] == [6, 7, 8, 9]
    assert any("1 to 5 are not" in one for one in part.limits)
    assert any("10 to" in one for one in part.limits)


async def test_every_changed_byte_of_an_export_is_noticed(world):
    data = b"".join(await exported(world, 6))
    for position in range(0, len(data) - 1, 3):
        changed = data[:position] + bytes([data[position] ^ 0x01]) + data[position + 1 :]
        assert not check_export(changed, verify).ok, position


@pytest.mark.parametrize("number", [1, 5, 12])
async def test_a_changed_entry_is_named(world, number):
    lines = await exported(world)
    lines[number] = lines[number].replace(b"entry", b"entri")
    verdict = checked(lines)
    assert verdict.first_broken == number
    assert next(one.kind for one in verdict.findings if one.entry == number) == "changed"


@pytest.mark.parametrize("number", [1, 5, 12])
async def test_a_removed_entry_is_named(world, number):
    lines = await exported(world)
    del lines[number]
    verdict = checked(lines)
    assert verdict.first_broken == number
    assert verdict.findings[0].kind == "removed"


async def test_reordered_doubled_and_foreign_entries_are_named(world):
    lines = await exported(world)
    swapped = [*lines[:4], lines[5], lines[4], *lines[6:]]
    verdict = checked(swapped)
    assert (verdict.first_broken, verdict.findings[0].kind) == (4, "reordered")
    assert checked([*lines[:4], lines[3], *lines[4:]]).first_broken == 3
    foreign = lines[4].replace(b'"log":"system"', b'"log":"calibration"')
    assert "added" in {one.kind for one in checked([*lines[:4], foreign, *lines[4:]]).findings}


@pytest.mark.parametrize("keep", [1, 2, 8, 12])
async def test_what_was_cut_off_at_the_end_is_named(world, keep):
    lines = await exported(world)
    assert checked(lines[: 1 + keep]).first_broken == keep + 1  # with the trailer
    verdict = checked([*lines[: 1 + keep], lines[-1]])
    assert verdict.first_broken == (keep + 1 if keep < 12 else None)


async def test_a_shorter_export_made_of_a_longer_one_is_noticed(world):
    """Header and trailer rewritten to fit: only the module's signature tells."""
    lines = await exported(world)
    header, trailer = msgspec.json.decode(lines[0]), msgspec.json.decode(lines[-1])
    header["count"], trailer["digests"] = 9, trailer["digests"][:9]
    header["newest"] = 9
    trailer["seals"] = trailer["seals"][:3]
    forged = [msgspec.json.encode(header) + b"\n", *lines[1:10], msgspec.json.encode(trailer) + b"\n"]
    verdict = checked(forged)
    assert [one.kind for one in verdict.findings] == ["signature"]
    assert not verdict.signed
    trailer["closing"] = ""
    assert [one.kind for one in checked([*forged[:-1], msgspec.json.encode(trailer)]).findings] == [
        "signature"
    ]


async def test_a_forged_seal_a_missing_one_and_one_of_another_log_are_named(world):
    lines = await exported(world)
    await world.logs.consumer("anna").write(Event.DATA_SENT)
    await world.sealer.seal()
    trailer = msgspec.json.decode(lines[-1])
    foreign = (await world.logs.consumer("anna").seals())[0][1].decode()
    digest = Seal.from_bytes(trailer["seals"][1].encode()).digest
    for seals in (
        [trailer["seals"][0], *trailer["seals"][2:]],
        [trailer["seals"][0].replace('"last":3', '"last":2'), *trailer["seals"][1:]],
        [trailer["seals"][0], trailer["seals"][1].replace(digest, "00" * 32), *trailer["seals"][2:]],
        [foreign],
        ["{}"],
    ):
        text = msgspec.json.encode({**trailer, "seals": seals}) + b"\n"
        assert "seal" in {one.kind for one in checked([*lines[:-1], text]).findings}


async def test_a_gateway_without_a_key_says_what_its_export_cannot_show(world):
    del world.module.keys[KeySlot.WAN_SIG]
    lines = await exported(world)
    verdict = checked(lines)
    assert verdict.findings == []
    assert not verdict.signed
    assert any("cannot be noticed" in one for one in verdict.limits)
    lines[3] = lines[3].replace(b"entry", b"entri")
    assert checked(lines).first_broken == 3


async def test_with_a_root_an_export_without_a_certificate_or_a_key_is_refused(world):
    """Whoever makes a file anew leaves out what would name him."""
    lines = await exported(world, 3)

    def nobody(_certificates, _at_utc, _gateway):
        raise AssertionError("there is no certificate to look at")

    (finding,) = check_export(b"".join(lines), verify, nobody).findings
    assert finding.kind == "certificate"
    header = json.loads(lines[0])
    header["point"] = header["curve"] = ""
    trailer = json.loads(lines[-1])
    trailer |= {"seals": [], "digests": [], "closing": ""}
    made_anew = [json.dumps(header).encode() + b"\n", *lines[1:-1], json.dumps(trailer).encode() + b"\n"]
    assert checked(made_anew).ok  # nothing else could show it
    verdict = check_export(b"".join(made_anew), verify, nobody)
    assert [one.kind for one in verdict.findings] == ["certificate"]
    assert verdict.certified is False


@pytest.mark.parametrize(("name", "ok"), [(GATEWAY, True), ("esgw0100000002", False)])
async def test_with_a_root_the_certificate_is_of_the_gateway_that_the_export_names(world, module, name, ok):
    """Another gateway of the same PKI, whoever owns it, signs no log of this one."""
    pki = tree(Curve.BRAINPOOL_P256)
    chain = pki.tls(module.keys[KeySlot.WAN_SIG], use=CertificateUse.SIG)
    certificates = tuple(one.to_pem().decode() for one in chain)
    clock = AdjustableClock(max(one.not_before_utc for one in [*chain, *pki.anchors]) + timedelta(minutes=1))
    reader = LogReader(world.logs, clock, name, signer=world.sealer, certificates=certificates)
    await world.fill(3)
    verdict = check_export(await reader.export(GWA, LogKind.SYSTEM), verify, _path_to(pki.anchors))
    assert (verdict.certified, verdict.signed) == (ok, True)
    assert [one.text for one in verdict.findings] == (
        [] if ok else ["the certificate is of ESGW0100000001.SMGW, the log of esgw0100000002"]
    )


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"\xff\xfe", b"[" * 100_000, b'{"format":"x"}\n'])
def test_what_is_no_export_is_refused(data):
    assert [one.kind for one in check_export(data, verify).findings] == ["form"]
