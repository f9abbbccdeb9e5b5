from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from asn1crypto import crl as asn1_crl
from asn1crypto import x509 as asn1_x509
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from pyhanko_certvalidator import CertificateValidator, ValidationContext, errors

from hsm.api import CertificateUse, Curve
from hsm.errors import CertificateRefused
from hsm.x509 import Certificate, check_path
from tests.support.pki import DAY, NOW, Authority, Tree, tree

BP = tree(Curve.BRAINPOOL_P256)
KEY = ec.generate_private_key(ec.BrainpoolP256R1())
TLS, SIG, ENC = CertificateUse.TLS, CertificateUse.SIG, CertificateUse.ENC


def leaf(**changes: object) -> Certificate:
    return BP.sub.build("ESGW0100000001.SMGW", KEY.public_key(), **{"use": TLS, **changes})


def check(certificate: Certificate, use: CertificateUse | None = TLS, **changes: object) -> None:
    arguments = {"at_utc": NOW, "crls": (), **changes}
    intermediates = arguments.pop("intermediates", [BP.sub.certificate])
    anchors = arguments.pop("anchors", BP.anchors)
    check_path(certificate, intermediates, anchors, use=use, **arguments)


@pytest.mark.parametrize("curve", list(Curve))
def test_a_good_path_passes_on_every_curve(curve: Curve) -> None:
    here = tree(curve)
    certificate = here.tls(ec.generate_private_key(here.root.key.curve))[0]
    check_path(certificate, [here.sub.certificate], here.anchors, at_utc=NOW, use=TLS, crls=here.crls())


@pytest.mark.parametrize(
    ("made_for", "asked_for", "good"),
    [
        (TLS, TLS, True),
        (TLS, SIG, True),
        (SIG, TLS, True),
        (ENC, ENC, True),
        (ENC, TLS, False),
        (ENC, SIG, False),
        (TLS, ENC, False),
        (SIG, ENC, False),
        (None, TLS, False),
    ],
)
def test_the_key_usage_decides_what_for(
    made_for: CertificateUse | None, asked_for: CertificateUse, good: bool
) -> None:
    certificate = leaf(use=made_for)
    if good:
        check(certificate, asked_for)
    else:
        with pytest.raises(CertificateRefused, match="key usage lacks"):
            check(certificate, asked_for)


def test_extended_key_usage_must_allow_tls_if_it_is_there() -> None:
    check(leaf(purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]))
    with pytest.raises(CertificateRefused, match="extended key usage"):
        check(leaf(purposes=[ExtendedKeyUsageOID.TIME_STAMPING]))


@pytest.mark.parametrize(
    ("moment", "reason"),
    [(NOW - 2 * DAY, "not yet valid"), (NOW + 701 * DAY, "expired")],
)
def test_validity_is_checked_at_the_given_moment(moment: object, reason: str) -> None:
    with pytest.raises(CertificateRefused, match=reason):
        check(leaf(), at_utc=moment)


def test_a_moment_without_time_zone_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="aware"):
        check(leaf(), at_utc=NOW.replace(tzinfo=None))


def test_another_root_of_the_same_name_is_refused() -> None:
    with pytest.raises(CertificateRefused):
        check(leaf(), anchors=Tree(Curve.BRAINPOOL_P256).anchors)


def test_without_anchors_nothing_is_trusted() -> None:
    with pytest.raises(CertificateRefused):
        check(leaf(), anchors=[])


def test_the_sub_ca_alone_is_no_anchor() -> None:
    with pytest.raises(CertificateRefused):
        check(leaf(), anchors=[BP.sub.certificate], intermediates=[])


def test_a_missing_intermediate_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="unable to get"):
        check(leaf(), intermediates=[])


def test_a_changed_signature_is_refused() -> None:
    der = bytearray(leaf().der)
    der[-1] ^= 1
    with pytest.raises(CertificateRefused, match="signature failure"):
        check(Certificate.from_der(bytes(der)))


def test_an_end_entity_cannot_issue() -> None:
    false_ca = Authority("false", Curve.BRAINPOOL_P256, BP.sub, None)
    false_ca.certificate = BP.sub.build("false", false_ca.key.public_key(), use=SIG)
    victim = false_ca.build("victim", KEY.public_key(), use=TLS)
    with pytest.raises(CertificateRefused, match="invalid CA"):
        check(victim, intermediates=[false_ca.certificate, BP.sub.certificate])


def test_the_path_length_is_honoured() -> None:
    third = Authority("third", Curve.BRAINPOOL_P256, BP.sub, 0)
    with pytest.raises(CertificateRefused, match="path length"):
        check(
            third.build("x", KEY.public_key(), use=TLS),
            intermediates=[third.certificate, BP.sub.certificate],
        )


def test_a_ca_is_no_end_entity() -> None:
    with pytest.raises(CertificateRefused, match="key usage"):
        check(BP.sub.certificate, TLS, intermediates=[])
    check(BP.sub.certificate, None, intermediates=[])


def test_an_unknown_critical_extension_is_refused() -> None:
    extension = pyca.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    check(leaf(extra=[(extension, False)]))
    with pytest.raises(CertificateRefused, match="critical extension"):
        check(leaf(extra=[(extension, True)]))


# ---- revocation


def test_current_lists_let_a_good_certificate_pass() -> None:
    check(leaf(serial=17), crls=BP.crls(revoked=[18]))


def test_a_revoked_certificate_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="revoked"):
        check(leaf(serial=17), crls=BP.crls(revoked=[17]))


def test_a_revoked_sub_ca_is_refused() -> None:
    crls = [BP.root.crl([BP.sub.certificate.serial]), BP.sub.crl()]
    with pytest.raises(CertificateRefused, match="revoked"):
        check(leaf(), crls=crls)


@pytest.mark.parametrize(
    "lists",
    [
        lambda: [BP.root.crl()],
        lambda: [BP.sub.crl()],
        lambda: [BP.root.crl(), BP.sub.crl(next_update=NOW - timedelta(hours=1))],
        lambda: [BP.root.crl(), Tree(Curve.BRAINPOOL_P256).sub.crl()],
    ],
    ids=["sub-ca's missing", "root's missing", "out of date", "signed by another"],
)
def test_each_issuer_needs_a_good_list(lists: Callable[[], list[bytes]]) -> None:
    with pytest.raises(CertificateRefused, match="CRL"):
        check(leaf(), crls=lists())


def test_bytes_that_are_no_list_are_refused() -> None:
    with pytest.raises(CertificateRefused, match="revocation list"):
        check(leaf(), crls=[b"\x30\x00"])


async def test_the_second_opinion_agrees() -> None:
    """pyhanko-certvalidator, an independent path check, on the same cases."""

    async def opinion(certificate: Certificate, crls: list[bytes]) -> bool:
        context = ValidationContext(
            trust_roots=[asn1_x509.Certificate.load(BP.root.certificate.der)],
            other_certs=[asn1_x509.Certificate.load(BP.sub.certificate.der)],
            crls=[asn1_crl.CertificateList.load(der) for der in crls],
            revocation_mode="require",
            moment=NOW,
            allow_fetching=False,
        )
        target = asn1_x509.Certificate.load(certificate.der)
        validator = CertificateValidator(target, validation_context=context)
        try:
            await validator.async_validate_usage({"digital_signature"})
        except (errors.PathError, errors.ValidationError):
            return False
        return True

    def ours(certificate: Certificate, crls: list[bytes]) -> bool:
        try:
            check(certificate, SIG, crls=crls)
        except CertificateRefused:
            return False
        return True

    cases = [
        (leaf(use=SIG, serial=21), BP.crls()),
        (leaf(use=SIG, serial=21), BP.crls(revoked=[21])),
        (leaf(use=SIG, serial=21), [BP.root.crl()]),
        (leaf(use=ENC), BP.crls()),
        (leaf(use=SIG, not_after=NOW - timedelta(hours=1)), BP.crls()),
    ]
    verdicts = [(ours(*case), await opinion(*case)) for case in cases]
    assert [verdict[0] for verdict in verdicts] == [True, False, False, False, False]
    assert all(one == other for one, other in verdicts)
