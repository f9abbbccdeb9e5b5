"""`openssl cms` judges: what we write it reads, what it writes we read, on all five curves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hsm.api import Curve, KeySlot
from tests.unit.wan.conftest import Party, Pki
from wan.cms import der as syntax
from wan.cms import enveloped, message, signed
from wan.cms.oids import AgreementScheme, ContentCipher, ContentType
from wan.errors import MalformedMessage

CONTENT = b'{"reading":"4711"}\r\n\x00\xff' * 20
curves = pytest.mark.parametrize("curve", Curve, ids=lambda curve: curve.name)


def openssl(*arguments: object) -> bytes:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def refused_by_openssl(*arguments: object) -> bool:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=False).returncode != 0


def _verify(pki: Pki, path: Path) -> list[object]:
    trust = ["-CAfile", pki.folder / "root.pem", "-certfile", pki.folder / "sub-ca.pem"]
    return ["cms", "-verify", "-binary", "-inform", "DER", "-in", path, *trust, "-purpose", "any"]


def _decrypt(party: Party, path: Path) -> list[object]:
    keys = ["-recip", party.folder / "enc.pem", "-inkey", party.folder / "enc.key"]
    return ["cms", "-decrypt", "-binary", "-inform", "DER", "-in", path, *keys]


async def _sign(party: Party, pki: Pki, content: bytes = CONTENT, kind: str = "data") -> bytes:
    return await signed.sign(
        content,
        module=party.module,
        slot=KeySlot.WAN_SIG,
        certificate=party.sig,
        content_type=kind,
        extra=[pki.sub_ca],
    )


@curves
async def test_openssl_verifies_ours(
    curve: Curve, parties: dict[Curve, Party], pki: Pki, tmp_path: Path
) -> None:
    path = tmp_path / "signed"
    path.write_bytes(await _sign(parties[curve], pki))
    assert openssl(*_verify(pki, path)) == CONTENT
    printed = openssl("cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", path).decode()
    assert "version: 3" in printed
    assert "d.subjectKeyIdentifier" in printed
    altered = path.read_bytes().replace(b"4711", b"4712", 1)
    path.write_bytes(altered)
    assert refused_by_openssl(*_verify(pki, path))


@curves
@pytest.mark.parametrize("name", ["-keyid", ""], ids=["key-identifier", "issuer-and-serial"])
async def test_ours_verifies_openssl(
    curve: Curve, name: str, parties: dict[Curve, Party], tmp_path: Path
) -> None:
    party = parties[curve]
    (tmp_path / "plain").write_bytes(CONTENT)
    written = openssl(
        *("cms", "-sign", "-binary", "-nodetach", "-in", tmp_path / "plain", "-outform", "DER"),
        *("-signer", party.folder / "sig.pem", "-inkey", party.folder / "sig.key"),
        *("-md", curve.hash_name, *([name] if name else [])),
    )
    verified = signed.verify(written, signers=[party.sig])
    assert (verified.content, verified.content_type) == (CONTENT, ContentType.DATA)


@curves
@pytest.mark.parametrize(
    "cipher", [ContentCipher.AES_128_GCM, ContentCipher.AES_256_GCM], ids=lambda item: item.name
)
async def test_openssl_opens_ours(
    curve: Curve, cipher: ContentCipher, parties: dict[Curve, Party], tmp_path: Path
) -> None:
    party = parties[curve]
    sealed = await enveloped.seal(
        CONTENT, recipient=party.enc, module=party.module, cipher=cipher, scheme=AgreementScheme.RFC5753
    )
    (tmp_path / "sealed").write_bytes(sealed)
    assert openssl(*_decrypt(party, tmp_path / "sealed")) == CONTENT
    assert not party.module.ephemerals


@curves
@pytest.mark.parametrize("name", ["-keyid", ""], ids=["key-identifier", "issuer-and-serial"])
async def test_ours_opens_openssl(
    curve: Curve, name: str, parties: dict[Curve, Party], tmp_path: Path
) -> None:
    party = parties[curve]
    (tmp_path / "plain").write_bytes(CONTENT)
    written = openssl(
        *("cms", "-encrypt", "-binary", "-aes-128-gcm", "-in", tmp_path / "plain", "-outform", "DER"),
        *("-recip", party.folder / "enc.pem", "-keyopt", f"ecdh_kdf_md:{curve.hash_name}"),
        *([name] if name else []),
    )
    opened = await enveloped.open(written, module=party.module, slot=KeySlot.WAN_ENC, certificate=party.enc)
    assert opened == enveloped.Opened(CONTENT, ContentType.DATA)


async def test_unauthenticated_cbc_of_openssl_is_not_taken(party: Party, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(CONTENT)
    written = openssl(
        *("cms", "-encrypt", "-binary", "-aes-128-cbc", "-in", tmp_path / "plain", "-outform", "DER"),
        *("-recip", party.folder / "enc.pem", "-keyopt", "ecdh_kdf_md:sha256"),
    )
    with pytest.raises(MalformedMessage, match="not AuthEnvelopedData"):
        enveloped.parse(written)


@curves
async def test_openssl_takes_the_nesting_apart(
    curve: Curve, parties: dict[Curve, Party], pki: Pki, tmp_path: Path
) -> None:
    party = parties[curve]
    der = await message.to_recipient(
        CONTENT,
        recipient=party.enc,
        module=party.module,
        sig_slot=KeySlot.WAN_SIG,
        sig_certificate=party.sig,
        extra=[pki.sub_ca],
        scheme=AgreementScheme.RFC5753,
    )
    (tmp_path / "outer").write_bytes(der)
    inner = openssl(*_verify(pki, tmp_path / "outer"))
    (tmp_path / "inner").write_bytes(syntax.wrap(ContentType.AUTH_ENVELOPED, inner))
    assert openssl(*_decrypt(party, tmp_path / "inner")) == CONTENT


@pytest.mark.parametrize("size", [16, 24, 32])
async def test_cbc_cmac_is_what_openssl_computes(size: int, tmp_path: Path) -> None:
    cipher = {item.block_key_bytes: item for item in ContentCipher if item.name.endswith("CMAC")}[size]
    key, aad = bytes(range(2 * size)), b"\x31\x03abc"
    ciphertext, mac = enveloped.protect(cipher, key, b"", CONTENT, aad)
    (tmp_path / "plain").write_bytes(CONTENT)
    (tmp_path / "input").write_bytes(ciphertext + aad)
    encrypted = openssl(
        *("enc", f"-aes-{8 * size}-cbc", "-K", key[:size].hex(), "-iv", "00" * 16),
        *("-in", tmp_path / "plain"),
    )
    authenticated = openssl(
        *("mac", "-cipher", f"AES-{8 * size}-CBC", "-macopt", f"hexkey:{key[size:].hex()}"),
        *("-in", tmp_path / "input", "CMAC"),
    )
    assert (ciphertext, mac.hex()) == (encrypted, authenticated.decode().strip().lower())
    assert enveloped.unprotect(cipher, key, b"", ciphertext, mac, aad) == CONTENT


@curves
async def test_our_der_is_openssl_der(
    curve: Curve, parties: dict[Curve, Party], pki: Pki, tmp_path: Path
) -> None:
    """A second encoder, given our values, writes the same bytes."""
    party = parties[curve]
    sealed = await enveloped.seal(
        CONTENT, recipient=party.enc, module=party.module, scheme=AgreementScheme.RFC5753
    )
    for der in (await _sign(party, pki), sealed):
        (tmp_path / "message").write_bytes(der)
        again = openssl("cms", "-cmsout", "-inform", "DER", "-in", tmp_path / "message", "-outform", "DER")
        assert again == der
