"""One module, one way to it: commands in the clear, sessions under PACE, and a trace of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from hsm.apdu import CommandApdu, ResponseApdu
from hsm.channel import Channel, Operation
from hsm.client import ModuleClient
from hsm.errors import HsmError
from hsm.session import ModuleSession, Priority
from hsm.suites import AES128, Suite
from hsm.transport import CardTransport

_HIDE_FROM = 4
"""Longer than this, a value that depends on a secret is shown by its first bytes and its length."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command and its answer, as they were on the wire."""

    command: bytes
    answer: bytes
    seconds: float


@dataclass(slots=True)
class Trace:
    """What went over a transport, in order."""

    steps: list[Step] = field(default_factory=list)


class TracingTransport:
    """Another transport that writes down what it carries."""

    def __init__(self, inner: CardTransport, trace: Trace) -> None:
        self._inner, self._trace = inner, trace

    async def connect(self) -> None:
        """Connect the inner one."""
        await self._inner.connect()

    async def transmit(self, command: bytes) -> bytes:
        """Carry one command and note it."""
        began = perf_counter()
        answer = await self._inner.transmit(command)
        self._trace.steps.append(Step(command, answer, perf_counter() - began))
        return answer

    async def close(self) -> None:
        """Close the inner one."""
        await self._inner.close()


@dataclass(frozen=True, slots=True)
class ModuleAccess:
    """A way to a module, and its PIN if there is one."""

    opener: Callable[[], CardTransport]
    pin: bytes | None = None
    trace: Trace = field(default_factory=Trace)

    def transport(self) -> CardTransport:
        """A fresh connection that is traced."""
        return TracingTransport(self.opener(), self.trace)

    def session(self, suite: Suite = AES128) -> ModuleSession:
        """A session under PACE; `HsmError` on entering if the card does not want one."""
        if self.pin is None:
            raise HsmError("this needs the PACE-PIN: name its file with --pin-file")
        pin = self.pin
        return ModuleSession(self.transport, lambda: pin, suite=suite)


async def in_the_clear(access: ModuleAccess, *commands: CommandApdu) -> tuple[bytes, list[ResponseApdu]]:
    """Power the card, send commands without a session, and release it; the ATR and the answers.

    The ATR is empty where there is none, which is the emulator in this process.
    """

    def exchange(command: CommandApdu) -> Operation[ResponseApdu]:
        return (yield command)

    inner = access.opener()
    transport = TracingTransport(inner, access.trace)
    channel = Channel()
    answers = []
    try:
        await transport.connect()
        for command in commands:
            wire = channel.run(exchange(command))
            try:
                raw = next(wire)
                while True:
                    raw = wire.send(await transport.transmit(raw))
            except StopIteration as done:
                answers.append(done.value)
        return getattr(inner, "atr", b""), answers
    finally:
        await transport.close()


async def under_pace(access: ModuleAccess, command: CommandApdu) -> ResponseApdu:
    """Send one command under secure messaging; the opened answer."""

    def exchange(_client: ModuleClient) -> Operation[ResponseApdu]:
        return (yield command)

    async with access.session() as session:
        return await session.submit(exchange, Priority.NORMAL, 60.0, repeatable=False)


_NAMES = {
    (0xA4, 0x0C): "SELECT",
    (0x22, 0xA4): "MSE:Set AT",
    (0x84, 0x00): "GET CHALLENGE",
    (0xB0, 0x00): "READ BINARY",
}
_PACE_STEPS = {
    0x00: "PACE: get nonce",
    0x81: "PACE: map nonce",
    0x83: "PACE: key agreement",
    0x85: "PACE: mutual authentication",
}


def name_of(command: bytes) -> str:
    """What a command in the clear is for; the header where it is not known."""
    if command[1] == 0x86 and len(command) > 6:
        return _PACE_STEPS.get(command[7] if command[6] else 0, "GENERAL AUTHENTICATE")
    if command[0] & 0x0C:
        return "protected"
    return _NAMES.get((command[1], command[3]), command[:4].hex(" "))


def masked(name: str, data: bytes) -> str:
    """Bytes for people: what depends on the PIN or on session keys only by its beginning and length."""
    if name in ("PACE: get nonce", "PACE: mutual authentication", "protected") and len(data) > _HIDE_FROM:
        return f"{data[:_HIDE_FROM].hex()}... ({len(data)} bytes, masked)"
    return data.hex()
