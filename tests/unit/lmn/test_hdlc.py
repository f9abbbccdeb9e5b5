from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmn.crc import crc16_x25
from lmn.errors import ChecksumMismatch, LmnError, MalformedFrame, UnexpectedMessage
from lmn.wired.discovery import Addresses, Discovered, Discovery
from lmn.wired.hdlc import MAX_INFORMATION, HdlcDeframer, HdlcFrame, Kind
from lmn.wired.link import Primary, Secondary, State

FRAMES = st.builds(
    HdlcFrame,
    destination=st.integers(0, 0x3FFF),
    source=st.integers(0, 0x3FFF),
    kind=st.sampled_from(Kind),
    information=st.one_of(st.binary(max_size=60), st.just(b"\x7e" * 20), st.just(b"\x7e\xa0\x09")),
    poll=st.booleans(),
    segmented=st.booleans(),
)


@given(FRAMES, st.integers(0, 7), st.integers(0, 7))
def test_a_frame_comes_back(frame: HdlcFrame, send: int, receive: int) -> None:
    numbered = HdlcFrame(
        frame.destination, frame.source, frame.kind, frame.information,
        send if frame.kind is Kind.INFORMATION else 0,
        receive if frame.kind in (Kind.INFORMATION, Kind.RECEIVE_READY, Kind.RECEIVE_NOT_READY) else 0,
        frame.poll, frame.segmented,
    )  # fmt: skip
    assert HdlcFrame.from_bytes(numbered.to_bytes()) == numbered


def test_checksum_of_a_published_frame() -> None:
    """A set-normal-mode command of another profile, from the notes; only its checksum is of this form."""
    inner = bytes.fromhex("A020204127930C0C81801305018006020200070400000001080400000001")
    assert crc16_x25(inner).to_bytes(2, "little").hex() == "b4f9"


def test_the_form_is_as_written() -> None:
    raw = HdlcFrame(3, 1, Kind.SET_NORMAL_MODE).to_bytes()
    assert raw[:8].hex() == "7ea0090007000393"
    assert len(HdlcFrame(3, 1, Kind.INFORMATION, bytes(MAX_INFORMATION)).to_bytes()) == 2047
    assert HdlcFrame(3, 1, Kind.INFORMATION, bytes(MAX_INFORMATION)).to_bytes()[1:3].hex() == "a7fd"
    with pytest.raises(ValueError, match="2034"):
        HdlcFrame(3, 1, Kind.INFORMATION, bytes(MAX_INFORMATION + 1)).to_bytes()
    with pytest.raises(ValueError, match="14 bits"):
        HdlcFrame(1 << 14, 1, Kind.DISCONNECT).to_bytes()


@given(st.lists(st.one_of(FRAMES.map(HdlcFrame.to_bytes), st.binary(max_size=20)), max_size=8), st.data())
def test_cuts_do_not_matter(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    at_once = HdlcDeframer().receive(stream)
    cut, found, place = HdlcDeframer(), [], 0
    while place < len(stream):
        step = data.draw(st.integers(1, 9))
        found += cut.receive(stream[place : place + step])
        place += step
    assert found == at_once


def test_frames_are_found_in_garbage_and_share_a_flag() -> None:
    one, two = HdlcFrame(3, 1, Kind.RECEIVE_READY), HdlcFrame(1, 3, Kind.INFORMATION, b"\x7e\xa0\x09x")
    stream = b"\x00\x7e\x7e\x12" + one.to_bytes() + two.to_bytes()[1:] + b"\x7e\x12"
    assert HdlcDeframer().receive(stream) == [one, two]


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", MalformedFrame),
        (HdlcFrame(3, 1, Kind.DISCONNECT).to_bytes()[:-1] + b"\x00", MalformedFrame),
        (b"\x7e" + bytes(9) + b"\x7e", MalformedFrame),
    ],
)
def test_bytes_that_are_no_frame(raw: bytes, error: type[LmnError]) -> None:
    with pytest.raises(error):
        HdlcFrame.from_bytes(raw)


@pytest.mark.parametrize("place", range(1, 15))
def test_every_damaged_byte_is_noticed(place: int) -> None:
    raw = bytearray(HdlcFrame(3, 1, Kind.INFORMATION, b"abc").to_bytes())
    raw[place] ^= 4
    with pytest.raises(LmnError):
        HdlcFrame.from_bytes(bytes(raw))


def sealed(inner: bytes) -> bytes:
    return b"\x7e" + inner + crc16_x25(inner).to_bytes(2, "little") + b"\x7e"


@pytest.mark.parametrize("control", [0x87, 0x09, 0x0D, 0xEF])
def test_control_bytes_outside_the_command_set(control: int) -> None:
    with pytest.raises(MalformedFrame):
        HdlcFrame.from_bytes(sealed(bytes.fromhex("a00900070003") + bytes((control,))))


def test_header_checksum_and_addresses() -> None:
    head = bytes.fromhex("a00e0007000310")
    with pytest.raises(ChecksumMismatch, match="HCS"):
        HdlcFrame.from_bytes(sealed(head + b"\x00\x00abc"))
    with pytest.raises(MalformedFrame, match="address"):
        HdlcFrame.from_bytes(sealed(bytes.fromhex("a0090107000393")))


# ------------------------------------------------------------------ the link


def linked() -> tuple[Primary, Secondary]:
    primary, secondary = Primary(1, 3), Secondary(3)
    primary.connect()
    assert turn(primary, secondary) == (b"", b"")
    assert (primary.state, secondary.state) == (State.CONNECTED, State.CONNECTED)
    return primary, secondary


def turn(primary: Primary, secondary: Secondary, *, lose: str = "") -> tuple[bytes, bytes]:
    """One command and its answer; what each side got."""
    command = primary.command()
    if lose == "command":
        return b"", b""
    brought, answer = secondary.receive(command)
    if answer is None and secondary.asked is not None:
        answer = secondary.answer()
    if answer is None or lose == "answer":
        return brought, b""
    return brought, primary.receive(answer)


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "", "command", "answer"]), st.booleans(), st.booleans()), max_size=60
    )
)
def test_nothing_is_lost_doubled_or_disordered(turns: list[tuple[str, bool, bool]]) -> None:
    primary, secondary = linked()
    down = up = 0
    to_meter, to_gateway = b"", b""
    for lose, send_down, send_up in turns:
        if send_down:
            primary.send(bytes((down,)))
            down += 1
        if send_up:
            secondary.send(bytes((up,)))
            up += 1
        brought, got = turn(primary, secondary, lose=lose)
        to_meter += brought
        to_gateway += got
    while not (primary.idle and secondary.idle):
        brought, got = turn(primary, secondary)
        to_meter += brought
        to_gateway += got
    assert to_meter == bytes(range(down))
    assert to_gateway == bytes(range(up))


def test_long_data_is_cut_into_frames() -> None:
    primary, secondary = linked()
    data = bytes(range(256)) * 20
    primary.send(data)
    got = b""
    while not primary.idle:
        got += turn(primary, secondary)[0]
    assert got == data


def test_segments_are_put_together() -> None:
    primary, _ = linked()
    assert primary.receive(HdlcFrame(1, 3, Kind.INFORMATION, b"ab", 0, 0, segmented=True)) == b""
    assert primary.receive(HdlcFrame(1, 3, Kind.INFORMATION, b"cd", 1, 0)) == b"abcd"


def test_a_busy_station_is_asked_until_it_is_ready() -> None:
    primary, secondary = linked()
    primary.send(b"x")
    secondary.not_ready = True
    assert turn(primary, secondary) == (b"", b"")
    assert primary.busy
    assert primary.command().kind is Kind.RECEIVE_READY
    secondary.not_ready = False
    turn(primary, secondary)
    assert turn(primary, secondary)[0] == b"x"


def test_a_station_without_a_link_says_so() -> None:
    primary, secondary = linked()
    secondary.receive(HdlcFrame(3, 1, Kind.DISCONNECT))
    turn(primary, secondary)
    assert primary.state is State.DISCONNECTED
    with pytest.raises(UnexpectedMessage):
        primary.command()


def test_disconnecting() -> None:
    primary, secondary = linked()
    primary.disconnect()
    turn(primary, secondary)
    assert (primary.state, secondary.state) == (State.DISCONNECTED, State.DISCONNECTED)


@pytest.mark.parametrize(
    "frame",
    [
        HdlcFrame(1, 3, Kind.ACKNOWLEDGE),
        HdlcFrame(1, 3, Kind.SET_NORMAL_MODE),
        HdlcFrame(1, 3, Kind.RECEIVE_READY, receive_number=4),
        HdlcFrame(1, 3, Kind.INFORMATION, b"x", 5, 0),
    ],
    ids=lambda frame: f"{frame.kind.name}-{frame.receive_number}",
)
def test_what_a_state_does_not_allow_ends_the_link(frame: HdlcFrame) -> None:
    primary, _ = linked()
    with pytest.raises(UnexpectedMessage):
        primary.receive(frame)
    assert primary.state is State.DISCONNECTED


def test_a_secondary_answers_nonsense_with_disconnected_mode() -> None:
    _, secondary = linked()
    _, answer = secondary.receive(HdlcFrame(3, 1, Kind.INFORMATION, b"x", 5, 0))
    assert answer is not None
    assert answer.kind is Kind.DISCONNECTED_MODE


def test_frames_of_others_are_left_alone() -> None:
    primary, secondary = linked()
    assert primary.receive(HdlcFrame(1, 4, Kind.INFORMATION, b"x", 0, 0)) == b""
    assert secondary.receive(HdlcFrame(4, 1, Kind.DISCONNECT)) == (b"", None)
    assert secondary.state is State.CONNECTED


def test_what_waits_is_bounded() -> None:
    primary, _ = linked()
    with pytest.raises(UnexpectedMessage):
        primary.send(bytes(70_000))
    segments = [HdlcFrame(1, 3, Kind.INFORMATION, bytes(2034), n % 8, 0, segmented=True) for n in range(40)]
    with pytest.raises(UnexpectedMessage):
        [primary.receive(segment) for segment in segments]


# ------------------------------------------------------------------ discovery


def test_meters_are_found_and_named() -> None:
    addresses = Addresses()
    gateway = Discovery(addresses)
    meters = [Discovered(addresses, bytes((number,)) * 10) for number in range(5)]
    for meter in meters:
        assert meter.slots(gateway.call(8)) == 8
        server_id = gateway.heard(meter.answer())
        assert server_id is not None
        naming = gateway.name(server_id)
        assert naming is not None
        assert [each.take(naming) for each in meters] == [each is meter for each in meters]
    assert [meter.address for meter in meters] == [3, 4, 5, 6, 7]
    assert all(meter.slots(gateway.call(8)) is None for meter in meters)
    gateway.forget(bytes(10))
    fresh = gateway.name(b"\x09" * 10)
    assert fresh is not None
    assert fresh.information[-1] == 3


def test_a_meter_that_still_has_a_name_is_released() -> None:
    gateway, meter = Discovery(Addresses()), Discovered(Addresses(), bytes(10))
    naming = gateway.name(bytes(10))
    assert naming is not None
    assert meter.take(naming)
    assert not meter.released(gateway.release(b"\x01" * 10))
    assert not meter.released(naming)
    assert meter.slots(gateway.call(8)) is None
    assert meter.released(gateway.release(bytes(10)))
    assert meter.slots(gateway.call(8)) == 8


def test_addresses_run_out() -> None:
    gateway = Discovery(Addresses(first=3, last=4))
    assert [gateway.name(bytes((n,)) * 10) is not None for n in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    "frame",
    [
        HdlcFrame(1, 2, Kind.UNNUMBERED_INFORMATION, b"\x02" + bytes(9)),
        HdlcFrame(1, 3, Kind.UNNUMBERED_INFORMATION, b"\x02" + bytes(10)),
        HdlcFrame(1, 2, Kind.UNNUMBERED_INFORMATION, b"\x03" + bytes(10)),
        HdlcFrame(1, 2, Kind.INFORMATION, b"\x02" + bytes(10)),
    ],
)
def test_other_frames_announce_nobody(frame: HdlcFrame) -> None:
    assert Discovery(Addresses()).heard(frame) is None


@pytest.mark.parametrize("numbers", [(1, 1, 127), (3, 2, 127), (1, 2, 126)])
def test_roles_do_not_share_an_address(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="role"):
        Addresses(*numbers)


def test_a_server_id_has_ten_bytes() -> None:
    with pytest.raises(ValueError, match="ten"):
        Discovered(Addresses(), b"x")
