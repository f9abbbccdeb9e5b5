"""Each check of a SignedData has something that makes it fail."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from asn1crypto import core
from hypothesis import given
from hypothesis import strategies as st

from hsm.api import KeySlot
from hsm.errors import CommandRefused
from tests.unit.wan.conftest import Party
from wan.cms import der as syntax
from wan.cms import signed
from wan.cms.oids import ContentType
from wan.errors import MalformedMessage, SignatureRefused, WanError

CONTENT = b'{"kind":"profiles"}'


@pytest.fixture
async def message(party: Party) -> bytes:
    return await signed.sign(CONTENT, module=party.module, slot=KeySlot.WAN_SIG, certificate=party.sig)


def changed(message: bytes, change: Callable[[Any], None]) -> bytes:
    """Decode, change, encode again in DER."""
    _, content = syntax.unwrap(message)
    value = syntax.SignedData.load(content)
    change(value)
    return syntax.wrap(ContentType.SIGNED, value.dump(force=True))


async def test_round_trip(party: Party, message: bytes) -> None:
    verified = signed.verify(message, signers=[party.sig])
    assert verified == signed.Verified(CONTENT, ContentType.DATA, party.sig)


async def test_form(party: Party, message: bytes) -> None:
    """RFC 5652 with the choices of BSI TR-03109-1: version 3 twice, key identifier, two attributes."""
    parsed = signed.parse(message)
    assert parsed.signer == signed.SignerName(party.sig.key_identifier)
    assert parsed.certificates == (party.sig.der,)
    assert len(syntax.Attributes.load(parsed.attributes)) == 2
    assert parsed.claimed_type is ContentType.DATA


@pytest.mark.parametrize("kind", list(ContentType))
async def test_content_types(party: Party, kind: ContentType) -> None:
    der = await signed.sign(
        CONTENT, module=party.module, slot=KeySlot.WAN_SIG, certificate=party.sig, content_type=kind
    )
    assert signed.verify(der, signers=[party.sig]).content_type is kind


async def test_each_altered_byte_is_noticed(party: Party) -> None:
    """Certificates are left out: they prove nothing, and so nothing is lost when one changes."""
    unsigned = signed.prepare(CONTENT, certificate=party.sig, include_certificate=False)
    message = unsigned.to_der(await party.module.sign(KeySlot.WAN_SIG, unsigned.digest))
    for at in range(len(message)):
        altered = bytearray(message)
        altered[at] ^= 1 << at % 8
        with pytest.raises((MalformedMessage, SignatureRefused)):
            signed.verify(bytes(altered), signers=[party.sig])


async def test_each_cut_is_noticed(party: Party, message: bytes) -> None:
    for end in range(len(message)):
        with pytest.raises(MalformedMessage):
            signed.parse(message[:end])


async def test_bytes_behind_are_noticed(message: bytes) -> None:
    with pytest.raises(MalformedMessage, match="exactly one"):
        signed.parse(message + b"\x05\x00")


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        signed.parse(data)


@given(changes=st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFF)), min_size=1, max_size=4))
async def test_any_change_has_a_named_error(changes: list[tuple[int, int]], party: Party) -> None:
    message = bytearray(
        await signed.sign(CONTENT, module=party.module, slot=KeySlot.WAN_SIG, certificate=party.sig)
    )
    for at, value in changes:
        message[at % len(message)] = value
    with contextlib.suppress(WanError):
        assert signed.verify(bytes(message), signers=[party.sig]).content == CONTENT


async def test_wrong_signer(party: Party, stranger: Party, message: bytes) -> None:
    with pytest.raises(SignatureRefused, match="not one that may sign"):
        signed.verify(message, signers=[stranger.sig])
    with pytest.raises(SignatureRefused):
        signed.verify(message, signers=[])


async def test_signer_named_but_another_key_signed(party: Party, stranger: Party) -> None:
    unsigned = signed.prepare(CONTENT, certificate=party.sig)
    der = unsigned.to_der(await stranger.module.sign(KeySlot.WAN_SIG, unsigned.digest))
    with pytest.raises(SignatureRefused, match="does not match"):
        signed.verify(der, signers=[party.sig, stranger.sig])


def _second_signer(value: Any) -> None:
    value["signer_infos"].append(value["signer_infos"][0].copy())


def _no_signer(value: Any) -> None:
    value["signer_infos"] = syntax.SignerInfos([])


def _set(*path: str | int, to: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        *head, last = path
        for step in head:
            value = value[step]
        value[last] = to

    return change


def _attribute(oid: str, *values: Any) -> dict[str, Any]:
    return {"type": oid, "values": [core.Any(value) for value in values]}


_SIGNER = ("signer_infos", 0)
_TYPE, _DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_DATA = core.ObjectIdentifier("1.2.840.113549.1.7.1")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_second_signer, id="second signer"),
        pytest.param(_no_signer, id="no signer"),
        pytest.param(_set("version", to=1), id="SignedData version 1"),
        pytest.param(_set("version", to=4), id="SignedData version 4"),
        pytest.param(_set(*_SIGNER, "version", to=1), id="SignerInfo version 1"),
        pytest.param(_set(*_SIGNER, "digest_algorithm", "algorithm", to="1.3.14.3.2.26"), id="SHA-1 digest"),
        pytest.param(
            _set(*_SIGNER, "signature_algorithm", "algorithm", to="1.2.840.10045.4.3.3"), id="other hash"
        ),
        pytest.param(
            _set(*_SIGNER, "signature_algorithm", "algorithm", to="1.2.840.113549.1.1.11"), id="RSA"
        ),
        pytest.param(
            _set("digest_algorithms", 0, "algorithm", to="2.16.840.1.101.3.4.2.3"), id="digest list"
        ),
        pytest.param(
            _set("encap_content_info", "content_type", to="1.2.840.113549.1.7.3"), id="unknown type"
        ),
        pytest.param(
            _set(*_SIGNER, "signed_attrs", to=syntax.Attributes([_attribute(_TYPE, _DATA)])), id="no digest"
        ),
        pytest.param(
            _set(
                *_SIGNER,
                "signed_attrs",
                to=syntax.Attributes([_attribute(_DIGEST, core.OctetString(bytes(32)))]),
            ),
            id="no type",
        ),
        pytest.param(
            _set(
                *_SIGNER,
                "signed_attrs",
                to=syntax.Attributes(
                    [
                        _attribute(_TYPE, _DATA),
                        _attribute(_DIGEST, core.OctetString(bytes(32))),
                        _attribute(_DIGEST, core.OctetString(bytes(32))),
                    ]
                ),
            ),
            id="repeated attribute",
        ),
        pytest.param(
            _set(
                *_SIGNER,
                "signed_attrs",
                to=syntax.Attributes(
                    [
                        _attribute(_TYPE, _DATA, core.ObjectIdentifier("1.2.3")),
                        _attribute(_DIGEST, core.OctetString(bytes(32))),
                    ]
                ),
            ),
            id="two values",
        ),
    ],
)
async def test_malformed(message: bytes, change: Callable[[Any], None]) -> None:
    with pytest.raises(MalformedMessage):
        signed.parse(changed(message, change))


async def test_content_type_swapped(party: Party, message: bytes) -> None:
    """The attribute still says id-data: a signature over data must not count for an envelope."""
    oid = ContentType.AUTH_ENVELOPED.oid
    swapped = changed(message, _set("encap_content_info", "content_type", to=oid))
    with pytest.raises(SignatureRefused, match="content type"):
        signed.verify(swapped, signers=[party.sig])


async def test_content_swapped(party: Party, message: bytes) -> None:
    swapped = changed(message, _set("encap_content_info", "content", to=b"something else"))
    with pytest.raises(SignatureRefused, match="digest"):
        signed.verify(swapped, signers=[party.sig])


async def test_signature_of_no_valid_form(party: Party, message: bytes) -> None:
    for value in (b"", b"\x30\x00", bytes(64)):
        with pytest.raises(SignatureRefused, match="form"):
            signed.verify(changed(message, _set(*_SIGNER, "signature", to=value)), signers=[party.sig])


async def test_not_der(party: Party, message: bytes) -> None:
    kind, _ = syntax.unwrap(message)
    assert kind is ContentType.SIGNED
    indefinite = b"\x30\x80" + message[4:] + b"\0\0"
    with pytest.raises(MalformedMessage):
        signed.parse(indefinite)
    with pytest.raises(MalformedMessage, match="not minimal"):
        signed.parse(b"\x30\x83\x00" + message[2:])
    deep = b"\x05\x00"
    for _ in range(40):
        deep = syntax.header(0x30, deep)
    with pytest.raises(MalformedMessage, match="deep"):
        signed.parse(deep)


async def test_module_says_no(party: Party) -> None:
    with pytest.raises(CommandRefused):
        await signed.sign(CONTENT, module=party.module, slot=KeySlot.WAN_TLS, certificate=party.sig)
