"""A household's profiles to vary in tests: billing and group total of one meter, one supplier."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from msgspec.structs import replace

from firmware.profile.model import (
    CommunicationProfile,
    MeterProfile,
    NetPolicy,
    PeerEntry,
    ProcessingProfile,
    ProfileSet,
)
from lmn.ports import ReceptionMode

T0 = datetime(2026, 1, 1, tzinfo=UTC)
METER = "ELS-12345678-33-02"
IMPORT = "1-0:1.8.0"
NET_ID = "00112233445566aa"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def certificate(name: str, key: ec.EllipticCurvePrivateKey | None = None) -> str:
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM).decode()


EMP_TLS, EMP_SIG, EMP_ENC = certificate("EMP.TLS"), certificate("EMP.SIG"), certificate("EMP.ENC")
OTHER_TLS = certificate("OTHER.TLS")


def peer(name: str = "emp", **changes) -> PeerEntry:
    entry = PeerEntry(
        name=name,
        host=f"{name}.example",
        port=443,
        server_name=f"{name}.example",
        tls_certificate=EMP_TLS if name == "emp" else OTHER_TLS,
        sig_certificate=EMP_SIG if name == "emp" else OTHER_TLS,
        enc_certificate=EMP_ENC if name == "emp" else OTHER_TLS,
    )
    return replace(entry, **changes)


def meter_profile(**changes) -> MeterProfile:
    return replace(
        MeterProfile(id="meter", meter=METER, mode=ReceptionMode.OPEN, consumer="household"), **changes
    )


def net(**changes) -> NetPolicy:
    policy = NetPolicy(
        net_id=NET_ID, slot_s=900, t0_utc=T0, n_min=128, d_min=12, submit_s=120, manifest_s=240, open_s=360
    )
    return replace(policy, **changes)


def series(identity: str = "series", **changes) -> ProcessingProfile:
    profile = ProcessingProfile(
        id=identity,
        taf=7,
        meter=METER,
        obis=IMPORT,
        consumer="household",
        registration_period_s=900,
        recipients=("emp",),
        valid_from=T0,
    )
    return replace(profile, **changes)


def bill(identity: str = "bill", **changes) -> ProcessingProfile:
    return replace(series(identity, taf=1, billing_period_s=30 * 86400), **changes)


def billing(identity: str = "billing", **changes) -> CommunicationProfile:
    profile = CommunicationProfile(
        id=identity, processing="bill", recipient="emp", purpose="billing", peer=peer()
    )
    return replace(profile, **changes)


def group_total(identity: str = "total", **changes) -> CommunicationProfile:
    profile = CommunicationProfile(
        id=identity,
        processing="series",
        recipient="emp",
        purpose="group-total",
        peer=peer(),
        concealment="dc-net",
        net=net(),
    )
    return replace(profile, **changes)


def household(**changes) -> ProfileSet:
    profiles = ProfileSet(
        meters=(meter_profile(),), processing=(bill(), series()), communication=(billing(), group_total())
    )
    return replace(profiles, **changes)


def plain_series(period_s: int = 900, **changes) -> ProfileSet:
    """One plain interval series, delivered every four periods."""
    return ProfileSet(
        meters=(meter_profile(),),
        processing=(
            replace(series(registration_period_s=period_s, billing_period_s=4 * period_s), **changes),
        ),
        communication=(billing(processing="series"),),
    )
