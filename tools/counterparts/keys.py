"""A counterpart's keys, in files and in software. Never for a gateway: its keys live in its module."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from hsm.api import Curve, DataObject, EphemeralKey, KeySlot, PublicKey, ServiceKey, WrappedKey
from hsm.errors import CommandRefused

_CURVES: Final[Mapping[Curve, ec.EllipticCurve]] = {
    Curve.P256: ec.SECP256R1(),
    Curve.P384: ec.SECP384R1(),
    Curve.BRAINPOOL_P256: ec.BrainpoolP256R1(),
    Curve.BRAINPOOL_P384: ec.BrainpoolP384R1(),
    Curve.BRAINPOOL_P512: ec.BrainpoolP512R1(),
}
_BY_NAME: Final = {curve.name: ours for ours, curve in _CURVES.items()}
_HASHES: Final[Mapping[int, hashes.HashAlgorithm]] = {
    32: hashes.SHA256(),
    48: hashes.SHA384(),
    64: hashes.SHA512(),
}
_FILES: Final = {KeySlot.WAN_TLS: "tls", KeySlot.WAN_SIG: "sig", KeySlot.WAN_ENC: "enc"}
_NOT_FOUND, _WRONG_DATA = 0x6A88, 0x6A80


def pyca_curve(curve: Curve) -> ec.EllipticCurve:
    """The same curve as pyca/cryptography knows it."""
    return _CURVES[curve]


def new_private_key(curve: Curve) -> ec.EllipticCurvePrivateKey:
    """Make a software key."""
    return ec.generate_private_key(_CURVES[curve])


def load_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read an unencrypted PEM key of one of the five curves; ValueError for anything else."""
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _BY_NAME:
        raise ValueError(f"{path}: not a key of one of the five curves")
    return key


def save_private_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a key as PEM, mode 0600 from the first byte on."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)


def public_key_of(key: ec.EllipticCurvePublicKey) -> PublicKey:
    """The public key of pyca as the value that the module's port speaks of."""
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return PublicKey(_BY_NAME[key.curve.name], point)


class SoftwareKeys:
    """Implements `hsm.api.SecurityModule` with keys in memory, loaded from DIR/{tls,sig,enc}.key.

    Without a folder it starts empty; key pairs made later stay in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._keys: dict[KeySlot, ec.EllipticCurvePrivateKey] = {}
        self._ephemeral: dict[int, ec.EllipticCurvePrivateKey] = {}
        self._objects: dict[DataObject, bytes] = {}
        self._service: dict[int, tuple[ec.EllipticCurvePrivateKey, PublicKey]] = {}
        self._counter = 0
        self._next = 1
        for slot, name in _FILES.items() if folder is not None else ():
            assert folder is not None
            if (path := folder / f"{name}.key").exists():
                self._keys[slot] = load_private_key(path)

    def install(self, slot: KeySlot, key: ec.EllipticCurvePrivateKey) -> None:
        """Put a key of the caller's into a slot."""
        self._keys[slot] = key

    def _key(self, slot: KeySlot) -> ec.EllipticCurvePrivateKey:
        if slot not in self._keys:
            raise CommandRefused("key", _NOT_FOUND)
        return self._keys[slot]

    def sign_now(self, slot: KeySlot, digest: bytes) -> bytes:
        """`sign` for callers without an event loop; returns r | s."""
        return _sign(self._key(slot), digest)

    def public_key_now(self, slot: KeySlot) -> PublicKey:
        """`public_key` for callers without an event loop."""
        return public_key_of(self._key(slot).public_key())

    async def random(self, count: int) -> bytes:
        """Return `count` random bytes."""
        return os.urandom(count)

    async def generate_key_pair(self, slot: KeySlot, curve: Curve) -> PublicKey:
        """Make a new key pair in `slot`."""
        self._keys[slot] = new_private_key(curve)
        return self.public_key_now(slot)

    async def public_key(self, slot: KeySlot) -> PublicKey:
        """Return the public half of `slot`."""
        return self.public_key_now(slot)

    async def sign(self, slot: KeySlot, digest: bytes) -> bytes:
        """Sign a digest; returns r | s."""
        return self.sign_now(slot, digest)

    async def agree(self, slot: KeySlot, peer_point: bytes) -> bytes:
        """ECKA with a static key; returns Z."""
        return self._exchange(self._key(slot), peer_point)

    @staticmethod
    def _exchange(key: ec.EllipticCurvePrivateKey, peer_point: bytes) -> bytes:
        try:
            peer = ec.EllipticCurvePublicKey.from_encoded_point(key.curve, peer_point)
        except ValueError as error:
            raise CommandRefused("agree", _WRONG_DATA) from error
        return key.exchange(ec.ECDH(), peer)

    async def generate_ephemeral(self, curve: Curve) -> EphemeralKey:
        """Make a key pair for one agreement."""
        reference, self._next = self._next, self._next + 1
        self._ephemeral[reference] = key = new_private_key(curve)
        return EphemeralKey(reference, public_key_of(key.public_key()))

    async def agree_ephemeral(self, key: EphemeralKey, peer_point: bytes) -> bytes:
        """ECKA of an ephemeral key, which is gone afterwards."""
        private = self._ephemeral.pop(key.reference, None)
        if private is None:
            raise CommandRefused("agree", _NOT_FOUND)
        return self._exchange(private, peer_point)

    async def discard_ephemeral(self, key: EphemeralKey) -> None:
        """Erase an ephemeral key."""
        self._ephemeral.pop(key.reference, None)

    async def read_object(self, name: DataObject) -> bytes:
        """Return what was written."""
        return self._objects.get(name, b"")

    async def write_object(self, name: DataObject, data: bytes) -> None:
        """Keep `data` in memory."""
        self._objects[name] = data

    async def verify(self, key: PublicKey, digest: bytes, signature: bytes) -> bool:
        """Check r | s over a digest."""
        return verify_signature(key, digest, signature)

    async def counter(self) -> int:
        """Return a counter that ends with the process."""
        return self._counter

    async def increase_counter(self) -> int:
        """Add one to it."""
        self._counter += 1
        return self._counter

    async def activate(self, slot: KeySlot) -> None:
        """Put the pending key of `slot` in the place of its current one."""
        self._key(slot.pending)
        self._keys[slot] = self._keys.pop(slot.pending)

    async def delete_key(self, slot: KeySlot) -> None:
        """Forget a key."""
        self._keys.pop(slot, None)

    async def generate_service_key(self, curve: Curve, receiver: PublicKey) -> ServiceKey:
        """Make a key pair for another device."""
        reference, self._next = self._next, self._next + 1
        private = new_private_key(curve)
        self._service[reference] = private, receiver
        return ServiceKey(reference, public_key_of(private.public_key()))

    async def sign_service(self, key: ServiceKey, digest: bytes) -> bytes:
        """Sign with it before it leaves."""
        if key.reference not in self._service:
            raise CommandRefused("sign", _NOT_FOUND)
        return _sign(self._service[key.reference][0], digest)

    async def export_service_key(self, key: ServiceKey) -> WrappedKey:
        """Wrap it for its receiver, once."""
        if key.reference not in self._service:
            raise CommandRefused("export", _NOT_FOUND)
        return wrap_service_key(*self._service.pop(key.reference))

    async def discard_service_keys(self) -> None:
        """Forget those that have not left."""
        self._service.clear()


def verify_signature(key: PublicKey, digest: bytes, signature: bytes) -> bool:
    """Check r | s over a digest.

    Raises:
        CommandRefused: 6A80, a bad point or a digest of another length than the curve's hash.
    """
    size = key.curve.field_bytes
    if len(digest) != size:
        raise CommandRefused("verify", _WRONG_DATA)
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[key.curve], key.point)
        r, s = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
        public.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(_HASHES[size])))
    except ValueError as error:
        raise CommandRefused("verify", _WRONG_DATA) from error
    except InvalidSignature:
        return False
    return len(signature) == 2 * size


def wrap_service_key(key: ec.EllipticCurvePrivateKey, receiver: PublicKey) -> WrappedKey:
    """ECKA-EG, X9.63-KDF and AES key wrap, as `hsm.api.WrappedKey` describes it."""
    own = public_key_of(key.public_key())
    ephemeral = new_private_key(receiver.curve)
    peer = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[receiver.curve], receiver.point)
    wrapping = X963KDF(hashes.SHA256(), 32, own.point).derive(ephemeral.exchange(ec.ECDH(), peer))
    scalar = key.private_numbers().private_value.to_bytes(own.curve.field_bytes, "big")
    return WrappedKey(public_key_of(ephemeral.public_key()).point, aes_key_wrap(wrapping, scalar))


def _sign(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    size = (key.curve.key_size + 7) // 8
    der = key.sign(digest, ec.ECDSA(utils.Prehashed(_HASHES[len(digest)])))
    r, s = utils.decode_dss_signature(der)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")
