from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from hsm.api import Curve, KeySlot, PublicKey
from hsm.errors import MalformedSignature
from hsm.x509 import der_to_plain, plain_to_der, verify
from tests.support.soft_module import SoftModule

CURVES = st.sampled_from(list(Curve))


@given(CURVES, st.data())
def test_plain_and_der_agree_with_an_independent_codec(curve: Curve, data: st.DataObject) -> None:
    size = curve.field_bytes
    r, s = (data.draw(st.integers(1, (1 << 8 * size) - 1)) for _ in range(2))
    plain = r.to_bytes(size, "big") + s.to_bytes(size, "big")
    der = plain_to_der(plain, curve)
    assert der == encode_dss_signature(r, s)
    assert decode_dss_signature(der) == (r, s)
    assert der_to_plain(der, curve) == plain


@pytest.mark.parametrize("plain", [b"", b"\1" * 63, b"\1" * 65, b"\0" * 64, b"\1" * 32 + b"\0" * 32])
def test_bad_plain_signatures_are_refused(plain: bytes) -> None:
    with pytest.raises(MalformedSignature):
        plain_to_der(plain, Curve.P256)


GOOD = encode_dss_signature(1, 1 << 255)


@pytest.mark.parametrize(
    "der",
    [
        GOOD + b"\0",
        GOOD[:-1],
        b"\x31" + GOOD[1:],
        encode_dss_signature(1, 0),
        encode_dss_signature(1, 1 << 256),
        b"\x30\x06\x02\x01\xff\x02\x01\x01",  # negative
        b"\x30\x07\x02\x02\x00\x01\x02\x01\x01",  # leading zero too many
        b"\x30\x81\x06\x02\x01\x01\x02\x01\x01",  # long form where the short one does
        b"\x30\x09\x02\x01\x01\x02\x01\x01\x02\x01\x01",  # a third number
        b"\x30\x80\x02\x01\x01\x02\x01\x01\x00\x00",  # indefinite length
    ],
)
def test_bad_der_signatures_are_refused(der: bytes) -> None:
    with pytest.raises(MalformedSignature):
        der_to_plain(der, Curve.P256)


@given(st.binary(max_size=150), CURVES)
def test_any_bytes_are_a_signature_or_a_named_error(der: bytes, curve: Curve) -> None:
    try:
        plain = der_to_plain(der, curve)
    except MalformedSignature:
        return
    assert plain_to_der(plain, curve) == der


@pytest.mark.parametrize("curve", list(Curve))
async def test_verification(curve: Curve) -> None:
    module = SoftModule()
    public = await module.generate_key_pair(KeySlot.WAN_SIG, curve)
    digest = hashlib.new(curve.hash_name, b"message").digest()
    other = hashlib.new(curve.hash_name, b"massage").digest()
    signature = await module.sign(KeySlot.WAN_SIG, digest)
    assert verify(public, digest, signature)
    assert not verify(public, other, signature)
    assert not verify(public, digest, signature[:-1])
    assert not verify(public, digest, bytes(len(signature)))
    assert not verify(public, digest, signature[::-1])
    bad_point = PublicKey(curve, public.point[:-1] + bytes([public.point[-1] ^ 1]))
    assert not verify(bad_point, digest, signature)
    with pytest.raises(ValueError, match="20"):
        verify(public, bytes(20), signature)
