"""libeac on the far side of a real reader: pcscd, vpcd and pyscard between it and ours, in both parts."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from hsm.api import Curve
from hsm.emulator.card import PowerEvent
from hsm.emulator.vpcd import ShownCard
from hsm.errors import ModuleUnavailable, PinRefused
from hsm.pcsc import PcscTransport
from hsm.session import ModuleSession
from hsm.suites import SUITES, Suite
from tests.peers.eac import Eac
from tests.support.card import PIN, make_card
from tests.support.reader import CardThread, needs_pcsc, pcsc_daemon
from tests.unit.hsm.eac_sides import EacCard, card_access, drive, terminal_pace, terminal_random, value

pytestmark = needs_pcsc

READER = "smgw 00 00"
CURVES = (Curve.BRAINPOOL_P256, Curve.BRAINPOOL_P384)
EVERY = [pytest.param(s, c, id=f"AES-{8 * s.key_bytes}-{c.value}") for s in SUITES for c in CURVES]


@dataclass
class Slot:
    """A reader's slot: what lies in it is changed between the tests, unseen by pcscd."""

    card: ShownCard = field(default_factory=lambda: make_card()[0])
    atr = EacCard.atr

    def power(self, event: PowerEvent) -> None:
        """Handed on."""
        self.card.power(event)

    def apdu(self, raw: bytes) -> bytes:
        """Handed on."""
        return self.card.apdu(raw)


@pytest.fixture(scope="module")
def slot() -> Iterator[Slot]:
    """One pcscd for all of these tests."""
    thread, slot = CardThread(), Slot()
    with thread.shown(slot) as port, pcsc_daemon(f"127.0.0.1:{port}"):
        yield slot
        gc.collect()  # pyscard's connections are released by their end, which needs the daemon
    thread.close()


def any_program(suite: Suite, curve: Curve) -> bytes:
    """A PC/SC program as anybody would write it: pyscard and libeac, and none of our code on its side."""
    from smartcard.Exceptions import CardConnectionException, NoCardException
    from smartcard.System import readers

    reader = next(reader for reader in readers() if str(reader) == READER)
    connection = reader.createConnection()
    while True:
        try:
            connection.connect()
            break
        except (CardConnectionException, NoCardException):
            time.sleep(0.02)  # pcscd has not noticed the card yet; the test's time-out is the limit

    def transmit(command: bytes) -> bytes:
        data, sw1, sw2 = connection.transmit(list(command))
        return bytes((*data, sw1, sw2))

    party = Eac(card_access(suite, curve), PIN)
    try:
        assert party.check(value(drive(terminal_pace(party, suite, curve), transmit), 0x86))
        party.start_messaging()
        return b"".join(drive(terminal_random(party, count), transmit) for count in (8, 200))
    finally:
        party.close()
        connection.disconnect()


async def started(suite: Suite, curve: Curve, pin: bytes = PIN) -> ModuleSession:
    while True:
        session = ModuleSession(lambda: PcscTransport(READER), lambda: pin, suite=suite, curve=curve)
        try:
            return await session.__aenter__()
        except ModuleUnavailable:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("suite", "curve"), EVERY)
async def test_libeac_is_the_terminal_at_a_reader_that_shows_our_card(
    suite: Suite, curve: Curve, slot: Slot
) -> None:
    card, memory = make_card()
    slot.card = card
    assert len(await asyncio.to_thread(any_program, suite, curve)) == 208
    assert memory.state.pin_left == 3
    assert memory.saves == 2  # the try was counted before the nonce left, and given back


@pytest.mark.parametrize(("suite", "curve"), EVERY)
async def test_libeac_is_the_card_in_our_session_s_reader(suite: Suite, curve: Curve, slot: Slot) -> None:
    slot.card = card = EacCard(suite, curve, PIN)
    module = await started(suite, curve)
    try:
        taken = [await module.random(count) for count in (8, 200, 256)]
    finally:
        await module.__aexit__(None, None, None)
    assert taken == card.handed_out
    assert card.sessions == 1


async def test_libeac_refuses_a_wrong_pin_and_we_believe_it(slot: Slot) -> None:
    slot.card = card = EacCard(SUITES[0], CURVES[0], b"0000000000")
    with pytest.raises(PinRefused):
        await started(SUITES[0], CURVES[0])
    assert card.sessions == 0
