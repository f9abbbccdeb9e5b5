"""What can go wrong between the gateway's CPU and its security module."""

from __future__ import annotations


class HsmError(Exception):
    """Base of every error of the security module and of what is done with its keys."""


class MalformedResponse(HsmError):
    """The card's bytes are not what its command set allows."""


class UnexpectedResponse(HsmError):
    """The card answered something well-formed that the protocol does not allow here."""


class CommandRefused(HsmError):
    """The card answered a command with a status word other than 9000."""

    def __init__(self, command: str, sw: int) -> None:
        super().__init__(f"{command} refused: SW={sw:04X}")
        self.command, self.sw = command, sw

    @property
    def attempts_left(self) -> int | None:
        """Remaining tries of a counted secret (SW 63Cx), else None."""
        return self.sw & 0xF if self.sw & 0xFFF0 == 0x63C0 else None


class PinRefused(HsmError):
    """The PACE-PIN was refused, or too few tries are left to dare another one.

    Never retried by a supervisor: a second try costs the card one of its few remaining ones.
    """

    def __init__(self, reason: str, attempts_left: int | None, *, tried: bool = False) -> None:
        super().__init__(reason)
        self.attempts_left = attempts_left
        self.tried = tried
        """True if the card itself has seen this PIN and refused it."""


class ChannelBroken(HsmError):
    """Secure messaging failed (MAC, padding, counter): the session is dead and must be set up again."""


class ModuleUnavailable(HsmError):
    """No card, no reader, or no answer within the deadline."""


class NotDelivered(ModuleUnavailable):
    """The connection was gone before the command left: the card has certainly not carried it out."""


class ModuleFailed(HsmError):
    """The module's own check failed (random source, stored state) and it refuses to work."""


class CertificateRefused(HsmError):
    """A certificate does not lead to a trust anchor, is out of date, revoked or of the wrong kind."""


class TlsRefused(HsmError):
    """A TLS handshake or record was refused, by us or by the peer; the text names the rule."""


class SessionExpired(TlsRefused):
    """A TLS session has reached the age at which it must end (48 h); a new handshake is needed."""


class MalformedSignature(HsmError):
    """Bytes that are no signature of the curve in question."""


class MalformedTlv(MalformedResponse):
    """Bytes that are no DER-TLV where one was due."""


class MalformedCommand(HsmError):
    """Bytes that are no command APDU (ISO/IEC 7816-3, 12.1). Said by the card side."""


class PointRefused(HsmError):
    """A point that must not be used: wrong length or form, off the curve, at infinity, or our own."""
