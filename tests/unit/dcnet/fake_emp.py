"""One real member against a scripted supplier, on a clock that jumps to whatever is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from firmware.enforcement.dcnet.events import NetEvent
from firmware.enforcement.dcnet.founding.authorisation import GraphPublication, PeerAuthorisation
from firmware.enforcement.dcnet.founding.beacon import BeaconReveal, Nonces
from firmware.enforcement.dcnet.founding.confirmation import Confirmations, EdgeConfirm
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame, FrameType, digest
from firmware.enforcement.dcnet.messages.manifest import (
    EpochManifest,
    Manifest,
    ManifestReply,
    SlotResult,
    Verdict,
)
from firmware.enforcement.dcnet.messages.roster import (
    Attestation,
    KeyBundle,
    KeyExchange,
    Roster,
    RosterEntry,
    RosterPublication,
    SignedBundle,
)
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import kdf, merkle
from firmware.enforcement.dcnet.service.client import Exchange
from firmware.enforcement.dcnet.service.driver import NetMember
from hsm.api import Curve, KeySlot, PublicKey
from tests.support.soft_module import SoftModule
from tests.unit.dcnet.support import (
    MemoryStore,
    NamedSignatures,
    administrator,
    attested_by,
    authorisation,
    rules,
    signed_by,
)
from wan.errors import PeerUnavailable

EMP_NONCE, GWA_NONCE = b"\xee" * 32, b"\xaa" * 32
NONCES = [bytes([index]) * 32 for index in range(1, 100)]


class JumpingClock:
    """Time passes only by waiting, and then at once."""

    def __init__(self, start: datetime) -> None:
        self.now = start

    def now_utc(self) -> datetime:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        self.now += timedelta(seconds=delay_s)
        await asyncio.sleep(0)

    async def sleep_until(self, instant_utc: datetime) -> None:
        self.now = max(self.now, instant_utc)
        await asyncio.sleep(0)


@dataclass
class Answer:
    status: int
    body: bytes = b""


class FakeEmp:
    """Members 2..size exist on paper only; member 1 is the one under test."""

    def __init__(self, net_rules: NetRules, clock: JumpingClock, size: int = 5) -> None:
        self.rules, self.clock, self.size = net_rules, clock, size
        self.module = SoftModule()
        self.bundles: list[SignedBundle] = []
        self.publication: RosterPublication | None = None
        self.first_slot = 1
        self.present: dict[int, frozenset[int]] = {}
        self.left_out: dict[int, set[int]] = {}
        """Slot -> indices missing in its manifest."""
        self.tamper: Callable[[Manifest], Manifest] = lambda manifest: manifest
        self.sign_as = "emp"
        self.submitted: dict[int, bytes] = {}
        self.opened: dict[int, bytes] = {}
        self.hello: set[int] = set()
        self.deliveries: list[tuple[str, bytes]] = []
        self.manifests: dict[int, Manifest] = {}
        self.archived: dict[int, Manifest] = {}
        """Of the epoch before."""
        self.epoch: EpochManifest | None = None
        self.lost: Callable[[str], bool] = lambda resource: False
        self.tell_results = True
        self.nonces: tuple[bytes, ...] = ()
        self.gwa_nonce = GWA_NONCE
        self.authorise: Callable[[PeerAuthorisation], PeerAuthorisation] = lambda given: given
        self.confirmed: Attestation | None = None
        self.disputes: list[bytes] = []
        self.silent: frozenset[int] = frozenset()
        """Indices that confirm no edge."""
        self.tell: Callable[[EdgeConfirm], EdgeConfirm] = lambda said: said
        self.paper: dict[int, SoftModule] = {}

    async def prepare(self) -> PublicKey:
        self.enc = await self.module.generate_key_pair(KeySlot.WAN_ENC, Curve.P256)
        return self.enc

    async def exchange(self, method: str, resource: str, body: bytes) -> Answer:
        parts = resource.removeprefix(f"/dcnet/v1/{self.rules.net.hex()}/").split("/")
        if self.lost(resource):
            raise PeerUnavailable("lost")
        answer = await self._answer(method, parts, body)
        if self.lost("answer " + resource):
            raise PeerUnavailable("the answer was lost")
        return answer

    async def _answer(self, method: str, parts: list[str], body: bytes) -> Answer:
        match [method, *parts]:
            case ["PUT", "bundle", "1", _]:
                if self.publication is None:
                    self.publication = await self._publish(SignedBundle.from_bytes(body))
                return Answer(201)
            case ["GET", "roster", "1"]:
                if self.publication is None:
                    return Answer(404)
                return Answer(200, self.publication.to_bytes())
            case ["PUT", "reveal", "1", _]:
                self.nonces = (BeaconReveal.from_bytes(body).nonce, *NONCES[1 : self.size])
                return Answer(201)
            case ["GET", "graph", "1"]:
                if not self.nonces:
                    return Answer(404)
                nonces = Nonces(self.rules.net, 1, EMP_NONCE, (self.gwa_nonce,), self.nonces)
                allowed = attested_by("gwa", self.authorise(authorisation(self.roster)).to_bytes())
                return Answer(200, GraphPublication(nonces, (allowed,)).to_bytes())
            case ["PUT", "confirm", "1", _]:
                self.confirmed = Attestation.from_bytes(body)
                return Answer(201)
            case ["GET", "confirm", "1", _]:
                return Answer(200, (await self._confirmations()).to_bytes())
            case ["PUT", "dispute", "1", _]:
                self.disputes.append(body)
                return Answer(201)
            case ["GET", "manifest", "epoch", _]:
                return Answer(200, signed_by("emp", self._epoch_manifest().to_bytes()))
            case ["GET", "manifest", slot, "1"]:
                return await self._manifest(int(slot))
            case ["PUT", "submit", slot, "1"]:
                self.deliveries.append(("submit", body))
                if Frame.from_bytes(body[:-MAC_BYTES]).type is FrameType.HELLO:
                    self.hello.add(int(slot))
                else:
                    self.submitted.setdefault(int(slot), body)
                return Answer(201)
            case ["PUT", "open", slot, "1"]:
                self.deliveries.append(("open", body))
                self.opened.setdefault(int(slot), body)
                return Answer(201)
            case ["GET", "result", slot] if self.tell_results:
                result = self._result(int(slot))
                return Answer(404) if result is None else Answer(200, signed_by("emp", result.to_bytes()))
        return Answer(404)

    async def _publish(self, own: SignedBundle) -> RosterPublication:
        bundles = [own]
        for index in range(2, self.size + 1):
            signatures = NamedSignatures(f"gw{index}")
            self.paper[index] = SoftModule()
            public = await self.paper[index].generate_key_pair(KeySlot.DCNET_1, Curve.P256)
            name = hashlib.sha256(signatures.certificate).digest()
            bundle = KeyBundle(
                self.rules.net,
                1,
                bytes([index]) * 16,
                KeyExchange.ECKA,
                public.point,
                BeaconReveal(self.rules.net, 1, NONCES[index - 1]).commitment,
                name,
            )
            bundles.append(SignedBundle(signatures.certificate, await signatures.sign(bundle.to_bytes())))
        entries = []
        for index, signed in enumerate(bundles, 1):
            bundle = KeyBundle.from_bytes(signed.signed.partition(b"|")[2])
            entries.append(
                RosterEntry(index, bundle.pseudonym, bundle.certificate_hash, "gwa", document_hash(bundle))
            )
        self.roster = Roster(
            self.rules.net,
            1,
            bytes(32),
            self.rules.policy_hash(),
            self.rules.schema_hash(),
            self.rules.epoch_of(0),
            BeaconReveal(self.rules.net, 1, EMP_NONCE).commitment,
            (administrator("gwa", GWA_NONCE),),
            tuple(entries),
        )
        content = self.roster.to_bytes()
        return RosterPublication(signed_by("emp", content), (attested_by("gwa", content),), tuple(bundles))

    async def _confirmations(self) -> Confirmations:
        """What members 2..size tell member 1."""
        assert self.publication is not None
        own, items, name = self._own_bundle(), [], document_hash(self.roster)
        for index in sorted(self.paper.keys() - self.silent):
            pseudonyms = [entry.pseudonym for entry in self.roster.entries]
            secret = await self.paper[index].agree(KeySlot.DCNET_1, own.point)
            root = kdf.edge_root(secret, name, pseudonyms[0], pseudonyms[index - 1])
            tag = kdf.confirm_tag(root, name, upward=False)
            said = self.tell(EdgeConfirm(self.rules.net, 1, name, index, ((1, tag),)))
            items.append(attested_by(f"gw{index}", said.to_bytes()))
        return Confirmations(tuple(items))

    def _own_bundle(self) -> KeyBundle:
        assert self.publication is not None
        return KeyBundle.from_bytes(self.publication.bundles[0].signed.partition(b"|")[2])

    def _epoch_manifest(self) -> EpochManifest:
        everybody = to_bitmap(set(range(1, self.size + 1)) - self.silent, self.size)
        epoch = self.rules.epoch_of(self.first_slot)
        return EpochManifest(self.rules.net, 1, document_hash(self.roster), epoch, self.first_slot, everybody)

    async def _manifest(self, slot: int) -> Answer:
        if slot not in self.manifests:
            if self.clock.now < self.rules.submit_until(slot) or slot < self.first_slot:
                return Answer(404)
            if slot > self.first_slot and slot - 1 not in self.manifests:
                await self._manifest(slot - 1)
            self.manifests[slot] = self.tamper(self._make(slot))
        manifest = self.manifests[slot]
        digests = self._digests(slot)
        path = merkle.path([digests[i] for i in sorted(digests)], 0) if 1 in digests else ()
        return Answer(200, ManifestReply(signed_by(self.sign_as, manifest.to_bytes()), path).to_bytes())

    def _digests(self, slot: int) -> dict[int, bytes]:
        out = self.left_out.get(slot, set())
        found = {i: bytes([i]) * 32 for i in range(2, self.size + 1) if i not in out}
        if slot in self.submitted and 1 not in out:
            found[1] = digest(self.submitted[slot][:-MAC_BYTES])
        return found

    def _make(self, slot: int) -> Manifest:
        before = self.manifests.get(slot - 1)
        digests = self._digests(slot)
        return Manifest(
            self.rules.net,
            1,
            slot,
            document_hash(self._epoch_manifest() if before is None else before),
            to_bitmap(digests, self.size),
            to_bitmap([1] if slot in self.hello else [], self.size),
            merkle.root([digests[i] for i in sorted(digests)]),
            self._result(slot - 1),
        )

    def _result(self, slot: int) -> SlotResult | None:
        manifest = self.manifests.get(slot, self.archived.get(slot))
        if manifest is None:
            return None
        verdict = Verdict.TOTALLED if slot in self.opened else Verdict.ABORTED
        return SlotResult(self.rules.net, slot, document_hash(manifest), verdict)


class World:
    """A member, its supplier, its store; `restart` is a power cut."""

    def __init__(self, net_rules: NetRules | None = None) -> None:
        self.rules = net_rules if net_rules is not None else rules()
        self.clock = JumpingClock(self.rules.t0_utc)
        self.emp, self.store, self.module = FakeEmp(self.rules, self.clock), MemoryStore(), SoftModule()
        self.events: list[NetEvent] = []
        self.administrator: Exchange | None = None

    async def member(self) -> NetMember:
        if not hasattr(self.emp, "enc"):
            await self.emp.prepare()

        async def report(event: NetEvent) -> None:
            self.events.append(event)

        return NetMember(
            self.rules,
            "gw1",
            signatures=NamedSignatures("gw1"),
            module=self.module,
            key_slot=KeySlot.DCNET_1,
            emp_key=self.emp.enc,
            exchange=self.emp.exchange,
            store=self.store,
            clock=self.clock,
            report=report,
            insecure_small_nets_allowed=True,
            administrator=self.administrator,
        )

    async def run(self, member: NetMember, until_slot: int) -> None:
        """Let the member live until the clock has passed the end of `until_slot`."""
        async with asyncio.timeout(20):
            task = asyncio.ensure_future(member.run())
            while self.clock.now < self.rules.slot_end(until_slot) and not task.done():  # noqa: ASYNC110 - the clock is no event
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def altered(**changes: object) -> Callable[[Manifest], Manifest]:
    return lambda manifest: replace(manifest, **changes)  # type: ignore[arg-type]
