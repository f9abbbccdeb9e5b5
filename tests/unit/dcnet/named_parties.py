"""Supplier, administrators and members whose signatures are names; nothing else of them is make-believe."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Final

from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation
from firmware.enforcement.dcnet.founding.beacon import BeaconCommit, BeaconReveal
from firmware.enforcement.dcnet.founding.succession import PeerWithdrawal
from firmware.enforcement.dcnet.messages.roster import Attestation, Roster, RosterDraft, SignedBundle
from firmware.enforcement.dcnet.policy import NetRules
from hsm.api import KeySlot
from tests.support.soft_module import SoftModule
from tests.unit.dcnet.support import authorisation
from tools.counterparts.messages import MessageRefused
from wan.errors import SignatureRefused

_NAME: Final = re.compile(rb"certificate of (.*)", re.DOTALL)
Shape = Callable[[str, PeerAuthorisation], PeerAuthorisation]
"""(administrator, its authorisation of everybody) -> what it authorises."""


def signed_by(name: str, content: bytes) -> bytes:
    """A signature that nobody else makes by accident: the name, the content, a hash over both."""
    return name.encode() + b"|" + content + hashlib.sha256(name.encode() + content).digest()


def content_of(name: str, signed: bytes) -> bytes:
    """What `name` signed. Raises `SignatureRefused`."""
    content = signed[len(name) + 1 : -32]
    if signed_by(name, content) != signed:
        raise SignatureRefused("the signature does not match")
    return content


def attested_by(name: str, content: bytes) -> Attestation:
    """As an administrator hands it to the supplier."""
    return Attestation(f"certificate of {name}".encode(), signed_by(name, content))


class BoundSignatures:
    """A `Signatures` without certificates, in which what is signed cannot be altered."""

    def __init__(self, name: str, administrator: str) -> None:
        self.certificate = f"certificate of {name}".encode()
        self._name, self._administrator = name, administrator

    async def sign(self, content: bytes) -> bytes:
        return signed_by(self._name, content)

    async def by_emp(self, signed: bytes) -> bytes:
        return content_of("emp", signed)

    async def by_gwa(self, signed: bytes) -> bytes:
        return content_of(self._administrator, signed)

    async def by_administrator(self, signed: bytes, certificate: bytes) -> bytes:
        return content_of(certificate.decode("latin-1").removeprefix("certificate of "), signed)

    async def by_member(self, signed: bytes, certificate: bytes) -> bytes:
        return content_of(certificate.decode("latin-1").removeprefix("certificate of "), signed)

    def sealed(self) -> BoundSignatures:
        return self


class NamedKeys:
    """A `CoordinatorKeys` whose signatures are names."""

    def __init__(self, module: SoftModule) -> None:
        self._module = module

    async def sign(self, content: bytes) -> bytes:
        return signed_by("emp", content)

    async def agree(self, point: bytes) -> bytes:
        return await self._module.agree(KeySlot.WAN_ENC, point)

    async def open_bundle(self, bundle: SignedBundle) -> tuple[str, bytes]:
        return _signer(bundle.certificate), _opened(bundle.certificate, bundle.signed)

    async def open_attestation(self, attestation: Attestation) -> bytes:
        return _opened(attestation.certificate, attestation.signed)


def _signer(certificate: bytes) -> str:
    found = _NAME.fullmatch(certificate)
    if found is None:
        raise MessageRefused("identity", "no certificate")
    return found[1].decode("latin-1")


def _opened(certificate: bytes, signed: bytes) -> bytes:
    try:
        return content_of(_signer(certificate), signed)
    except SignatureRefused as error:
        raise MessageRefused("signature", str(error)) from error


class Administrator:
    """A `Countersigner` that checks nothing; `shape` says which peers its gateways may have."""

    def __init__(self, name: str, rules: NetRules, shape: Shape) -> None:
        self.name, self._rules, self._shape = name, rules, shape
        self._roster: Roster | None = None

    def _reveal(self, version: int) -> BeaconReveal:
        return BeaconReveal(self._rules.net, version, hashlib.sha256(self.name.encode()).digest())

    async def commit(self, version: int) -> bytes:
        commit = BeaconCommit(self._rules.net, version, self._reveal(version).commitment)
        return attested_by(self.name, commit.to_bytes()).to_bytes()

    async def countersign(self, draft: bytes) -> bytes:
        content = content_of("emp", RosterDraft.from_bytes(draft).signed)
        self._roster = Roster.from_bytes(content)
        return attested_by(self.name, content).to_bytes()

    async def reveal(self, version: int) -> bytes:
        return self._reveal(version).to_bytes()

    async def authorise(self, version: int) -> bytes:
        assert self._roster is not None
        given = self._shape(self.name, authorisation(self._roster))
        return attested_by(self.name, given.to_bytes()).to_bytes()

    async def revoked(self) -> bytes:
        return attested_by(self.name, PeerWithdrawal(self._rules.net, 1, ()).to_bytes()).to_bytes()

    async def cosign(self, signed: bytes) -> bytes:
        return attested_by(self.name, content_of("emp", signed)).to_bytes()

    async def faults(self, _report: bytes) -> bytes:
        return b""
