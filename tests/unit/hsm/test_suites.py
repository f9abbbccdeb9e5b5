"""Key derivation and CMAC against published values."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

from hsm import suites
from tests.support.vectors import load, vectors


@vectors("hsm/aes_cmac.json")
def test_cmac(case: dict[str, str]) -> None:
    assert suites.cmac(bytes.fromhex(case["key"]), bytes.fromhex(case["message"])).hex() == case["mac"]


@vectors("hsm/kdf_derived.json")
def test_longer_keys(case: dict[str, str]) -> None:
    suite = {"aes192": suites.AES192, "aes256": suites.AES256}[case["id"]]
    assert suites.derive(suite, bytes.fromhex(case["x"]), 1).hex() == case["key"]


@vectors("hsm/x963_kdf.json")
def test_x963_kdf_of_the_library(case: dict[str, str]) -> None:
    expected = bytes.fromhex(case["key"])
    kdf = X963KDF(hashes.SHA256(), len(expected), bytes.fromhex(case["info"]))
    assert kdf.derive(bytes.fromhex(case["z"])) == expected


def test_bsi_secure_messaging_values() -> None:
    case = load("hsm/bsi_mac.json")["cases"][0]
    key, plain = bytes.fromhex(case["enc"]), bytes.fromhex(case["plain_ssc1"])
    iv = suites.cbc(key, bytes(16)).encryptor().update((1).to_bytes(16, "big"))
    assert suites.cbc(key, iv).encryptor().update(suites.pad(plain)).hex() == case["cipher_ssc1"]
    message = (2).to_bytes(16, "big") + suites.pad(bytes.fromhex("99029000"))
    assert suites.cmac(bytes.fromhex(case["mac"]), message)[:8].hex() == case["mac_ssc2"]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17])
def test_padding_is_never_empty(size: int) -> None:
    padded = suites.pad(bytes(size))
    assert len(padded) % 16 == 0
    assert len(padded) > size
    assert padded[size] == 0x80


def test_keys_show_nothing() -> None:
    keys = suites.session_keys(suites.AES128, b"\x01" * 32)
    assert keys.encryption.hex() not in repr(keys)
    assert "encryption" not in repr(keys)
