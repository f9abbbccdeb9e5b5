"""Errors become entries by one table: FAU_ARP.1, FAU_SAA.1; diagnostics tell nothing they must not."""

from __future__ import annotations

import io
import logging
from datetime import UTC, datetime

import pytest

from firmware import errors as firmware_errors
from firmware.clock.clock import AdjustableClock
from firmware.errors import Fault
from firmware.log import audit, diagnostics
from firmware.log.audit import FINDINGS, Audit, finding
from firmware.log.entry import Event, Level, LogKind, Outcome
from firmware.log.journal import Journal
from firmware.store.partition import Partition
from hsm import errors as hsm_errors
from lmn import errors as lmn_errors
from tests.unit.firmware.fixed_module import module_of
from wan import errors as wan_errors

FAMILIES = (hsm_errors, lmn_errors, wan_errors, firmware_errors)


@pytest.fixture
def clock():
    return AdjustableClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
async def journals(tmp_path, clock):
    async with await Partition.open(tmp_path / "system.db", "system", module_of()) as one:
        yield Journal(one, LogKind.SYSTEM, clock), Journal(one, LogKind.CALIBRATION, clock)


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for module in FAMILIES
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ],
    ids=lambda kind: kind.__name__,
)
def test_each_error_of_ours_has_a_finding_of_its_family(kind):
    family = next(base for base in kind.__mro__ if base.__name__.endswith("Error") and base in FINDINGS)
    nearest = next(base for base in kind.__mro__ if base in FINDINGS)
    assert issubclass(nearest, family)


@pytest.mark.parametrize(
    ("error", "event", "level"),
    [
        (hsm_errors.PinRefused("no", 1), Event.PIN_REFUSED, Level.FATAL),
        (hsm_errors.CommandRefused("SELECT", 0x6A82), Event.MODULE_FAILED, Level.ERROR),
        (lmn_errors.ChecksumMismatch("crc"), Event.TELEGRAM_REFUSED, Level.WARNING),
        (lmn_errors.MacRefused("mac"), Event.TELEGRAM_REFUSED, Level.ERROR),
        (wan_errors.PeerUnavailable("emp"), Event.PEER_UNAVAILABLE, Level.WARNING),
        (wan_errors.SignatureRefused("bad"), Event.AUTHENTICATION_FAILED, Level.WARNING),
        (firmware_errors.ReleaseRefused("recipient", "x"), Event.RELEASE_DENIED, Level.WARNING),
        (TimeoutError(), Event.SERVICE_RESTARTED, Level.WARNING),
        (ValueError("ours"), Event.STOP, Level.FATAL),
        (ExceptionGroup("g", [OSError(), hsm_errors.PinRefused("no", 1)]), Event.PIN_REFUSED, Level.FATAL),
    ],
)
def test_findings(error, event, level):
    assert (finding(error).event, finding(error).level) == (event, level)


async def test_an_error_is_logged_with_code_subject_and_words(journals, clock):
    system, calibration = journals
    one = Audit(system, calibration, clock)
    assert await one.note("lmn.wmbus", lmn_errors.CounterRefused("7 after 7")) == 1
    [found] = await system.entries()
    assert (found.event, found.outcome, found.sub_event) == (
        Event.TELEGRAM_REFUSED,
        Outcome.FAILURE,
        "counter",
    )
    assert (found.subject, found.text) == ("lmn.wmbus", "7 after 7")
    await one.note("store", firmware_errors.StoreCorrupt("record 3"))
    assert [entry.event for entry in await calibration.entries()] == [Event.STORE_CORRUPT]
    assert len(await system.entries()) == 2


async def test_what_the_log_did_not_take_is_logged_as_soon_as_it_can_be(journals, clock):
    """A full disk swallows the entry; the same fault a moment later is the first one, not a repetition."""
    system, _ = journals
    write, full = system.write, firmware_errors.StoreUnavailable("disk full")

    async def refuse(*_arguments, **_fields):
        raise full

    one = Audit(system, None, clock)
    system.write = refuse
    with pytest.raises(firmware_errors.StoreUnavailable):
        await one.note("firmware.flow.intake", full)
    system.write = write
    assert await one.note("firmware.flow.intake", full) == 1
    assert await one.note("firmware.flow.intake", full) is None


async def test_a_flood_is_counted_and_not_written(journals, clock):
    system, _ = journals
    one = Audit(system, None, clock)
    for _ in range(500):
        await one.note("lmn.wmbus", lmn_errors.MacRefused("mac"))
    await one.note("lmn.wmbus", lmn_errors.CounterRefused("counter"))
    await one.note("lmn.other", lmn_errors.MacRefused("mac"))
    assert len(await system.entries()) == 3
    clock.advance(audit.REPEAT_WINDOW_S)
    await one.note("lmn.wmbus", lmn_errors.MacRefused("mac"))
    assert (await system.entries())[-1].repeated == 499
    for n in range(3 * audit._MAX_REMEMBERED // 2):
        one._seen[("x", str(n))] = (0.0, 0)
    await one.note("lmn.new", lmn_errors.MacRefused("mac"))
    assert len(one._seen) <= audit._MAX_REMEMBERED


def test_foreign_errors_lend_their_class_only():
    assert audit.text(ValueError("key 0011")) == "ValueError"
    assert audit.text(FileNotFoundError(2, "No such file", "/secret/path")) == "No such file"
    assert audit.text(TimeoutError()) == "TimeoutError"
    assert audit.code(wan_errors.OrderRefused("version", "old")) == "version"
    assert audit.code(ExceptionGroup("g", [lmn_errors.MacRefused("x")])) == "mac"
    refused = firmware_errors.ConfigurationRefused([Fault("f", 3, "k", "a number")])
    assert audit.text(refused) == "f:3: k: a number"
    assert audit.text(ExceptionGroup("g", [refused, ValueError("key")])) == "f:3: k: a number; ValueError"


@pytest.fixture
def stream():
    stream = io.StringIO()
    yield stream
    diagnostics.configure(stream=io.StringIO())


def test_lines_have_time_level_logger_and_prefix(stream):
    diagnostics.configure("info", stream=stream, prefixes={"smgw.dcnet": diagnostics.INSECURE_SMALL_NET})
    diagnostics.configure("info", stream=stream, prefixes={"smgw.dcnet": diagnostics.INSECURE_SMALL_NET})
    logging.getLogger("smgw.dcnet.round").info("slot %d", 3)
    logging.getLogger("smgw.wan").warning("two\nlines \x1b[31m")
    logging.getLogger("smgw.wan").debug("not shown")
    diagnostics.prefixed(logging.getLogger("smgw.wan"), "gateway 1").info("hello %s", "there")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("Z INFO    smgw.dcnet.round [INSECURE small net] slot 3")
    assert lines[1].endswith("Z WARNING smgw.wan two\\nlines \\x1b[31m")
    assert lines[2].endswith("Z INFO    smgw.wan [gateway 1] hello there")
    assert len(lines) == 3


def test_a_traceback_shows_where_and_not_what(stream):
    diagnostics.configure("error", stream=stream)
    try:
        raise ValueError("key 00112233")
    except ValueError:
        logging.getLogger("smgw.hsm").exception("failed")
    assert f"failed [ValueError at {__name__}:" in stream.getvalue()
    assert "00112233" not in stream.getvalue()


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="debug"):
        diagnostics.configure("loud")
