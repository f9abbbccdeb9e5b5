"""A test PKI for the whole module run, and parties with software keys on each of the five curves."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from hsm.api import CertificateUse, Curve, KeySlot
from hsm.x509 import Certificate, load_pem_chain
from tests.support.soft_module import SoftModule
from tools.counterparts.keys import new_private_key, save_private_key
from tools.counterparts.pki import SUB_CA_NAME, Issuer, issue, issue_gateway, make_pki, subject_name
from wan.pki.enrol import make_triple
from wan.pki.profile import END_ENTITY

GATEWAY = "esgw0100000001"


@dataclass(frozen=True)
class Party:
    """Keys in a module, their certificates, and the key files for programs from outside."""

    module: SoftModule
    sig: Certificate
    enc: Certificate
    folder: Path
    tls: Certificate | None = None


@dataclass(frozen=True)
class Pki:
    folder: Path
    root: Certificate
    sub_ca: Certificate


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder = tmp_path_factory.mktemp("pki")
    make_pki(folder)
    (root,), (sub_ca,) = (load_pem_chain((folder / f"{n}.pem").read_bytes()) for n in ("root", "sub-ca"))
    return Pki(folder, root, sub_ca)


def enrol(pki: Pki, gateway: str, **options: Any) -> Party:
    """A gateway whose keys came from its module and whose certificates came from its requests."""
    module = SoftModule()

    async def make() -> dict[CertificateUse, bytes]:
        return await make_triple(module, gateway)

    # In a thread of its own, because the tests' event loop may or may not run when a fixture is made.
    with ThreadPoolExecutor(1) as pool:
        requests = pool.submit(lambda: asyncio.run(make())).result()
    issued = issue_gateway(pki.folder, gateway, requests, **options)
    folder = pki.folder / "gateways" / gateway
    tls, sig, enc = (Certificate.from_pem(issued[use].encode()) for use in CertificateUse)
    return Party(module, sig, enc, folder, tls)


@pytest.fixture(scope="session")
def gateway(pki: Pki) -> Party:
    return enrol(pki, GATEWAY)


def party_on(pki: Pki, curve: Curve, folder: Path) -> Party:
    """SIG and ENC on any curve, with key files beside."""
    module, issuer = SoftModule(), Issuer.load(pki.folder / "sub-ca.pem", pki.folder / "sub-ca.key")
    certificates = {}
    folder.mkdir(parents=True, exist_ok=True)
    for use, slot in ((CertificateUse.SIG, KeySlot.WAN_SIG), (CertificateUse.ENC, KeySlot.WAN_ENC)):
        key = new_private_key(curve)
        module.keys[slot] = key
        subject = subject_name(f"{curve.name}.EMT", SUB_CA_NAME, entity=True)
        certificate = issue(subject, key.public_key(), END_ENTITY[use], issuer)
        save_private_key(folder / f"{use.value}.key", key)
        (folder / f"{use.value}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        certificates[use] = Certificate.from_der(certificate.public_bytes(Encoding.DER))
    return Party(module, certificates[CertificateUse.SIG], certificates[CertificateUse.ENC], folder)


@pytest.fixture(scope="session")
def parties(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> dict[Curve, Party]:
    base = tmp_path_factory.mktemp("parties")
    return {curve: party_on(pki, curve, base / curve.name) for curve in Curve}


@pytest.fixture(scope="session")
def party(parties: dict[Curve, Party]) -> Party:
    return parties[Curve.BRAINPOOL_P256]


@pytest.fixture(scope="session")
def stranger(parties: dict[Curve, Party]) -> Party:
    return parties[Curve.P256]
