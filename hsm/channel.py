"""From a command to the bytes on the wire and back: messaging, then format, then response chaining.

Sans-IO: `run` yields each command APDU as bytes and takes the response APDU as bytes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from hsm.apdu import CommandApdu, ResponseApdu
from hsm.errors import MalformedResponse
from hsm.messaging import SecureMessaging
from hsm.profile import PROJECT, Profile

T = TypeVar("T")
Operation = Generator[CommandApdu, ResponseApdu, T]
"""What the module is asked to do: yields commands in the clear, takes opened responses, returns a value."""
Wire = Generator[bytes, bytes, T]

_MORE = 0x61
_MAX_RESPONSE = 1 << 16
_MAX_PARTS = 1024
"""Far more than the longest response needs; a card that hands out single bytes must not keep us busy."""


class Channel:
    """One connection's state: in the clear until `protect`, then under secure messaging for good."""

    def __init__(self, profile: Profile = PROJECT) -> None:
        self._get_response = CommandApdu(0x00, profile.ins_get_response, 0, 0, b"", 256).to_bytes()
        self._messaging: SecureMessaging | None = None

    @property
    def protected(self) -> bool:
        """True while a secure messaging session is alive."""
        return self._messaging is not None and self._messaging.alive

    def protect(self, messaging: SecureMessaging) -> None:
        """Send everything from now on under `messaging`."""
        self._messaging = messaging

    def close(self) -> None:
        """Forget the session keys; the next command goes in the clear, which makes a card end its session."""
        if self._messaging is not None:
            self._messaging.close()
            self._messaging = None

    def run(self, operation: Operation[T]) -> Wire[T]:
        """Carry an operation out.

        Raises:
            MalformedResponse: the card's answer is no response APDU, or never ends.
            ChannelBroken: secure messaging failed.
            HsmError: whatever the operation raises.
        """
        try:
            command = next(operation)
            while True:
                command = operation.send((yield from self._exchange(command)))
        except StopIteration as done:
            result: T = done.value
            return result

    def _exchange(self, command: CommandApdu) -> Wire[ResponseApdu]:
        messaging = self._messaging
        if messaging is not None:
            command = messaging.wrap(command)
        response = ResponseApdu.from_bytes((yield command.to_bytes()))
        if response.sw >> 8 == _MORE:
            response = yield from self._collect(response)
        return response if messaging is None else messaging.unwrap(response)

    def _collect(self, response: ResponseApdu) -> Wire[ResponseApdu]:
        """Fetch the rest of a long response (61xx); GET RESPONSE is not part of secure messaging."""
        data = response.data
        parts = 0
        while response.sw >> 8 == _MORE:
            parts += 1
            response = ResponseApdu.from_bytes((yield self._get_response))
            if not response.data and response.sw >> 8 == _MORE:
                raise MalformedResponse("a chained response without data")
            data += response.data
            if len(data) > _MAX_RESPONSE or parts > _MAX_PARTS:
                raise MalformedResponse("a chained response that does not end")
        return ResponseApdu(data, response.sw)
