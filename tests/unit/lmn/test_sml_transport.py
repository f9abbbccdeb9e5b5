from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmn.crc import crc16_x25
from lmn.errors import ChecksumMismatch, LengthMismatch, LmnError, MalformedFrame
from lmn.sml.transport import (
    ESCAPE,
    START,
    ReceivedSml,
    SmlDeframer,
    TransportStatistics,
    contents,
    one_frame,
    to_frame,
)
from tests.support.sml_frames import frame

PIECES = st.sampled_from([b"\x1b", b"\x1b" * 4, b"\x1a", b"\x01" * 4, b"\x00", b"abc", START])
BODIES = st.lists(PIECES, max_size=12).map(b"".join)


def intact(found: list[ReceivedSml | LmnError]) -> list[bytes]:
    return [each.data for each in found if isinstance(each, ReceivedSml)]


def refused(found: list[ReceivedSml | LmnError]) -> list[LmnError]:
    return [each for each in found if isinstance(each, LmnError)]


@given(BODIES)
def test_what_was_wrapped_comes_out(body: bytes) -> None:
    padded = body + bytes(-len(body) % 4)
    assert padded in contents(one_frame(to_frame(body)).data)


@given(st.lists(st.one_of(PIECES, st.binary(max_size=8), BODIES.map(to_frame)), max_size=10), st.data())
def test_cuts_do_not_matter(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    whole = SmlDeframer()
    at_once = whole.receive(stream)
    cut = SmlDeframer()
    found: list[ReceivedSml | LmnError] = []
    place = 0
    while place < len(stream):
        step = data.draw(st.integers(1, 9))
        found += cut.receive(stream[place : place + step])
        place += step
    assert intact(found) == intact(at_once)
    assert [str(each) for each in refused(found)] == [str(each) for each in refused(at_once)]
    assert [str(e) for e in whole.finish()] == [str(e) for e in cut.finish()]
    assert whole.statistics.rejected == cut.statistics.rejected


def test_frames_are_found_between_garbage() -> None:
    statistics = TransportStatistics()
    found = SmlDeframer(statistics).receive(b"garbage\x1b\x1b" + frame() + b"\x00\xff" + frame() + b"\x1b")
    assert intact(found) == [frame(), frame()]
    assert refused(found) == []
    assert (statistics.frames, statistics.rejected, statistics.garbage_bytes) == (2, 0, 11)


def test_a_byte_that_changed_rejects_one_frame_only() -> None:
    broken = bytearray(frame())
    broken[40] ^= 0x10
    found = SmlDeframer().receive(frame() + bytes(broken) + frame())
    assert intact(found) == [frame()] * 2
    assert [type(each) for each in refused(found)] == [ChecksumMismatch]


@pytest.mark.parametrize("lost", [30, 31, 32, 33, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_bytes_that_are_lost_reject_one_frame_only(lost: int, count: int) -> None:
    whole = frame()
    found = SmlDeframer().receive(whole[:lost] + whole[lost + count :] + whole)
    assert intact(found) == [whole]
    assert len(refused(found)) == 1


def test_a_frame_cut_off_is_broken_off_by_the_next() -> None:
    found = SmlDeframer().receive(frame()[:50] + frame())
    assert intact(found) == [frame()]
    assert [type(each) for each in refused(found)] == [LengthMismatch]


def test_an_unfinished_frame_at_the_end_is_no_error() -> None:
    deframer = SmlDeframer()
    assert deframer.receive(frame()[:-1]) == []
    assert deframer.finish() == []


def test_a_shifted_end_at_the_end_is_one() -> None:
    whole = frame()
    deframer = SmlDeframer()
    assert deframer.receive(whole[:30] + whole[31:]) == []
    assert [type(each) for each in deframer.finish()] == [LengthMismatch]


@given(st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=40), st.data())
def test_cuts_do_not_matter_where_frames_are_too_long(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts) * 3
    at_once = SmlDeframer(max_bytes=64).receive(stream)
    cut = SmlDeframer(max_bytes=64)
    found: list[ReceivedSml | LmnError] = []
    place = 0
    while place < len(stream):
        step = data.draw(st.integers(1, 30))
        found += cut.receive(stream[place : place + step])
        place += step
    assert [str(each) for each in found] == [str(each) for each in at_once]


@pytest.mark.parametrize("flood", [START, ESCAPE, b"\x1b", b"\x00", START + b"\x00" * 50, ESCAPE * 2 + START])
def test_a_flood_is_bounded(flood: bytes) -> None:
    deframer = SmlDeframer(max_bytes=1000)
    stream = flood * (20_000 // len(flood))
    for place in range(0, len(stream), 333):
        deframer.receive(stream[place : place + 333])
        assert len(deframer._inbox) <= 1000 + 333
        assert len(deframer._began_at) <= 1001
    assert intact(deframer.receive(b"\xff" * 1000 + frame())) == [frame()]


def test_the_time_is_that_of_the_first_byte() -> None:
    deframer = SmlDeframer()
    whole = frame()
    deframer.receive(b"xx", 1.0)
    deframer.receive(whole[:3], 2.0)
    deframer.receive(whole[3:20], 3.0)
    (first, second) = deframer.receive(whole[20:] + whole, 4.0)
    assert isinstance(first, ReceivedSml)
    assert isinstance(second, ReceivedSml)
    assert (first.first_byte_at, second.first_byte_at) == (2.0, 4.0)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", MalformedFrame),
        (b"\x00" + frame(), MalformedFrame),
        (frame()[:-1], LengthMismatch),
        (frame() + b"\x00", LengthMismatch),
        (frame()[:-1] + b"\x00", ChecksumMismatch),
        (START, LengthMismatch),
    ],
)
def test_one_frame_says_what_is_wrong(data: bytes, error: type[LmnError]) -> None:
    with pytest.raises(LmnError) as caught:
        one_frame(data)
    assert type(caught.value) is error


def test_both_habits_of_doubling_are_read() -> None:
    body = b"\x00\x00" + ESCAPE + b"\x00\x00"  # not on a word: one sender doubles it, another does not
    plain = START + body + ESCAPE + b"\x1a\x00"
    assert body in contents(plain + crc16_x25(plain).to_bytes(2, "little"))
    assert contents(to_frame(body)) == [body]


def test_an_escape_of_no_meaning_is_refused() -> None:
    with pytest.raises(MalformedFrame):
        contents(START + ESCAPE + b"\x02\x00\x00\x00" + ESCAPE + b"\x1a\x00\x00\x00")


def test_any_stream_gives_frames_or_named_errors() -> None:
    rng = random.Random(7)
    good = frame()
    for _ in range(3_000):
        stream = bytearray(good * 3)
        for _ in range(rng.randrange(8)):
            place = rng.randrange(len(stream))
            match rng.randrange(3):
                case 0:
                    stream[place] = rng.choice((0x1B, 0x1A, 0x01, rng.randrange(256)))
                case 1:
                    del stream[place : place + rng.randrange(1, 9)]
                case _:
                    stream[place:place] = rng.choice((START, ESCAPE, b"\x1b"))
        deframer = SmlDeframer()
        found: list[ReceivedSml | LmnError] = []
        while stream:
            cut = rng.randrange(1, 60)
            found += deframer.receive(bytes(stream[:cut]))
            del stream[:cut]
        assert all(data == good for data in intact(found))
