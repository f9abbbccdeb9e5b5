"""A security module in software, as a test double: keys, counters, delays, faults."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hsm.api import Curve, DataObject, EphemeralKey, KeySlot, PublicKey, ServiceKey, WrappedKey
from hsm.errors import CommandRefused
from tools.counterparts.keys import verify_signature, wrap_service_key

CURVES: dict[Curve, ec.EllipticCurve] = {
    Curve.P256: ec.SECP256R1(),
    Curve.P384: ec.SECP384R1(),
    Curve.BRAINPOOL_P256: ec.BrainpoolP256R1(),
    Curve.BRAINPOOL_P384: ec.BrainpoolP384R1(),
    Curve.BRAINPOOL_P512: ec.BrainpoolP512R1(),
}
_BY_NAME = {curve.name: name for name, curve in CURVES.items()}
_HASHES = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}


def public_of(key: ec.EllipticCurvePrivateKey) -> PublicKey:
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return PublicKey(_BY_NAME[key.curve.name], point)


class SoftModule:
    """Implements `hsm.api.SecurityModule`; one operation at a time, each `delay_s` long.

    `counts` has one entry per operation, `ephemerals` holds the keys not used up yet, and
    `faults[operation]` is raised instead of doing it.
    """

    def __init__(self, *, delay_s: float = 0.0) -> None:
        self.keys: dict[KeySlot, ec.EllipticCurvePrivateKey] = {}
        self.ephemerals: dict[int, ec.EllipticCurvePrivateKey] = {}
        self.services: dict[int, tuple[ec.EllipticCurvePrivateKey, PublicKey]] = {}
        self.count = 0
        self.objects: dict[DataObject, bytes] = {}
        self.counts: Counter[str] = Counter()
        self.faults: dict[str, BaseException] = {}
        self.delay_s = delay_s
        self._references = itertools.count(1)
        self._channel = asyncio.Lock()

    async def _turn(self, operation: str) -> None:
        async with self._channel:
            self.counts[operation] += 1
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if operation in self.faults:
                raise self.faults[operation]

    def _key(self, slot: KeySlot) -> ec.EllipticCurvePrivateKey:
        if slot not in self.keys:
            raise CommandRefused("key", 0x6A88)
        return self.keys[slot]

    async def random(self, count: int) -> bytes:
        await self._turn("random")
        return os.urandom(count)

    async def generate_key_pair(self, slot: KeySlot, curve: Curve) -> PublicKey:
        await self._turn("generate_key_pair")
        self.keys[slot] = ec.generate_private_key(CURVES[curve])
        return public_of(self.keys[slot])

    async def public_key(self, slot: KeySlot) -> PublicKey:
        await self._turn("public_key")
        return public_of(self._key(slot))

    async def sign(self, slot: KeySlot, digest: bytes) -> bytes:
        await self._turn("sign")
        return self._signed(self._key(slot), digest)

    @staticmethod
    def _signed(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
        size = _BY_NAME[key.curve.name].field_bytes
        if len(digest) != size:
            raise CommandRefused("sign", 0x6A80)
        r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(_HASHES[len(digest)]))))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    async def agree(self, slot: KeySlot, peer_point: bytes) -> bytes:
        await self._turn("agree")
        return _exchange(self._key(slot), peer_point)

    async def generate_ephemeral(self, curve: Curve) -> EphemeralKey:
        await self._turn("generate_ephemeral")
        key = ec.generate_private_key(CURVES[curve])
        reference = next(self._references)
        self.ephemerals[reference] = key
        return EphemeralKey(reference, public_of(key))

    async def agree_ephemeral(self, key: EphemeralKey, peer_point: bytes) -> bytes:
        own = self.ephemerals.pop(key.reference)
        await self._turn("agree_ephemeral")
        return _exchange(own, peer_point)

    async def discard_ephemeral(self, key: EphemeralKey) -> None:
        await self._turn("discard_ephemeral")
        self.ephemerals.pop(key.reference, None)

    async def read_object(self, name: DataObject) -> bytes:
        await self._turn("read_object")
        return self.objects[name]

    async def write_object(self, name: DataObject, data: bytes) -> None:
        await self._turn("write_object")
        self.objects[name] = data

    async def verify(self, key: PublicKey, digest: bytes, signature: bytes) -> bool:
        await self._turn("verify")
        return verify_signature(key, digest, signature)

    async def counter(self) -> int:
        await self._turn("counter")
        return self.count

    async def increase_counter(self) -> int:
        await self._turn("increase_counter")
        self.count += 1
        return self.count

    async def activate(self, slot: KeySlot) -> None:
        await self._turn("activate")
        self._key(slot.pending)
        self.keys[slot] = self.keys.pop(slot.pending)

    async def delete_key(self, slot: KeySlot) -> None:
        await self._turn("delete_key")
        self.keys.pop(slot, None)

    async def generate_service_key(self, curve: Curve, receiver: PublicKey) -> ServiceKey:
        await self._turn("generate_service_key")
        reference = next(self._references)
        self.services[reference] = ec.generate_private_key(CURVES[curve]), receiver
        return ServiceKey(reference, public_of(self.services[reference][0]))

    async def sign_service(self, key: ServiceKey, digest: bytes) -> bytes:
        await self._turn("sign_service")
        if key.reference not in self.services:
            raise CommandRefused("key", 0x6A88)
        return self._signed(self.services[key.reference][0], digest)

    async def export_service_key(self, key: ServiceKey) -> WrappedKey:
        await self._turn("export_service_key")
        if key.reference not in self.services:
            raise CommandRefused("key", 0x6A88)
        return wrap_service_key(*self.services.pop(key.reference))

    async def discard_service_keys(self) -> None:
        await self._turn("discard_service_keys")
        self.services.clear()


def _exchange(own: ec.EllipticCurvePrivateKey, peer_point: bytes) -> bytes:
    try:
        peer = ec.EllipticCurvePublicKey.from_encoded_point(own.curve, peer_point)
    except ValueError as error:
        raise CommandRefused("agree", 0x6A80) from error
    return own.exchange(ec.ECDH(), peer)
