"""Symmetric messages between gateway and meter under the meter's master key. No I/O, no clock.

Known from BSI TR-03109-1 v2.0 details, 8.3 and TR-03116-3, 7.1 to 7.3: keys of one message, made from master
key, counter and server id; AES-CBC with IV 0, then AES-CMAC of 16 or 8 bytes; the counter and the id are sent
clear and authenticated; each side's counter only rises; types 6 and 7 are the crypto reset. The order of the
fields and the other types stand in DIN VDE 0418-63-7, which was not at hand: ASSUMED, and parameters.

    protocol 1 | type 1 | counter 4, most significant first | server id 10 | ciphertext n * 16 | MAC 16 or 8
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from lmn.errors import (
    CounterRefused,
    KeyRefused,
    LengthMismatch,
    MacRefused,
    MalformedFrame,
    UnknownMeter,
)
from lmn.mbus.security.derivation import aes_cmac, wired_keys

PROTOCOL: Final = 0x10
"""First byte in an unnumbered frame: tells these messages from those of discovery (assumed)."""
SERVER_ID_BYTES: Final = 10
LAST_COUNTER: Final = 0xFFFFFFFF
_HEADER: Final = 2 + 4 + SERVER_ID_BYTES
_BLOCK: Final = 16
_MARK: Final = 0x80
"""Begins the padding, which goes on with zeros (ISO/IEC 7816-4; assumed)."""


class SymKind(Enum):
    """What a message is about; the numbers on the wire are those of `SymFormat`."""

    DELIVER = "deliver"
    """Gateway: the meter's new key and certificate, and the gateway's certificate."""
    ACCEPTED = "accepted"
    """Meter: they are kept."""
    REFUSED = "refused"
    """Meter: they are not, with a reason."""
    RESET = "reset"
    """Gateway: forget keys and certificates."""
    RESET_DONE = "reset done"
    """Meter: they are forgotten."""


class Direction(Enum):
    """Whose message it is: each has keys and a counter of its own."""

    FROM_METER = "from meter"
    TO_METER = "to meter"


_SENDER: Final = {
    SymKind.DELIVER: Direction.TO_METER,
    SymKind.RESET: Direction.TO_METER,
    SymKind.ACCEPTED: Direction.FROM_METER,
    SymKind.REFUSED: Direction.FROM_METER,
    SymKind.RESET_DONE: Direction.FROM_METER,
}


@dataclass(frozen=True, slots=True)
class SymFormat:
    """What the norm that was not at hand leaves open; 6 and 7 are published."""

    mac_bytes: int = 16
    deliver: int = 1
    accepted: int = 2
    refused: int = 3
    reset: int = 6
    reset_done: int = 7

    def __post_init__(self) -> None:
        if self.mac_bytes not in (8, 16):
            raise ValueError("a MAC has 8 or 16 bytes")
        if len(set(self.numbers.values())) != len(SymKind) or not all(
            0 <= number <= 0xFF for number in self.numbers.values()
        ):
            raise ValueError("each type has a number of its own, of one byte")

    @property
    def numbers(self) -> dict[SymKind, int]:
        """The type byte of each kind."""
        return {
            SymKind.DELIVER: self.deliver,
            SymKind.ACCEPTED: self.accepted,
            SymKind.REFUSED: self.refused,
            SymKind.RESET: self.reset,
            SymKind.RESET_DONE: self.reset_done,
        }


@dataclass(frozen=True, slots=True)
class SymMessage:
    """One message, in clear."""

    kind: SymKind
    counter: int
    server_id: bytes
    content: bytes = field(default=b"", repr=False)


def is_sym(information: bytes) -> bool:
    """Whether the information of an unnumbered frame claims to be such a message."""
    return information[:1] == bytes((PROTOCOL,))


def seal(message: SymMessage, master: bytes, form: SymFormat) -> bytes:
    """Encrypt and authenticate; the direction follows from the kind.

    Args:
        message: its counter was never used in this direction under `master`.
        master: the meter's master key, 16 bytes.
        form: of the messages.

    Raises:
        ValueError: the server id has not ten bytes, or the counter not 32 bits.
    """
    if not 0 <= message.counter <= LAST_COUNTER:
        raise ValueError("a counter has 32 bits")
    encryption, authentication = _keys(master, message.counter, message.server_id, _SENDER[message.kind])
    head = bytes((PROTOCOL, form.numbers[message.kind])) + message.counter.to_bytes(4, "big")
    padded = message.content + bytes((_MARK,))
    padded += bytes(-len(padded) % _BLOCK)
    encryptor = Cipher(AES(encryption), CBC(bytes(_BLOCK))).encryptor()
    covered = head + message.server_id + encryptor.update(padded) + encryptor.finalize()
    return covered + aes_cmac(authentication, covered)[: form.mac_bytes]


def unseal(
    data: bytes, master: bytes, server_id: bytes, sender: Direction, after: int, form: SymFormat
) -> SymMessage:
    """Check and decrypt; nothing of the content is looked at before the MAC was right.

    Args:
        data: the information of an unnumbered frame.
        master: the meter's master key, 16 bytes.
        server_id: of the meter that this is about.
        sender: who must have made it.
        after: the last counter that was accepted in this direction; -1: none.
        form: of the messages.

    Raises:
        MalformedFrame: no such message, or of a type that `sender` does not send.
        LengthMismatch: its length is none that a message can have.
        UnknownMeter: it names another meter.
        MacRefused: altered, made under another key, or by the other side.
        CounterRefused: its counter did not rise.
        KeyRefused: right MAC, and no padding where it must be.
    """
    if not is_sym(data):
        raise MalformedFrame("no symmetric message")
    ciphertext = data[_HEADER : -form.mac_bytes]
    if len(data) < _HEADER + _BLOCK + form.mac_bytes or len(ciphertext) % _BLOCK:
        raise LengthMismatch("length of a symmetric message")
    if data[6:_HEADER] != server_id:
        raise UnknownMeter("a symmetric message of another meter")
    counter = int.from_bytes(data[2:6], "big")
    encryption, authentication = _keys(master, counter, server_id, sender)
    expected = aes_cmac(authentication, data[: -form.mac_bytes])[: form.mac_bytes]
    if not hmac.compare_digest(expected, data[-form.mac_bytes :]):
        raise MacRefused("MAC of a symmetric message")
    if counter <= after:
        raise CounterRefused("counter of a symmetric message did not rise")
    kind = next((kind for kind, number in form.numbers.items() if number == data[1]), None)
    if kind is None or _SENDER[kind] is not sender:
        raise MalformedFrame("a symmetric message of a type that its sender does not send")
    decryptor = Cipher(AES(encryption), CBC(bytes(_BLOCK))).decryptor()
    plain = decryptor.update(ciphertext) + decryptor.finalize()
    content = plain.rstrip(b"\x00")
    if content[-1:] != bytes((_MARK,)) or len(plain) - len(content) >= _BLOCK:
        raise KeyRefused("padding of a symmetric message")
    return SymMessage(kind, counter, server_id, content[:-1])


def _keys(master: bytes, counter: int, server_id: bytes, sender: Direction) -> tuple[bytes, bytes]:
    keys = wired_keys(master, counter, server_id)
    if sender is Direction.FROM_METER:
        return keys.encryption, keys.authentication
    return keys.gateway_encryption, keys.gateway_authentication
