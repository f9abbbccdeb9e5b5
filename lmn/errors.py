"""What can go wrong between a meter and the gateway. Each error carries the code that tools print."""

from __future__ import annotations

from typing import ClassVar


class LmnError(Exception):
    """Base of every error of the local metrological network."""

    code: ClassVar[str] = "malformed"


class MalformedFrame(LmnError):
    """The bytes are no frame of the kind that was expected."""


class LengthMismatch(MalformedFrame):
    """A length field does not match the bytes that are there."""

    code = "length"


class ChecksumMismatch(MalformedFrame):
    """A CRC does not match."""

    code = "crc"


class MalformedRecords(MalformedFrame):
    """The application layer cannot be cut into records."""


class MacRefused(LmnError):
    """The authentication code of a telegram does not match."""

    code = "mac"


class CounterRefused(LmnError):
    """The message counter did not rise."""

    code = "counter"


class KeyRefused(LmnError):
    """No key, or a key under which the telegram does not decrypt to what it must."""

    code = "key"


class SecurityUnsupported(LmnError):
    """A security mode or layer that is not built, or that this meter profile does not accept."""

    code = "unsupported"


class DowngradeRefused(LmnError):
    """A meter that has a key sent something less protected than its profile demands."""

    code = "downgrade"


class UnknownMeter(LmnError):
    """No meter profile names this meter; it is counted and not decoded."""

    code = "unknown-meter"


class UnexpectedMessage(LmnError):
    """A stick or station sent a message that its state does not allow."""

    code = "unexpected"


class LineDisturbed(LmnError):
    """A stick sent bytes that are no whole message; they were skipped."""

    code = "line"


class PortClosed(LmnError):
    """The serial port went away."""

    code = "port"
