"""What a pause on a stick's line costs: no telegram that is whole, and no mixture, wherever it falls."""

from __future__ import annotations

import random

import pytest

from lmn.wmbus.cutter import Cutter
from lmn.wmbus.inbox import Inbox
from lmn.wmbus.kinds import KINDS
from lmn.wmbus.link import StickCore, StickState, StickStatistics
from lmn.wmbus.sticks import amb8465, im871a, iu891a, rc1180
from lmn.wmbus.sticks.bare import GAP_S, Bare
from tools.counterparts.meter_wmbus import ElectricityMeter

METER = ElectricityMeter(seed=21)
FIRST, SECOND = METER.telegram(), METER.telegram()
LATE = 1.0 + 2 * GAP_S
SIGNAL = b"\x20"


def amb(*, commands: bool, signal: bool) -> StickCore:
    core = amb8465.Amb8465(StickStatistics())
    core.start()
    memory = bytearray(amb8465.MEMORY_BYTES)
    memory[amb8465.AT_COMMAND_OUT], memory[amb8465.AT_SIGNAL] = commands, signal
    core.receive(amb8465.build_command(0x8A, b"\x00\x80" + memory), 0.0)
    core.receive(amb8465.build_command(0x84, b"\x00"), 0.0)
    return core


def rc(*, signal: bool) -> StickCore:
    core = rc1180.Rc1180(StickStatistics())
    core.start()
    memory = bytearray(rc1180.MEMORY_BYTES)
    memory[rc1180.AT_SIGNAL] = signal
    core.receive(b">", 0.0)
    core.receive(bytes(memory) + b">", 0.0)
    return core


def iu() -> StickCore:
    core = iu891a.Iu891a(StickStatistics())
    core.start()
    core.receive(iu891a.build_message(1, 4, b"\x00" + bytes(9)), 0.0)
    core.receive(iu891a.build_message(9, 2, b"\x00\x03\x00"), 0.0)
    core.receive(iu891a.build_message(9, 4, b"\x00"), 0.0)
    return core


def im() -> StickCore:
    core = im871a.Im871a(StickStatistics())
    core.start()
    for message in (im871a.Message.PING_ANSWER, im871a.Message.DEVICE_INFO_ANSWER, 4):
        core.receive(im871a.build_message(im871a.Endpoint.MANAGEMENT, message, crc=True), 0.0)
    return core


def as_indication(telegram: bytes) -> bytes:
    return im871a.build_message(2, im871a.RADIO_INDICATION, telegram[1:], crc=True, timestamp=7, rssi=95)


def as_command(telegram: bytes, signal: bytes = b"") -> bytes:
    return amb8465.build_command(amb8465.Command.DATA, telegram[1:] + signal)


LINES = {
    "amb8465 commands": (lambda: amb(commands=True, signal=False), as_command),
    "amb8465 commands, signal": (
        lambda: amb(commands=True, signal=True),
        lambda telegram: as_command(telegram, SIGNAL),
    ),
    "amb8465 bare": (lambda: amb(commands=False, signal=False), bytes),
    "amb8465 bare, signal": (lambda: amb(commands=False, signal=True), lambda each: each + SIGNAL),
    "rc1180": (lambda: rc(signal=False), bytes),
    "rc1180, signal": (lambda: rc(signal=True), lambda each: each + SIGNAL),
    "im871a": (im, as_indication),
    "iu891a": (iu, lambda each: iu891a.build_message(9, 0x20, bytes(8) + each)),
}
every_line = pytest.mark.parametrize("line", LINES)


def heard(core: StickCore, data: bytes, at: float) -> list[tuple[bytes, float]]:
    """Feed one read; if that leaves something open, say that nothing followed, as the driver does."""
    frames = core.receive(data, at)
    if core.undecided:
        frames += core.receive(b"", at + 0.1)
    return [(frame.data, frame.first_byte_at) for frame in frames]


@every_line
def test_a_telegram_whose_end_is_read_late_is_heard(line: str) -> None:
    make, wrap = LINES[line]
    whole = wrap(FIRST)
    for cut in range(1, len(whole)):
        core = make()
        assert core.state is StickState.LISTENING
        assert heard(core, whole[:cut], 1.0) == []
        assert heard(core, whole[cut:], LATE) == [(FIRST, 1.0)], cut
        assert not core.undecided
        assert heard(core, wrap(SECOND), LATE + 0.2) == [(SECOND, LATE + 0.2)]


@every_line
def test_a_late_end_with_the_next_telegrams_behind_it(line: str) -> None:
    make, wrap = LINES[line]
    whole = wrap(FIRST)
    for cut in range(1, len(whole)):
        core = make()
        assert heard(core, whole[:cut], 1.0) == []
        behind = whole[cut:] + wrap(SECOND) + wrap(FIRST)
        assert [data for data, _ in heard(core, behind, LATE)] == [FIRST, SECOND, FIRST], cut


@every_line
def test_a_telegram_that_was_cut_off_costs_itself_alone(line: str) -> None:
    make, wrap = LINES[line]
    whole = wrap(FIRST)
    for cut in range(1, len(whole)):
        core = make()
        assert heard(core, whole[:cut], 1.0) == []
        *before, last = heard(core, wrap(SECOND), LATE)
        assert last == (SECOND, LATE), cut
        only_a_mark_is_missing = line == "iu891a" and cut == len(whole) - 1
        assert before == ([(FIRST, 1.0)] if only_a_mark_is_missing else []), cut


@every_line
def test_the_next_one_in_pieces_is_never_mixed_into_one_that_was_cut_off(line: str) -> None:
    """As a host reads that is not busy: a few bytes first, then the rest."""
    make, wrap = LINES[line]
    whole, following = wrap(FIRST), wrap(SECOND)
    for cut in range(1, len(whole)):
        for piece in (1, 2, 3, 7, 16):
            core = make()
            assert heard(core, whole[:cut], 1.0) == []
            frames = core.receive(following[:piece], LATE)  # the rest comes before the driver asks again
            frames += core.receive(following[piece:], LATE + 0.01)
            if core.undecided:
                frames += core.receive(b"", LATE + 0.2)
            assert SECOND in [frame.data for frame in frames], (cut, piece)
            assert {frame.data for frame in frames} <= {FIRST, SECOND}, (cut, piece)


@pytest.mark.parametrize("line", ["im871a", "iu891a", "amb8465 commands", "amb8465 commands, signal"])
def test_several_pauses_inside_one_telegram(line: str) -> None:
    make, wrap = LINES[line]
    rng = random.Random(line)
    whole = wrap(FIRST)
    for _ in range(50):
        core, at, found, start = make(), 1.0, list[bytes](), 0
        for end in [*sorted(rng.sample(range(1, len(whole)), 3)), len(whole)]:
            found += [data for data, _ in heard(core, whole[start:end], at)]
            start, at = end, at + 2 * GAP_S
        found += [data for data, _ in heard(core, wrap(SECOND), at)]
        assert found == [FIRST, SECOND]


def test_what_looks_like_a_beginning_is_one_only_if_it_is_whole() -> None:
    """A tail that reads as L and C of a telegram of its own: only the one that ends with the bytes counts."""
    statistics = StickStatistics()
    inbox = Inbox(statistics, GAP_S)
    cutter = Cutter(inbox, Bare(signal=False), statistics)
    tail = bytes((9, 0x44)) + bytes(8)  # a whole little telegram by itself
    outer = bytes((39, 0x44)) + bytes(19) + tail + b"\xff" * 9
    inbox.add(outer[:21], 1.0)
    inbox.add(outer[21:], LATE)
    assert [cut.data for cut in cutter.take()] == [outer]
    inbox.add(outer[:21], 3.0)
    inbox.add(tail, 3.0 + 2 * GAP_S)
    assert [cut.data for cut in cutter.take()] == [tail]
    assert statistics.garbage_bytes == 21


def test_every_core_says_whether_it_is_undecided() -> None:
    for kind in KINDS.values():
        core = kind.make(StickStatistics(), kind.modes[0])
        assert core.undecided is False
        assert core.farewell() == (rc1180.LEAVE if kind.name == "rc1180" else b"")
