"""Data set to outbox: the gate decides, what leaves is noted for its consumer (FAU_GEN.1/CON)."""

from __future__ import annotations

import pytest

from firmware.errors import StoreUnavailable
from firmware.flow.delivery import Delivery
from tests.unit.firmware.profile_set import at, billing, household, peer
from tests.unit.firmware.test_gate import MONTH, World, month
from wan.ports import Release


class Outbox:
    def __init__(self):
        self.sent, self.fail = [], False

    async def send(self, release):
        if self.fail:
            raise StoreUnavailable("full")
        assert isinstance(release, Release)
        self.sent.append(release)


class Sending:
    def __init__(self, profiles):
        self.world, self.outbox, self.notes = World(profiles), Outbox(), []
        self.delivery = Delivery(self.world.gate, self.outbox, self._note)

    async def _note(self, sent):
        self.notes.append(sent)


async def test_a_data_set_reaches_the_outbox():
    sending = Sending(household())
    assert await sending.delivery.deliver(household().communication[0], month())
    (release,) = sending.outbox.sent
    (note,) = sending.notes
    assert (note.consumer, note.recipient, note.communication) == ("household", "emp", "billing")
    assert (note.message_id, note.from_utc, note.to_utc, note.entries) == (
        release.message_id,
        at(0),
        at(MONTH),
        1,
    )
    assert (sending.delivery.sent, sending.delivery.denied) == (1, 0)


async def test_a_denied_data_set_does_not():
    wrong = billing(recipient="other", peer=peer("other"))
    sending = Sending(household(communication=(wrong,)))
    assert not await sending.delivery.deliver(wrong, month())
    assert (sending.outbox.sent, sending.notes) == ([], [])
    assert (sending.delivery.sent, sending.delivery.denied) == (0, 1)
    assert len(sending.world.denials) == 1


async def test_a_concealed_profile_delivers_nothing():
    sending = Sending(household())
    assert not await sending.delivery.deliver(household().communication[1], month(processing="series", taf=7))
    assert sending.outbox.sent == []


async def test_an_outbox_that_fails_is_tried_again_by_the_caller():
    sending = Sending(household())
    sending.outbox.fail = True
    with pytest.raises(StoreUnavailable):
        await sending.delivery.deliver(household().communication[0], month())
    assert (sending.notes, sending.delivery.sent) == ([], 0)
