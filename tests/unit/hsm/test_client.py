"""The terminal's operations: files in pieces, and cards whose answers are not what was asked for."""

from __future__ import annotations

import pytest

from hsm import curves, tlv
from hsm.apdu import ResponseApdu
from hsm.api import Curve, DataObject, KeySlot
from hsm.channel import Channel, Operation, T
from hsm.client import ModuleClient
from hsm.errors import CommandRefused, MalformedResponse, ModuleFailed
from tests.support.card import logged_in


def scripted(operation: Operation[T], *answers: bytes) -> T:
    """Run an operation in the clear against prepared answers."""
    wire = Channel().run(operation)
    try:
        next(wire)
        for answer in answers:
            wire.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("the operation goes on")


CLIENT = ModuleClient(Channel())
OK = b"\x90\x00"


def public(curve_id: bytes | None, point: bytes) -> bytes:
    inner = b"" if curve_id is None else tlv.encode(0x80, curve_id)
    return tlv.encode(0x7F49, inner + tlv.encode(0x86, point)) + OK


@pytest.mark.parametrize("size", [0, 1, 221, 222, 223, 446, 4094])
def test_objects_of_every_size(size: int) -> None:
    terminal, _, _ = logged_in()
    client, run = terminal.client, terminal.run
    data = bytes(index % 251 for index in range(size))
    run(client.write_object(DataObject.IDENTIFIERS, b"\xff" * 4094))
    run(client.write_object(DataObject.IDENTIFIERS, data))
    assert run(client.read_object(DataObject.IDENTIFIERS)) == data


def test_objects_that_do_not_fit_or_are_never_written() -> None:
    terminal, _, _ = logged_in()
    with pytest.raises(ValueError, match="at most"):
        terminal.run(terminal.client.write_object(DataObject.IDENTIFIERS, bytes(4095)))
    with pytest.raises(ValueError, match="never"):
        terminal.run(terminal.client.write_object(DataObject.CARD_ACCESS, b""))
    assert terminal.run(terminal.client.read_object(DataObject.CARD_ACCESS)).hex().startswith("3114")


def test_a_torn_write_leaves_an_empty_object() -> None:
    terminal, _, memory = logged_in()
    client, run = terminal.client, terminal.run
    run(client.write_object(DataObject.IDENTIFIERS, b"old" * 300))
    wire = terminal.channel.run(client.write_object(DataObject.IDENTIFIERS, b"new" * 300))
    command = next(wire)
    for _ in range(3):
        command = wire.send(terminal.card.apdu(command))
    wire.close()
    assert memory.state.files[DataObject.IDENTIFIERS][:2] == b"\x00\x00"


@pytest.mark.parametrize("count", [0, 257, -1])
def test_random_count(count: int) -> None:
    with pytest.raises(ValueError, match="256"):
        scripted(CLIENT.random(count))


@pytest.mark.parametrize("answer", ["", "90", "9000", "aabb9000", "aa" * 9 + "9000", "aabb"])
def test_random_answers_refused(answer: str) -> None:
    with pytest.raises(MalformedResponse):
        scripted(CLIENT.random(8), bytes.fromhex(answer))


def test_own_faults_of_the_module() -> None:
    with pytest.raises(ModuleFailed):
        scripted(CLIENT.random(8), b"\x6f\x00")
    with pytest.raises(CommandRefused):
        scripted(CLIENT.random(8), b"\x69\x82")


def test_public_keys_refused() -> None:
    good = curves.generator(Curve.P256)
    assert scripted(CLIENT.public_key(KeySlot.WAN_SIG), public(b"\x0c", good)).point == good
    for answer in (
        public(None, good),
        public(b"\x63", good),
        public(b"\x0d", good),
        public(b"\x0c", good[:-1]),
        public(b"\x0c", b""),
        tlv.encode(0x7F49, b"") + OK,
        OK,
        public(b"\x0c", good)[:-2] + b"\x00" + OK,
    ):
        with pytest.raises(MalformedResponse):
            scripted(CLIENT.public_key(KeySlot.WAN_SIG), answer)
    with pytest.raises(MalformedResponse, match="another curve"):
        scripted(CLIENT.generate_key_pair(KeySlot.WAN_SIG, Curve.P256), public(b"\x0d", good))


def test_signatures_and_secrets_refused() -> None:
    for answer in (OK, bytes(63) + OK, bytes(65) + OK):
        with pytest.raises(MalformedResponse):
            scripted(ModuleClient(Channel()).sign(KeySlot.WAN_SIG, bytes(32)), OK, answer)
    point = curves.generator(Curve.P256)
    for secret in (bytes(32), b"\x01" * 31, b"\x01" * 33, b""):
        answer = tlv.encode(0x7C, tlv.encode(0x86, secret)) + OK
        with pytest.raises(MalformedResponse):
            scripted(ModuleClient(Channel()).agree(KeySlot.WAN_ENC, point), OK, answer)
    for data in ("", "7c00", "7c028600ff", "7d028600"):
        with pytest.raises(MalformedResponse):
            scripted(ModuleClient(Channel()).agree(KeySlot.WAN_ENC, point), OK, bytes.fromhex(data) + OK)


def test_files_refused() -> None:
    read = CLIENT.read_object
    with pytest.raises(MalformedResponse, match="longer"):
        scripted(read(DataObject.IDENTIFIERS), OK, b"\xff\xff" + OK)
    with pytest.raises(MalformedResponse, match="shorter"):
        scripted(read(DataObject.IDENTIFIERS), OK, b"\x00\x05" + OK, b"abc\x62\x82")
    with pytest.raises(MalformedResponse, match="more"):
        scripted(read(DataObject.IDENTIFIERS), OK, b"\x00\x01" + OK, b"abc" + OK)
    with pytest.raises(CommandRefused):
        scripted(read(DataObject.IDENTIFIERS), b"\x6a\x82")


def test_chained_responses_end() -> None:
    data = scripted(CLIENT.random(8), b"abcd\x61\x04", b"efgh" + OK)
    assert data == b"abcdefgh"
    with pytest.raises(MalformedResponse, match="without data"):
        scripted(CLIENT.random(8), b"abcd\x61\x04", b"\x61\x04")
    with pytest.raises(MalformedResponse, match="end"):
        scripted(CLIENT.random(8), b"a\x61\x00", *[bytes(256) + b"\x61\x00"] * 300)


def test_chosen_key_is_not_chosen_twice() -> None:
    terminal, _, _ = logged_in()
    client, run = terminal.client, terminal.run
    run(client.generate_key_pair(KeySlot.WAN_SIG, Curve.P256))
    run(client.sign(KeySlot.WAN_SIG, bytes(32)))
    before = len(terminal.sent)
    run(client.sign(KeySlot.WAN_SIG, bytes(32)))
    assert len(terminal.sent) == before + 1


def test_response_type() -> None:
    assert ResponseApdu.from_bytes(OK).sw == 0x9000
