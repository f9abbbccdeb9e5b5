"""How a meter without a certificate gets one, and how certificates are renewed: contents and steps. No I/O.

Pairing (BSI TR-03109-1 v2.0 details, 8.3; TR-03116-3, 6.3.1): under the meter's master key the gateway sends
the meter a key pair with its self-signed certificate, and the gateway's own certificate; from then on there
is TLS only. Renewal (TR-03116-3, 6.3.1): the same contents as SML writes inside the running TLS session.
ASSUMED: a key is an ECPrivateKey (RFC 5915) without its optional parts, and key and certificates follow each
other as DER; an answer repeats the counter of what it answers, and a refusal has one byte more, a reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final, Protocol

from lmn.errors import CounterRefused, MalformedRecords, UnexpectedMessage
from lmn.wired.meter import WiredMeter
from lmn.wired.sym import LAST_COUNTER, Direction, SymFormat, SymKind, SymMessage, seal, unseal

METER_IDENTITY: Final = bytes.fromhex("01005e310004")
"""OBIS of the meter's key and certificate, for writing (BSI TR-03109-1 v2.0 details, 9)."""
GATEWAY_CERTIFICATE: Final = bytes.fromhex("01005e310008")
"""OBIS of the gateway's certificate in the meter, for writing."""
_SEQUENCE: Final = 0x30
_MAX_LENGTH_BYTES: Final = 2
_LAST_BY_CLOCK: Final = 0xF0000000
"""A clock that is far ahead uses up no more counters than this; reached honestly in 2097."""


class Reason(IntEnum):
    """Why a meter refuses what was delivered (assumed numbers)."""

    PAIRED = 1
    """It has keys that were used already: a crypto reset comes first."""
    CONTENT = 2
    """Key and certificate do not fit, or the certificate is not for this meter."""


class Renewal(Enum):
    """What can be renewed inside a session; the value is the OBIS that is written."""

    METER = METER_IDENTITY
    GATEWAY = GATEWAY_CERTIFICATE


@dataclass(frozen=True, slots=True)
class Identity:
    """A key pair made for a meter, on its way there; kept nowhere."""

    scalar: bytes = field(repr=False)
    """The private key, as long as its curve's field."""
    certificate: bytes
    """DER, self-signed."""

    def to_bytes(self) -> bytes:
        """Key, then certificate; the form of pairing and of renewal."""
        key = b"\x02\x01\x01\x04" + bytes((len(self.scalar),)) + self.scalar
        return bytes((_SEQUENCE, len(key))) + key + self.certificate


@dataclass(frozen=True, slots=True)
class Write:
    """Something that a meter is to be given in its session."""

    what: Renewal
    content: bytes = field(repr=False)


class Credentials(Protocol):
    """Who may show which certificate, and what a meter is still to be given. Durable before each return."""

    def certificates(self, meter: WiredMeter) -> tuple[bytes, ...]:
        """Return what the meter may show (DER): the one it showed last, then the one it was given since."""

    def generation(self) -> bytes:
        """Return which certificate of the gateway is in use; sessions begun under another one end."""

    def master(self, meter: WiredMeter) -> bytes | None:
        """Return the meter's master key, None where its profile has none: then it cannot be paired."""

    async def next_counter(self, meter: WiredMeter) -> int:
        """Return a counter for a message to the meter: larger than any before, and used up.

        Raises:
            CounterRefused: there is none left under this master key.
        """

    def last_heard(self, meter: WiredMeter) -> int:
        """Return the last counter accepted from the meter, -1 before the first."""

    async def heard(self, meter: WiredMeter, counter: int) -> None:
        """Note a counter that was accepted from the meter."""

    async def new_identity(self, meter: WiredMeter) -> Identity:
        """Make a key pair and certificate for the meter; from now on it may show that certificate."""

    def gateway_certificate(self) -> bytes:
        """Return the certificate (DER) that the gateway shows."""

    async def paired(self, meter: WiredMeter) -> None:
        """The meter has taken what was delivered, the gateway's present certificate with it."""

    async def unpaired(self, meter: WiredMeter) -> None:
        """The meter does not have what it was given: forget certificates that it never showed."""

    async def shown(self, meter: WiredMeter, certificate: bytes) -> None:
        """The meter proved that it has this one: every other one is forgotten."""

    async def upkeep(self) -> None:
        """Do what is due for the gateway itself, whether or not a meter answers; asked each round."""

    async def due(self, meter: WiredMeter) -> Write | None:
        """Return what the meter is to be given now, None if nothing is; asked inside a running session."""

    async def written(self, meter: WiredMeter, what: Renewal) -> None:
        """The meter has said that it took what was written."""


class Pairing:
    """One meter's exchange of symmetric messages, at the gateway."""

    def __init__(self, master: bytes, server_id: bytes, form: SymFormat) -> None:
        """Prepare an exchange.

        Args:
            master: the meter's master key, 16 bytes.
            server_id: of the meter, 10 bytes.
            form: of the messages.
        """
        self._master, self._server_id, self._form = master, server_id, form
        self._asked: SymMessage | None = None

    def deliver(self, counter: int, identity: Identity, gateway_certificate: bytes) -> bytes:
        """Return the message that gives the meter its identity and the gateway's certificate."""
        return self._ask(SymKind.DELIVER, counter, identity.to_bytes() + gateway_certificate)

    def reset(self, counter: int) -> bytes:
        """Return the message that makes the meter forget keys and certificates."""
        return self._ask(SymKind.RESET, counter, b"")

    def answered(self, data: bytes, after: int) -> tuple[int, Reason | None]:
        """Take the meter's answer; return its counter, and the reason where it refused.

        Args:
            data: information of an unnumbered frame.
            after: the last counter accepted from the meter, -1: none.

        Raises:
            LmnError: see `unseal`.
            UnexpectedMessage: no answer to what was asked last.
        """
        asked = self._asked
        answer = unseal(data, self._master, self._server_id, Direction.FROM_METER, after, self._form)
        if asked is None or answer.content[:4] != asked.counter.to_bytes(4, "big"):
            raise UnexpectedMessage("an answer to another message")
        expected = SymKind.ACCEPTED if asked.kind is SymKind.DELIVER else SymKind.RESET_DONE
        if answer.kind is SymKind.REFUSED:
            try:
                [reason] = answer.content[4:]
                return answer.counter, Reason(reason)
            except ValueError as error:
                raise UnexpectedMessage("a refusal without a known reason") from error
        if answer.kind is not expected or len(answer.content) != 4:
            raise UnexpectedMessage(f"{answer.kind.value} after {asked.kind.value}")
        return answer.counter, None

    def _ask(self, kind: SymKind, counter: int, content: bytes) -> bytes:
        self._asked = SymMessage(kind, counter, self._server_id, content)
        return seal(self._asked, self._master, self._form)


def following_counter(last: int, utc_s: int) -> int:
    """Return the next counter: one more, or the seconds since 1970 where those are further.

    A gateway that lost its memory, or its successor, so stays above what the meter has heard.

    Raises:
        CounterRefused: none is left; only a new master key helps.
    """
    counter = max(last + 1, min(utc_s, _LAST_BY_CLOCK))
    if counter > LAST_COUNTER:
        raise CounterRefused("no counter is left under this master key")
    return counter


def split_der(data: bytes) -> list[bytes]:
    """Cut DER sequences that follow each other.

    Raises:
        MalformedRecords: the bytes are anything else.
    """
    found: list[bytes] = []
    place = 0
    while place < len(data):
        if data[place] != _SEQUENCE or place + 2 > len(data):
            raise MalformedRecords("a sequence is expected")
        length, start = data[place + 1], place + 2
        if length & 0x80:
            count = length & 0x7F
            if not 0 < count <= _MAX_LENGTH_BYTES or start + count > len(data):
                raise MalformedRecords("length of a sequence")
            length, start = int.from_bytes(data[start : start + count], "big"), start + count
        if start + length > len(data):
            raise MalformedRecords("a sequence that is cut off")
        found.append(data[place : start + length])
        place = start + length
    return found
