"""Emulated cards for tests, and transports that misbehave on order."""

from __future__ import annotations

from collections.abc import Callable

from hsm.api import Curve
from hsm.channel import Channel, Operation, T
from hsm.client import ModuleClient
from hsm.emulator.card import Card, PowerEvent
from hsm.emulator.drbg import Drbg
from hsm.emulator.entropy import EntropySource, OperatingSystemEntropy
from hsm.emulator.personalise import new_state
from hsm.emulator.state import CardState, decode_state, encode_state
from hsm.emulator.storage import MemoryStorage
from hsm.emulator.transport import EmulatorTransport
from hsm.pace import Scalars
from hsm.session import host_random
from hsm.suites import AES128, Suite

PIN = b"1234567890"


class Memory(MemoryStorage):
    """A card's memory that a test may look into, and that refuses to write on order."""

    def __init__(self, state: CardState) -> None:
        super().__init__(encode_state(state))
        self.saves = 0
        self.broken = False

    @property
    def state(self) -> CardState:
        return decode_state(self.content)

    def save(self, content: bytes) -> None:
        if self.broken:
            raise OSError("the medium is full")
        self.saves += 1
        super().save(content)


def make_card(
    *, entropy: EntropySource | None = None, change: Callable[[CardState], None] | None = None
) -> tuple[Card, Memory]:
    """A fresh powered card and its memory; `change` edits the state before the card sees it."""
    state = new_state(PIN)
    if change is not None:
        change(state)
    memory = Memory(state)
    card = Card(memory, Drbg(entropy or OperatingSystemEntropy()))
    card.power(PowerEvent.ON)
    return card, memory


class Terminal:
    """The synchronous end of a channel: runs operations against a card, byte by byte as they are."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.channel = Channel()
        self.client = ModuleClient(self.channel)
        self.tamper: Callable[[bytes], bytes] = bytes
        self.sent: list[bytes] = []

    def run(self, operation: Operation[T]) -> T:
        wire = self.channel.run(operation)
        try:
            command = next(wire)
            while True:
                self.sent.append(command)
                command = wire.send(self.tamper(self.card.apdu(command)))
        except StopIteration as done:
            result: T = done.value
            return result

    def log_in(self, pin: bytes = PIN, suite: Suite = AES128, curve: Curve = Curve.BRAINPOOL_P256) -> None:
        self.run(self.client.select())
        scalars = Scalars.draw(curve, host_random)
        self.run(self.client.establish(pin, scalars, suite=suite, curve=curve))


def logged_in() -> tuple[Terminal, Card, Memory]:
    """A terminal with a session on a fresh card."""
    card, memory = make_card()
    terminal = Terminal(card)
    terminal.log_in()
    return terminal, card, memory


class ScriptedTransport(EmulatorTransport):
    """An emulated card on a bad line: `fault(command, count)` may change the answer or raise."""

    def __init__(self, card: Card, fault: Callable[[bytes, int], bytes | None]) -> None:
        super().__init__(card)
        self._fault = fault
        self.count = 0
        self.closed = False

    async def transmit(self, command: bytes) -> bytes:
        self.count += 1
        answer = self._fault(command, self.count)
        return await super().transmit(command) if answer is None else answer

    async def close(self) -> None:
        self.closed = True
        await super().close()
