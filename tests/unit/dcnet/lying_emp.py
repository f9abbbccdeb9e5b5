"""A supplier that lies to running members as it likes, and a record of everything it then knows.

It keeps a chain of its own for each member, so that no member can notice by itself: other members left out,
other manifests for whoever asks again, none at all for some, false results. Corrupt members run the
product, and give away all they know.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame, FrameType, digest
from firmware.enforcement.dcnet.messages.manifest import (
    EpochManifest,
    Manifest,
    ManifestReply,
    SlotResult,
    Verdict,
)
from firmware.enforcement.dcnet.primitives import merkle
from tests.unit.dcnet.hostile_net import WholeNet
from tests.unit.dcnet.named_parties import signed_by
from tools.counterparts.net_playing import Ruling
from tools.counterparts.net_request import answer, body_of, number
from tools.counterparts.net_slots import NetSlots
from tools.dcnet.leak import Known, known
from tools.dcnet.record import CORRUPT, MESSAGES, PublicNet, Seen, read


@dataclass
class Plan:
    """How a supplier lies."""

    source: random.Random
    withhold: float = 0.1
    """Chance that a member is shown no manifest in a slot."""
    most_left_out: int = 3
    stories: int = 3
    false_results: float = 0.3
    again: float = 0.3
    """Chance that who asks again is told another story."""
    left_out: dict[tuple[int, int], set[int]] = field(default_factory=dict)
    """(slot, index) -> whom the manifest for this member leaves out; drawn where not given."""


class LyingEmp(NetSlots):
    """Founds its net honestly, as members check that; lies from the first slot on."""

    plan: Plan

    async def play(self, slot: int, ruling: Ruling) -> None:
        """Take over the roster, and then only answer."""
        self._enter(now := await ruling(slot))
        self.roster, self.terms, self.first_slot = now.roster, now.terms, slot
        self.everybody = frozenset(range(1, self.terms.size + 1))
        self.frames: dict[tuple[str, int, int], bytes] = {}
        self.shown: dict[tuple[int, int], Manifest] = {}
        self.documents: dict[bytes, tuple[str, bytes]] = {}
        self._stories: dict[tuple[int, int], set[int]] = {}
        self._hushed: dict[tuple[int, int], bool] = {}
        self._chain: dict[int, Manifest | EpochManifest] = {}
        self._verdicts: dict[tuple[int, bytes], bool] = {}
        await asyncio.Event().wait()

    def _say(self, kind: str, document: Manifest | EpochManifest) -> bytes:
        self.documents[document_hash(document)] = kind, document.to_bytes()
        return signed_by("emp", document.to_bytes())

    async def _get_epoch(self, request: web.Request) -> web.Response:
        epoch = number(request, "epoch")
        if self.now is None or epoch > self.rules.epoch_of(self.rules.slot_at(self._now_utc())):
            raise web.HTTPNotFound
        first = self.first_slot
        while self.rules.epoch_of(first) < epoch:
            first += 1
        everybody = to_bitmap(self.everybody, self.terms.size)
        roster_hash = document_hash(self.roster)
        made = EpochManifest(self.rules.net, 1, roster_hash, epoch, first, everybody)
        index = self.members.index(self._gateway(request)) + 1
        self._chain.setdefault(index, made)
        if not isinstance(before := self._chain[index], EpochManifest) and before.slot < first:
            self._chain[index] = made
        return answer(self._say("epoch", made))

    async def _put_submit(self, request: web.Request) -> web.Response:
        return await self._keep("submit", request)

    async def _put_open(self, request: web.Request) -> web.Response:
        return await self._keep("open", request)

    async def _keep(self, what: str, request: web.Request) -> web.Response:
        key = what, number(request, "slot"), self._sender(request)
        self.frames.setdefault(key, await body_of(request))
        return web.Response(status=201)

    async def _get_manifest(self, request: web.Request) -> web.Response:
        slot, index, source = number(request, "slot"), self._sender(request), self.plan.source
        if self._now_utc() < self.rules.submit_until(slot) or index not in self._chain:
            raise web.HTTPNotFound
        hushed = self._hushed.setdefault((slot, index), source.random() < self.plan.withhold)
        known_one = self.shown.get((slot, index))
        if hushed or known_one is None or source.random() < self.plan.again:
            if hushed and known_one is None:
                raise web.HTTPNotFound
            before = self._chain[index]
            if known_one is not None:
                return self._reply(slot, index, self._made(slot, index, known_one.previous))
            if (before.slot + 1 if isinstance(before, Manifest) else before.first_slot) != slot:
                raise web.HTTPNotFound
            self.shown[slot, index] = self._chain[index] = self._made(slot, index, document_hash(before))
        return self._reply(slot, index, self.shown[slot, index])

    def _submitted(self, slot: int) -> dict[int, bytes]:
        found = {}
        for (what, of, index), sealed in self.frames.items():
            body = sealed[:-MAC_BYTES]
            if (what, of) == ("submit", slot) and Frame.from_bytes(body).type is FrameType.SUBMIT:
                found[index] = digest(body)
        return found

    def _made(self, slot: int, index: int, previous: bytes) -> Manifest:
        """A manifest for this member: its own leaf is in it, and of the others whom the story names."""
        out = self.plan.left_out.get((slot, index))
        if out is None:
            source, story = self.plan.source, (slot, self.plan.source.randrange(self.plan.stories))
            if story not in self._stories:
                count = source.randint(0, self.plan.most_left_out)
                self._stories[story] = set(source.sample(sorted(self.everybody), count))
            out = self._stories[story]
        there = {i: name for i, name in self._submitted(slot).items() if i == index or i not in out}
        hello = self.everybody - there.keys()  # whoever is left out may come back at once
        return Manifest(
            self.rules.net,
            1,
            slot,
            previous,
            to_bitmap(there, self.terms.size),
            to_bitmap(hello, self.terms.size),
            merkle.root([there[i] for i in sorted(there)]),
            self._verdict(slot - 1, previous),
        )

    def _verdict(self, slot: int, manifest_hash: bytes) -> SlotResult | None:
        if slot < self.first_slot or manifest_hash not in self.documents:
            return None
        key = slot, manifest_hash
        if key not in self._verdicts:  # said once: a member that hears both has proof
            self._verdicts[key] = self.plan.source.random() < self.plan.false_results
        lies = self._verdicts[key]
        return SlotResult(self.rules.net, slot, manifest_hash, Verdict.ABORTED if lies else Verdict.TOTALLED)

    def _reply(self, slot: int, index: int, shown: Manifest) -> web.Response:
        there = {
            i: name
            for i, name in self._submitted(slot).items()
            if shown.accepted[(i - 1) // 8] >> (i - 1) % 8 & 1
        }
        order = sorted(there)
        path = merkle.path([there[i] for i in order], order.index(index)) if index in there else ()
        return answer(ManifestReply(self._say("manifest", shown), path).to_bytes())

    async def _get_result(self, request: web.Request) -> web.Response:
        slot, index = number(request, "slot"), self.members.index(self._gateway(request)) + 1
        shown = self.shown.get((slot, index))
        result = None if shown is None else self._verdict(slot, document_hash(shown))
        if result is None:
            raise web.HTTPNotFound
        return answer(signed_by("emp", result.to_bytes()))


def lied_to(plan: Plan, size: int, **changes: object) -> WholeNet:
    """A net of running members with a lying supplier."""
    liar = type("Liar", (LyingEmp,), {"plan": plan})
    return WholeNet(size, slots=liar, reading=lambda slot, i: (100 * i + slot, i), **changes)


def record(net: WholeNet, folder: Path, corrupt: frozenset[int] = frozenset()) -> Path:
    """Write everything that left the gateways, and what they were shown, as `smgw dcnet leak` reads it."""
    emp = net.coordinator.slots
    assert isinstance(emp, LyingEmp)
    members = [gateway.member.membership for gateway in net.gateways]
    adjacent = next(one.adjacent for one in members if one is not None)
    edges = tuple((low, high) for low in sorted(adjacent) for high in sorted(adjacent[low]) if low < high)
    public = PublicNet(net.rules.net, net.rules.n_min, net.rules.d_min, 0, net.size, edges)
    seen = [Seen("emp", "all", "net", public.to_bytes())]
    seen += [Seen("emp", "all", kind, data) for kind, data in emp.documents.values()]
    for what in ("submit", "open"):
        seen += [Seen(gateway.name, "emp", what, body) for gateway, _, body in net.frames(what)]
    folder.mkdir(parents=True)
    (folder / MESSAGES).write_text("".join(one.to_line() + "\n" for one in seen), encoding="utf-8")
    speaking = {one.sender for one in seen}  # who sent nothing goes by its number
    given = [f"gw{index}" if f"gw{index}" in speaking else str(index) for index in sorted(corrupt)]
    names = ", ".join(f'"{name}"' for name in given)
    (folder / CORRUPT).write_text(f'{{"corrupt": [{names}]}}', encoding="utf-8")
    return folder


def judged(folder: Path) -> Known:
    """What the shipped check says of a record, read from its files."""
    return known(*read(folder))
