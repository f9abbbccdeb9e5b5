"""How a counterpart checks and opens CMS: the product's codecs, none of its checks.

Signatures and key agreement are pyca's, the path check is pyhanko-certvalidator's, and the key derivation
is written out here a second time, so that a mistake of the gateway's cannot hide in shared code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from asn1crypto import pem
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, keywrap, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.cmac import CMAC
from pyhanko_certvalidator import CertificateValidator, ValidationContext
from pyhanko_certvalidator.errors import PathError, ValidationError

from wan.cms import der as syntax
from wan.cms import enveloped, signed
from wan.cms.message import plain_content
from wan.cms.oids import CipherKind, ContentType
from wan.errors import MalformedMessage

_HASHES: Final[Mapping[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_WRAP_OID_DER: Final = {  # id-aesN-wrap, DER
    16: bytes.fromhex("0609608648016503040105"),
    24: bytes.fromhex("0609608648016503040119"),
    32: bytes.fromhex("060960864801650304012d"),
}

_NO_CERTIFICATE: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""With these both libraries meet what only looks like a certificate; they read its parts when asked to."""


class MessageRefused(Exception):
    """A message that a counterpart does not take; `reason` is one word for the events."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Trust:
    """What a counterpart checks certificates against."""

    roots: tuple[bytes, ...]
    """DER."""
    intermediates: tuple[bytes, ...]
    crls: tuple[bytes, ...] = ()
    """DER; with at least one, every certificate must be on a current list's good side."""

    @classmethod
    def load(cls, folder: Path) -> Trust:
        """Read DIR/root.pem, DIR/sub-ca.pem and, if it is there, DIR/crls.pem."""
        crls = folder / "crls.pem"
        return cls(
            _unarmor(folder / "root.pem"),
            _unarmor(folder / "sub-ca.pem"),
            _unarmor(crls) if crls.exists() else (),
        )

    async def check(self, certificate: bytes, usage: str, at_utc: datetime | None = None) -> None:
        """Demand a path from `certificate` (DER) to a root, with `usage` in its key usage.

        Raises:
            MessageRefused: "certificate".
        """
        context = ValidationContext(
            trust_roots=[asn1_x509.Certificate.load(der) for der in self.roots],
            crls=list(self.crls),
            # "hard-fail" would take a revoked certificate that names no distribution point.
            revocation_mode="require" if self.crls else "soft-fail",
            allow_fetching=False,
            moment=at_utc if at_utc is not None else datetime.now(UTC),
            weak_hash_algos={"md2", "md5", "sha1"},
        )
        intermediates = [asn1_x509.Certificate.load(der) for der in self.intermediates]
        try:
            validator: Any = CertificateValidator(  # its methods carry no types
                asn1_x509.Certificate.load(certificate),
                intermediate_certs=intermediates,
                validation_context=context,
            )
            await validator.async_validate_usage({usage})
        except (PathError, ValidationError, *_NO_CERTIFICATE) as error:
            raise MessageRefused("certificate", str(error)) from error


def _unarmor(path: Path) -> tuple[bytes, ...]:
    return tuple(der for _, _, der in pem.unarmor(path.read_bytes(), multiple=True))


@dataclass(frozen=True, slots=True)
class Checked:
    """Signed content whose signature and signer's path hold."""

    content: bytes
    content_type: ContentType
    signer_name: str
    """Common name of the signer."""
    signer: bytes
    """DER of the signer's certificate."""


async def check_signed(der: bytes, trust: Trust, at_utc: datetime | None = None) -> Checked:
    """Check a SignedData whose signer's certificate is sent along.

    Raises:
        MessageRefused: "malformed", "signature" or "certificate".
    """
    try:
        message = signed.parse(der)
    except MalformedMessage as error:
        raise MessageRefused("malformed", str(error)) from error
    try:
        certificate = _find(message)
        key = certificate.public_key()
    except _NO_CERTIFICATE as error:
        raise MessageRefused("certificate", str(error)) from error
    digest = hashlib.new(message.hash_name, message.content).digest()
    if message.claimed_type is not message.content_type or message.claimed_digest != digest:
        raise MessageRefused("signature", "signed attributes do not belong to the content")
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise MessageRefused("signature", "signer's key is not an EC key")
    try:
        key.verify(message.signature, message.attributes, ec.ECDSA(_HASHES[message.hash_name]()))
    except InvalidSignature as error:
        raise MessageRefused("signature", "the signature does not match") from error
    raw = certificate.public_bytes(serialization.Encoding.DER)
    await trust.check(raw, "digital_signature", at_utc)
    try:
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except _NO_CERTIFICATE as error:
        raise MessageRefused("certificate", str(error)) from error
    if len(names) != 1:
        raise MessageRefused("certificate", "signer without one common name")
    return Checked(message.content, message.content_type, str(names[0].value), raw)


def _find(message: signed.SignedMessage) -> x509.Certificate:
    for raw in message.certificates:
        try:
            certificate = x509.load_der_x509_certificate(raw)
            extension = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
            if message.signer.matches(raw, extension.value.digest):
                return certificate
        except (ValueError, x509.ExtensionNotFound, MalformedMessage):
            continue
    raise MessageRefused("certificate", "the signer's certificate is not in the message")


def open_envelope(
    der: bytes, key: ec.EllipticCurvePrivateKey, certificate: bytes, *, empty_info: bool = False
) -> bytes:
    """Open an AuthEnvelopedData (a ContentInfo) and take off compression.

    Args:
        der: the message.
        key: belongs to `certificate`.
        certificate: DER of the encryption certificate it must be sealed for.
        empty_info: whether the key derivation has no SharedInfo.

    Raises:
        MessageRefused: "malformed" or "envelope".
    """
    identifier = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
        x509.SubjectKeyIdentifier
    )
    try:
        message = enveloped.parse(der)
        mine = next(
            item for item in message.recipients if item.name.matches(certificate, identifier.value.digest)
        )
        peer = ec.EllipticCurvePublicKey.from_encoded_point(key.curve, mine.ephemeral_point)
        kek = _derive(key.exchange(ec.ECDH(), peer), mine, empty_info=empty_info)
        content = _decrypt(message, keywrap.aes_key_unwrap(kek, mine.encrypted_key))
        return plain_content(content, message.content_type)
    except MalformedMessage as error:
        raise MessageRefused("malformed", str(error)) from error
    except (StopIteration, InvalidTag, InvalidSignature, keywrap.InvalidUnwrap, ValueError) as error:
        raise MessageRefused("envelope", "sealed for somebody else, or altered") from error


def _derive(z: bytes, recipient: enveloped.Recipient, *, empty_info: bool) -> bytes:
    """X9.63: hash(Z | 1 | info), one block being enough; info by hand from RFC 5753 7.2."""
    info = b""
    if not empty_info:
        bits = (8 * recipient.wrap_bytes).to_bytes(4, "big")
        ukm = b"" if recipient.ukm is None else _tlv(0xA0, _tlv(0x04, recipient.ukm))
        algorithm = _tlv(0x30, _WRAP_OID_DER[recipient.wrap_bytes])
        info = _tlv(0x30, algorithm + ukm + _tlv(0xA2, _tlv(0x04, bits)))
    block = hashlib.new(recipient.hash_name, z + (1).to_bytes(4, "big") + info).digest()
    return block[: recipient.wrap_bytes]


def _tlv(tag: int, content: bytes) -> bytes:
    return syntax.header(tag, content)


def _decrypt(message: enveloped.EnvelopedMessage, key: bytes) -> bytes:
    if len(key) != message.cipher.key_bytes:
        raise ValueError("content key of a wrong length")
    if message.cipher.kind is CipherKind.GCM:
        return AESGCM(key).decrypt(message.nonce, message.ciphertext + message.mac, message.attributes)
    half = len(key) // 2
    mac = CMAC(algorithms.AES(key[half:]))
    mac.update(message.ciphertext + message.attributes)
    mac.verify(message.mac)
    decryptor = Cipher(algorithms.AES(key[:half]), modes.CBC(bytes(16))).decryptor()
    unpadder = padding.PKCS7(128).unpadder()
    padded = decryptor.update(message.ciphertext) + decryptor.finalize()
    return unpadder.update(padded) + unpadder.finalize()


async def open_delivery(
    der: bytes, trust: Trust, key: ec.EllipticCurvePrivateKey, certificate: bytes
) -> tuple[bytes, str]:
    """Check and open SignedData(AuthEnvelopedData(...)); returns (content, common name of the signer).

    Raises:
        MessageRefused: with the reason.
    """
    checked = await check_signed(der, trust)
    if checked.content_type is not ContentType.AUTH_ENVELOPED:
        raise MessageRefused("malformed", "SignedData is not over AuthEnvelopedData")
    envelope = syntax.wrap(ContentType.AUTH_ENVELOPED, checked.content)
    return open_envelope(envelope, key, certificate), checked.signer_name
