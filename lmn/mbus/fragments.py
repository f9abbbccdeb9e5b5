"""Messages that come in several telegrams (authentication and fragmentation layer). No I/O, no clock.

Only what an authentication code covers as a whole is put together, the layer's own or that of mode 10:
pieces of two messages that are mixed up, or a forged piece, end as a wrong code and never as a value. Memory
and time are bounded; who sends pieces without end loses the oldest.
Spec: EN 13757-7, as docs/lmn.md 1.4 has it. No public example was found; both ends are this project's own.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from lmn.errors import LengthMismatch, MacRefused, MalformedFrame, SecurityUnsupported
from lmn.mbus.transport import Authentication, ExtendedLink, Layers, parse, parse_upper

MAX_FRAGMENTS: Final = 16
MAX_SENDERS: Final = 64
TIMEOUT_S: Final = 60.0
"""From the first piece to the last."""

_LINK_HEADER: Final = 10
_AFL: Final = 0x90
_EXTENDED: Final = {0x8C: 3, 0x8E: 11}
"""Extended link layers without encryption -> their length."""
_MORE, _MCL, _ML, _MCR, _MAC, _KI = 0x4000, 0x2000, 0x1000, 0x0800, 0x0400, 0x0200
_RESERVED: Final = 0x8100
_MODE_WITH_TAG: Final = 10
"""The security mode whose own tag covers the whole message."""
_MAC_SIZES: Final = {3: 2, 4: 4, 5: 8, 6: 12, 7: 16}


@dataclass(frozen=True, slots=True, repr=False)
class _Fragment:
    number: int
    control: int
    fields: bytes
    """Of the layer, behind its control field."""
    content: bytes


@dataclass(slots=True, repr=False)
class _Message:
    since: float
    fragments: dict[int, _Fragment] = field(default_factory=dict)

    def whole(self) -> list[_Fragment] | None:
        """All pieces in order, None while one is missing."""
        last = next((number for number, f in self.fragments.items() if not f.control & _MORE), None)
        if last is None or sorted(self.fragments) != list(range(1, last + 1)):
            return None
        return [self.fragments[number] for number in range(1, last + 1)]


class Fragments:
    """Takes telegrams as they come; gives each message once it is whole."""

    def __init__(self) -> None:
        self._messages: OrderedDict[bytes, _Message] = OrderedDict()

    def __len__(self) -> int:
        return len(self._messages)

    def take(self, telegram: bytes, at: float) -> Layers | None:
        """Take a bare telegram apart, as `lmn.mbus.transport.parse` does, or keep it as one piece.

        Args:
            telegram: with a right L field.
            at: when it came, in seconds of any clock that does not go back.

        Returns:
            The layers of the telegram, or of the message that it made whole; None for a piece that waits.

        Raises:
            LmnError: as `parse`, or the pieces do not fit together; then all of them are forgotten.
        """
        try:
            return parse(telegram)
        except SecurityUnsupported:
            found = _fragment(telegram)
            if found is None:
                raise
        fragment, extended = found
        sender = telegram[2:_LINK_HEADER]
        message = self._messages.pop(sender, None)
        known = None if message is None else message.fragments.get(fragment.number)
        if message is None or at - message.since > TIMEOUT_S or (known is not None and known != fragment):
            message = _Message(at)  # the sender began anew
        message.fragments[fragment.number] = fragment
        pieces = message.whole()
        if pieces is None:
            self._messages[sender] = message
            if len(self._messages) > MAX_SENDERS:
                self._messages.popitem(last=False)
            return None
        authentication, content = _join(pieces)
        inner, transport = parse_upper(content)
        if inner is not None:
            raise MalformedFrame("an authentication layer inside a message in fragments")
        if not authentication.mac and transport.mode != _MODE_WITH_TAG:
            raise MacRefused("message in fragments without an authentication code")
        return Layers(telegram[1], sender, extended, None, authentication, transport)


def _fragment(telegram: bytes) -> tuple[_Fragment, ExtendedLink | None] | None:
    """Read the one layer that makes a telegram a piece; None if it is none.

    Raises:
        LengthMismatch, MalformedFrame: it is one, and broken.
    """
    body, extended = telegram[_LINK_HEADER:], None
    size = _EXTENDED.get(body[0])
    if size is not None:
        receiver = body[3:11] if size > 3 else None
        extended = ExtendedLink(body[1], body[2], receiver, None)
        body = body[size:]
    if len(body) < 4 or body[0] != _AFL or body[1] < 2:
        return None
    control, number = int.from_bytes(body[2:4], "little"), body[2]
    if not control & _MORE and not number:
        return None
    end = 2 + body[1]
    if not 1 <= number <= MAX_FRAGMENTS or control & _RESERVED:
        raise MalformedFrame(f"fragment {number}, or reserved bits")
    if len(body) <= end:
        raise LengthMismatch("fragment without content")
    return _Fragment(number, control, body[4:end], body[end:]), extended


def _join(pieces: list[_Fragment]) -> tuple[Authentication, bytes]:
    """Put the pieces and their fields together; each field comes once, in whichever piece.

    Raises:
        LengthMismatch, MalformedFrame, MacRefused, SecurityUnsupported: they do not make one message.
    """
    fields: dict[int, bytes] = {}
    for piece in pieces:
        position = 0
        for flag in (_MCL, _KI, _MCR, _MAC, _ML):
            if not piece.control & flag:
                continue
            size = {_MCL: 1, _KI: 2, _MCR: 4, _ML: 2}.get(flag, 0)
            if flag == _MAC:
                size = _mac_size(fields)
            if flag in fields:
                raise MalformedFrame("message in fragments: a field comes twice")
            fields[flag] = piece.fields[position : position + size]
            position += size
        if position != len(piece.fields):
            raise LengthMismatch("fragment: its fields do not fill its authentication layer")
    promised = fields[_MCL][0] if _MCL in fields else None
    if promised is not None and any(
        bool(promised & bit) != (flag in fields) for bit, flag in ((0x40, _ML), (0x20, _MCR), (0x10, _KI))
    ):
        raise MalformedFrame("message in fragments: message control and fields differ")
    content = b"".join(piece.content for piece in pieces)
    length = fields.get(_ML, b"")
    if length and int.from_bytes(length, "little") != len(content):
        raise LengthMismatch("message in fragments: message length does not match")
    authentication = Authentication(
        promised, fields.get(_KI, b""), fields.get(_MCR), fields.get(_MAC, b""), length
    )
    return authentication, content


def _mac_size(fields: dict[int, bytes]) -> int:
    control = fields.get(_MCL)
    if not control:
        raise MalformedFrame("message in fragments: a code before the message control that names its kind")
    size = _MAC_SIZES.get(control[0] & 0x0F)
    if size is None:
        raise SecurityUnsupported(f"authentication type {control[0] & 0x0F}")
    return size
