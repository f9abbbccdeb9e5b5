"""What must hold after any run of a whole net, whatever network and power did; each names its invariant."""

from __future__ import annotations

from collections import Counter, defaultdict

from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame, FrameType
from firmware.enforcement.dcnet.messages.manifest import Manifest, ManifestReply
from firmware.enforcement.dcnet.slot.ledger import Owed, SlotEntry
from tests.unit.dcnet.hostile_net import Gateway, WholeNet
from tests.unit.dcnet.named_parties import content_of
from tests.unit.dcnet.support import MemoryStore


async def all_hold(net: WholeNet) -> None:
    """Check every invariant that a run can break, on what left the gateways and on what is durable."""
    totals_are_plain_sums(net)
    one_submission_and_one_opening(net)
    left_out_members_stay_closed(net)
    seeds_serve_once(net)
    await nothing_is_lost_or_counted_twice(net)


def totals_are_plain_sums(net: WholeNet) -> None:
    """I1, I17, I18: every total is the sum over exactly its members, and its canary counts them."""
    for slot, told in net.totals.items():
        if told["verdict"] == "totalled":
            assert told["lanes"] == net.true_sum(slot, told["members"]), slot


def one_submission_and_one_opening(net: WholeNet) -> None:
    """I3, I4, I6: whatever a member sends again for a slot has the same bytes."""
    for what, type_ in (("submit", FrameType.SUBMIT), ("open", FrameType.OPEN)):
        bodies = defaultdict(set)
        for gateway, slot, body in net.frames(what):
            if Frame.from_bytes(body[:-MAC_BYTES]).type is type_:
                bodies[gateway.name, slot].add(body)
        for who, found in bodies.items():
            assert len(found) == 1, (what, who)


def left_out_members_stay_closed(net: WholeNet) -> None:
    """I5: nobody opens under a manifest that does not name it."""
    manifests = {}
    for bodies in net.received.values():
        for resource, status, body in bodies:
            if "/manifest/" in resource and "/epoch/" not in resource and status == 200:
                manifest = Manifest.from_bytes(content_of("emp", ManifestReply.from_bytes(body).signed))
                manifests[document_hash(manifest)] = from_bitmap(manifest.accepted, net.size)
    for gateway, _, body in net.frames("open"):
        reference = Frame.from_bytes(body[:-MAC_BYTES]).reference
        assert gateway.index in manifests[reference]


def seeds_serve_once(net: WholeNet) -> None:
    """I6, I13: no seed of a self-mask was in the ledger for two slots, and each came from the module."""
    for gateway in net.gateways:
        used = defaultdict(set)
        for entry in gateway.entries_written:
            if entry.seed:
                used[entry.seed].add(entry.slot)
                assert entry.seed in gateway.module.seeds
        assert all(len(slots) == 1 for slots in used.values())


async def nothing_is_lost_or_counted_twice(net: WholeNet) -> None:
    """I12: what a gateway measured is in a total, owed, or waits for a result that is still to come."""
    for gateway in net.gateways:
        entries, owed = await durable(gateway)
        spans = Counter((one.first_slot, one.last_slot) for one in owed)
        for span, energy in gateway.spans.items():
            assert [one.import_wh for one in owed if (one.first_slot, one.last_slot) == span] == [energy]
        for slot in gateway.measured:
            told = net.totals.get(slot)
            counted = told is not None and told["verdict"] == "totalled" and gateway.name in told["members"]
            state = entries[slot].state if slot in entries else None
            if state is SlotState.TOTALLED:
                assert counted, (gateway.name, slot, "said to be in a total and is not")
            elif state is SlotState.OWED or spans[slot, slot]:
                assert not counted, (gateway.name, slot, "owed although a total has it")
            else:
                assert state in (SlotState.OPENED, SlotState.MEASURED, SlotState.SUBMITTED), (
                    gateway.name,
                    slot,
                    "lost",
                )


async def durable(gateway: Gateway) -> tuple[dict[int, SlotEntry], list[Owed]]:
    """What a gateway would find in its store after a restart."""
    store = MemoryStore()
    store.data = gateway.data
    member = gateway.new_member(store)
    return {entry.slot: entry for entry in await member.slots()}, await member.owed()
