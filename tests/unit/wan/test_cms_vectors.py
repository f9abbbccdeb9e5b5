"""Known answers from outside for the parts that messages are made of."""

from __future__ import annotations

from cryptography.hazmat.primitives import keywrap

from tests.support.vectors import vectors
from tools.counterparts import messages
from wan.cms import enveloped
from wan.cms.oids import AgreementScheme, ContentCipher, SharedInfo
from wan.cms.signed import SignerName


@vectors("wan/x963_kdf.json")
def test_x963(case: dict[str, str]) -> None:
    key = enveloped.derive_kek(
        bytes.fromhex(case["z"]), wrap_bytes=16, hash_name=case["hash"], shared_info=SharedInfo.EMPTY
    )
    assert key.hex() == case["key"]


@vectors("wan/x963_kdf.json")
def test_the_counterpart_derives_the_same_in_another_way(case: dict[str, str]) -> None:
    for ukm in (None, b"12345678"):
        recipient = enveloped.Recipient(
            SignerName(b""), b"", case["hash"], AgreementScheme.ECKA_EG, 16, ukm, b""
        )
        z = bytes.fromhex(case["z"])
        ours = enveloped.derive_kek(
            z, wrap_bytes=16, hash_name=case["hash"], shared_info=SharedInfo.RFC5753, ukm=ukm
        )
        assert messages._derive(z, recipient, empty_info=False) == ours
    assert messages._derive(z, recipient, empty_info=True).hex() == case["key"]


@vectors("wan/key_wrap.json")
def test_key_wrap(case: dict[str, str]) -> None:
    kek, key = bytes.fromhex(case["kek"]), bytes.fromhex(case["key"])
    assert keywrap.aes_key_wrap(kek, key).hex() == case["wrapped"]


@vectors("wan/gcm.json")
def test_gcm(case: dict[str, str]) -> None:
    key, nonce, content, aad = (bytes.fromhex(case[name]) for name in ("key", "nonce", "content", "aad"))
    cipher = {item.key_bytes: item for item in ContentCipher if item.name.endswith("GCM")}[len(key)]
    ciphertext, tag = enveloped.protect(cipher, key, nonce, content, aad)
    assert (ciphertext.hex(), tag.hex()) == (case["ciphertext"], case["tag"])
    assert enveloped.unprotect(cipher, key, nonce, ciphertext, tag, aad) == content
