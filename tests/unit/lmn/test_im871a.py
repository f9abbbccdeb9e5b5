from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmn.errors import LmnError, MalformedFrame, UnexpectedMessage
from lmn.wmbus.link import ReceivedFrame, StickState, StickStatistics
from lmn.wmbus.sticks.im871a import (
    DEVICE_INFO,
    GAP_S,
    PING,
    RADIO_INDICATION,
    Endpoint,
    Im871a,
    LinkMode,
    Message,
    build_message,
    set_link_mode,
)
from lmn.wmbus.sticks.im871a_config import DeviceInformation, SetConfiguration

PONG = bytes.fromhex("A58102004CA3")
CONFIG_SET = bytes.fromhex("A58104009CF7")
INFO = build_message(
    Endpoint.MANAGEMENT, Message.DEVICE_INFO_ANSWER, bytes.fromhex("3300131634120050"), crc=True
)
TELEGRAM = bytes((0x20,)) + bytes(range(0x20))


def indication(telegram: bytes = TELEGRAM, rssi: int | None = 95) -> bytes:
    return build_message(Endpoint.RADIO, RADIO_INDICATION, telegram[1:], crc=True, timestamp=7, rssi=rssi)


def listening() -> Im871a:
    core = Im871a(StickStatistics())
    assert core.start() == PING
    for answer in (PONG, INFO, CONFIG_SET):
        assert core.receive(answer, 0.0) == []
    assert core.state is StickState.LISTENING
    return core


def test_messages_as_published() -> None:
    assert bytes.fromhex("A5010100") == PING
    assert bytes.fromhex("A5010F00") == DEVICE_INFO
    assert set_link_mode(LinkMode.T1) == bytes.fromhex("A5010306000203300101")
    assert build_message(1, 2, crc=True) == PONG
    assert build_message(1, 4, crc=True) == CONFIG_SET
    with pytest.raises(ValueError, match="256"):
        build_message(1, 1, bytes(256))


def test_the_talk() -> None:
    statistics = StickStatistics()
    core = Im871a(statistics, LinkMode.T1)
    core.receive(indication(), 0.0)  # it was listening already, in a mode that nobody knows
    assert statistics.dropped == 1
    core.receive(PONG, 0.0)
    assert core.to_send() == DEVICE_INFO
    core.receive(INFO, 0.0)
    assert core.to_send() == set_link_mode(LinkMode.T1)
    assert core.to_send() == b""
    core.receive(CONFIG_SET, 0.0)
    assert statistics.device == "iM871A type 33 id 50001234"
    assert core.receive(indication(), 5.0) == [ReceivedFrame(TELEGRAM, 5.0, -76, "T1")]
    assert (statistics.frames, statistics.link_mode, statistics.last_byte_at) == (1, "T1", 5.0)


@pytest.mark.parametrize(
    "answer", [PONG, INFO, CONFIG_SET, build_message(2, 9, crc=True), build_message(1, 0x77, crc=True)]
)
def test_answers_nobody_asked_for(answer: bytes) -> None:
    with pytest.raises(UnexpectedMessage):
        listening().receive(answer, 0.0)


def test_telegrams_in_front_of_a_wrong_answer_are_not_lost() -> None:
    core = listening()
    assert len(core.receive(indication() + PONG + indication(), 0.0)) == 1
    with pytest.raises(UnexpectedMessage):
        core.to_send()
    with pytest.raises(UnexpectedMessage):
        core.receive(indication(), 0.0)


def test_out_of_order_answer() -> None:
    with pytest.raises(UnexpectedMessage):
        Im871a(StickStatistics()).receive(CONFIG_SET, 0.0)


def test_the_first_byte_counts() -> None:
    core = listening()
    message = indication()
    assert core.receive(message[:1], 1.0) == []
    assert core.receive(message[1:20], 1.1) == []
    frames = core.receive(message[20:] + message[:7], 1.2)
    frames += core.receive(message[7:], 1.3)
    assert [frame.first_byte_at for frame in frames] == [1.0, 1.2]


@given(
    st.lists(
        st.sampled_from(
            [
                indication(),
                b"\xa5",
                b"\x00\x17",
                b"\xa5\xa5\xe2",
                indication()[:9],
                indication()[:-1] + b"\x00",
            ]
        ),
        max_size=8,
    ),
    st.data(),
)
def test_cuts_do_not_matter(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces) + bytes(300)  # enough to complete what garbage has begun
    whole = listening()
    expected = whole.receive(stream, 1.0)
    cut = listening()
    got: list[ReceivedFrame] = []
    position = 0
    while position < len(stream):
        size = data.draw(st.integers(1, 60))
        got += cut.receive(stream[position : position + size], 1.0)
        position += size
    assert got == expected
    assert cut.statistics == whole.statistics


def test_garbage_before_between_and_after() -> None:
    core = listening()
    noise = bytes.fromhex("0017A5A501FFA5E203")
    frames = core.receive(noise[:-3] + indication() + b"\x01\x02" + indication(), 1.0)
    assert [frame.data for frame in frames] == [TELEGRAM, TELEGRAM]
    assert core.statistics.garbage_bytes > 0


def test_a_wrong_checksum_is_counted_and_skipped() -> None:
    core = listening()
    damaged = bytearray(indication())
    damaged[10] ^= 1
    assert [f.data for f in core.receive(bytes(damaged) + indication(), 1.0)] == [TELEGRAM]
    assert core.statistics.crc_failures == 1


def test_a_message_that_never_ends_does_not_swallow_the_next() -> None:
    core = listening()
    assert core.receive(b"\xa5\xe2\x03\xff" + bytes(10), 1.0) == []
    frames = core.receive(indication(), 1.0 + 2 * GAP_S)
    assert [frame.data for frame in frames] == [TELEGRAM]
    assert frames[0].first_byte_at == 1.0 + 2 * GAP_S


@pytest.mark.parametrize("cut", range(1, len(indication())))
def test_a_telegram_whose_end_a_busy_host_reads_late_is_heard(cut: int) -> None:
    core = listening()
    whole = indication()
    assert core.receive(whole[:cut], 1.0) == []
    frames = core.receive(whole[cut:] + whole, 1.0 + 2 * GAP_S)
    assert [frame.data for frame in frames] == [TELEGRAM, TELEGRAM]
    assert frames[0].first_byte_at == 1.0
    assert core.statistics.garbage_bytes == 0


@pytest.mark.parametrize("cut", range(1, len(indication())))
def test_a_telegram_cut_off_by_a_pause_costs_itself_alone(cut: int) -> None:
    core = listening()
    assert core.receive(indication()[:cut], 1.0) == []
    assert [frame.data for frame in core.receive(indication(), 1.0 + 2 * GAP_S)] == [TELEGRAM]


def test_the_inbox_is_bounded() -> None:
    core = listening()
    for _ in range(2000):
        core.receive(b"\xa5\xe2\x03\xff\x00\xa5\xa5", 1.0)
        assert len(core._inbox.data) <= 266 + 7
        assert len(core._inbox._reads) <= 266 + 7


def test_hostile_bytes_give_frames_or_a_named_error() -> None:
    rng = random.Random(4)
    good = [PONG, INFO, CONFIG_SET, indication(), indication(rssi=None)]
    core = Im871a(StickStatistics())
    for number in range(10_000):
        data = bytearray(rng.choice(good))
        for _ in range(rng.randrange(3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            core.receive(bytes(data), number * 0.01)
        except LmnError:
            core = Im871a(StickStatistics())


def test_the_configuration_and_the_device_are_declared_both_ways() -> None:
    assert (
        SetConfiguration.from_payload(SetConfiguration(LinkMode.C1_A).to_payload()).link_mode == LinkMode.C1_A
    )
    device = DeviceInformation(module=0x33, role=0, firmware=0x13, hci=0x16, device_id=0x50001234)
    assert device.to_payload().hex() == "3300131634120050"
    assert DeviceInformation.from_payload(device.to_payload() + b"\x01\x02") == device


@pytest.mark.parametrize("cut", range(8))
def test_a_device_answer_that_is_cut_off_is_named(cut: int) -> None:
    with pytest.raises(MalformedFrame):
        DeviceInformation.from_payload(bytes(cut))


@pytest.mark.parametrize("payload", ["", "000203300101ff", "010203300101", "0002033001"])
def test_another_configuration_is_refused(payload: str) -> None:
    with pytest.raises(MalformedFrame):
        SetConfiguration.from_payload(bytes.fromhex(payload))
