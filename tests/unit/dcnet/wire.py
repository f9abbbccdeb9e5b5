"""Everything a supplier received in a whole net, byte by byte, against the second model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from asn1crypto import cms
from cryptography.hazmat.primitives.asymmetric import ec

from firmware.enforcement.dcnet.messages.documents import from_bitmap
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest, ManifestReply
from firmware.enforcement.dcnet.messages.roster import KeyBundle, Roster, RosterPublication
from hsm.api import KeySlot
from tests.support import dcnet_model as model
from tests.support.soft_module import SoftModule


class RememberingModule(SoftModule):
    """Tells afterwards which random numbers it gave away."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[bytes] = []
        self.deleted: dict[KeySlot, ec.EllipticCurvePrivateKey] = {}

    async def delete_key(self, slot: KeySlot) -> None:
        self.deleted[slot] = self._key(slot)
        await super().delete_key(slot)

    async def random(self, count: int) -> bytes:
        self.given.append(await super().random(count))
        return self.given[-1]


def content(signed: bytes) -> bytes:
    """What a SignedData signs; the signature is checked by others."""
    data = cms.ContentInfo.load(signed)["content"]["encap_content_info"]["content"]
    return bytes(data.native)


@dataclass
class Wire:
    """Bodies of one whole net, and the secrets of its members that only a test may know."""

    modules: Sequence[RememberingModule]
    emp_enc: ec.EllipticCurvePublicKey
    sent: Sequence[Sequence[tuple[str, bytes]]]
    """Of each member: request, body."""
    received: Sequence[Sequence[tuple[str, bytes]]]
    """Of each member: request, body of the answer."""
    readings: Mapping[int, Mapping[int, model.Lanes]]
    """Slot -> member index -> lanes."""
    used: dict[tuple[int, bytes], int] = field(default_factory=dict)
    """(Member, seed of a self-mask) -> its slot."""

    def judge(self) -> int:
        """Recompute every frame; return how many openings were right."""
        self._roster_and_keys()
        opened = 0
        for slot in self.readings:
            opened += self._slot(slot)
        self._nothing_plain()
        return opened

    def _roster_and_keys(self) -> None:
        publication = RosterPublication.from_bytes(self._answer(0, "/roster/"))
        text = content(publication.signed)
        self.roster, self.roster_hash = Roster.from_bytes(text), sha256(text).digest()
        bundles = [KeyBundle.from_bytes(content(bundle.signed)) for bundle in publication.bundles]
        private = [module.deleted[KeySlot.DCNET_1] for module in self.modules]
        self.net, self.version, self.size = self.roster.net, self.roster.version, len(private)
        self.roots: dict[model.Edge, bytes] = {}
        for low in range(1, self.size + 1):
            for high in range(low + 1, self.size + 1):
                z = private[low - 1].exchange(ec.ECDH(), private[high - 1].public_key())
                self.roots[low, high] = model.root_key(
                    z, self.roster_hash, bundles[low - 1].pseudonym, bundles[high - 1].pseudonym
                )
        self.macs = {
            index: model.mac_key(
                key.exchange(ec.ECDH(), self.emp_enc), self.roster_hash, self.net, self.version
            )
            for index, key in enumerate(private, 1)
        }

    def _answer(self, member: int, part: str) -> bytes:
        return next(body for request, body in self.received[member] if part in request and body)

    def _slot(self, slot: int) -> int:
        reply = ManifestReply.from_bytes(self._answer(0, f"/manifest/{slot}/"))
        text = content(reply.signed)
        manifest = Manifest.from_bytes(text)
        accepted, before = from_bitmap(manifest.accepted, self.size), manifest.previous
        frames = {
            (what, index): body
            for index, sent in enumerate(self.sent, 1)
            for request, body in sent
            for what in ("submit", "open")
            if f"/{what}/{slot}/" in request
        }
        ys, rs = {}, {}
        for index in accepted:
            submit, opening = frames["submit", index], frames["open", index]
            epoch = int.from_bytes(submit[28:32], "little")
            expected = self._expected_of(submit)
            pads = self._pads(index, expected, before, slot, epoch)
            hidden = self._pads(index, expected - accepted, before, slot, epoch)
            r = model.as_lanes(opening[64:-16])
            mask = model.plus(r, model.times(-1, hidden))
            given = [one for one in self.modules[index - 1].given if len(one) == 16]
            seeds = [seed for seed in given if model.self_mask(seed, slot, 3) == mask]
            assert seeds, "r is b and the missing pads"
            assert self.used.setdefault((index, seeds[0]), slot) == slot, "a seed serves once"
            y = model.plus(self.readings[slot][index], mask, pads)
            common = {
                "slot": slot,
                "net": self.net,
                "index": index,
                "version": self.version,
                "epoch": epoch,
                "key": self.macs[index],
            }
            assert submit == model.frame(1, context=before, lanes=y, **common)  # type: ignore[arg-type]  # mixed
            assert opening == model.frame(2, context=sha256(text).digest(), lanes=r, **common)  # type: ignore[arg-type]  # as above
            ys[index], rs[index] = y, r
        root = model.merkle_root([model.frame_digest(frames["submit", index]) for index in sorted(accepted)])
        assert manifest.root == root
        total = model.plus(*ys.values(), *(model.times(-1, r) for r in rs.values()))
        assert total == model.plus(*(self.readings[slot][index] for index in accepted))
        return len(accepted)

    def _expected_of(self, submit: bytes) -> frozenset[int]:
        """P: accepted and greeting members of the manifest that the frame builds on."""
        named = submit[32:64]
        for request, body in self.received[0]:
            if "/manifest/" not in request or not body:
                continue
            text = content(body if "/epoch/" in request else ManifestReply.from_bytes(body).signed)
            if sha256(text).digest() == named:
                if "/epoch/" in request:
                    return from_bitmap(EpochManifest.from_bytes(text).present, self.size)
                found = Manifest.from_bytes(text)
                return from_bitmap(found.accepted, self.size) | from_bitmap(found.hello, self.size)
        raise AssertionError("a frame builds on a manifest that nobody got")

    def _pads(self, index: int, among: Iterable[int], before: bytes, slot: int, epoch: int) -> model.Lanes:
        total: model.Lanes = (0, 0, 0)
        for other in set(among) - {index}:
            edge = (min(index, other), max(index, other))
            chain = model.kdf(self.roots[edge], b"chain0", self.net)
            for _ in range(epoch - self.roster.first_epoch):
                chain = model.kdf(chain, b"chain", self.net)
            key = model.kdf(chain, b"epoch", self.net, model.big(epoch, 4))
            pad = model.as_lanes(model.prf(key, before, slot, 0, 24))
            total = model.plus(total, model.times(1 if index < other else -1, pad))
        return total

    def _nothing_plain(self) -> None:
        """No reading as a number, as text or in JSON in any body that left after there were readings."""
        energies = {lane for slot in self.readings.values() for x in slot.values() for lane in x[:2]}
        forms: set[bytes] = set()
        for tenths in energies:
            for value in {tenths, tenths // 10} - set(range(1000)):  # small ones occur as index or by chance
                forms |= {model.little(value, 8), model.big(value, 8), json.dumps({"wh": value}).encode()}
                forms |= {str(value).encode(), f"{value:08x}".encode()}
        bodies = [body for sent in self.sent for request, body in sent if "bundle" not in request and body]
        assert len(bodies) > len(self.readings)
        for body in bodies:
            assert not [form for form in forms if form in body], "a plain reading"
            assert not body.startswith((b"{", b"["))
