"""Each check of an AuthEnvelopedData and of the nesting around it has something that makes it fail."""

from __future__ import annotations

import contextlib
import itertools
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from asn1crypto import core
from hypothesis import given
from hypothesis import strategies as st

from hsm.api import Curve, KeySlot
from hsm.errors import CommandRefused, ModuleUnavailable
from tests.support.soft_module import SoftModule
from tests.unit.wan.conftest import Party
from tools.counterparts import messages
from tools.counterparts.keys import load_private_key
from wan.cms import der as syntax
from wan.cms import enveloped, message, signed
from wan.cms.oids import AgreementScheme, ContentCipher, ContentType, SharedInfo
from wan.errors import EnvelopeRefused, MalformedMessage, SignatureRefused, WanError

CONTENT = b'{"value_wh":4711}'
MATRIX = list(itertools.product(ContentCipher, AgreementScheme, SharedInfo, ContentType))


async def opened(der: bytes, party: Party, info: SharedInfo = SharedInfo.RFC5753) -> enveloped.Opened:
    return await enveloped.open(
        der, module=party.module, slot=KeySlot.WAN_ENC, certificate=party.enc, shared_info=info
    )


@pytest.fixture(params=[ContentCipher.AES_128_GCM, ContentCipher.AES_128_CBC_CMAC], ids=lambda c: c.name)
async def sealed(request: pytest.FixtureRequest, party: Party) -> bytes:
    return await enveloped.seal(
        CONTENT,
        recipient=party.enc,
        module=party.module,
        cipher=request.param,
        content_type=ContentType.COMPRESSED,
    )


def changed(der: bytes, change: Callable[[Any], None]) -> bytes:
    _, content = syntax.unwrap(der)
    value = syntax.AuthEnvelopedData.load(content)
    change(value)
    return syntax.wrap(ContentType.AUTH_ENVELOPED, value.dump(force=True))


@pytest.mark.parametrize(("cipher", "scheme", "info", "kind"), MATRIX)
async def test_round_trip(
    cipher: ContentCipher, scheme: AgreementScheme, info: SharedInfo, kind: ContentType, party: Party
) -> None:
    der = await enveloped.seal(
        CONTENT,
        recipient=party.enc,
        module=party.module,
        cipher=cipher,
        scheme=scheme,
        shared_info=info,
        content_type=kind,
    )
    assert await opened(der, party, info) == enveloped.Opened(CONTENT, kind)
    parsed = enveloped.parse(der)
    assert (parsed.recipients[0].scheme, parsed.cipher) == (scheme, cipher)
    assert bool(parsed.attributes) == (kind is not ContentType.DATA)
    assert not party.module.ephemerals


@pytest.mark.parametrize("curve", Curve, ids=lambda item: item.name)
@pytest.mark.parametrize("cipher", ContentCipher, ids=lambda item: item.name)
async def test_the_counterpart_opens_it_without_our_checks(
    curve: Curve, cipher: ContentCipher, parties: dict[Curve, Party]
) -> None:
    party = parties[curve]
    key = load_private_key(party.folder / "enc.key")
    for info in SharedInfo:
        der = await enveloped.seal(
            message.compress(CONTENT),
            recipient=party.enc,
            module=party.module,
            cipher=cipher,
            content_type=ContentType.COMPRESSED,
            shared_info=info,
        )
        empty = info is SharedInfo.EMPTY
        assert messages.open_envelope(der, key, party.enc.der, empty_info=empty) == CONTENT


async def test_each_altered_byte_is_noticed(party: Party, sealed: bytes) -> None:
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 1 << at % 8
        with pytest.raises((MalformedMessage, EnvelopeRefused)):
            await opened(bytes(altered), party)


async def test_each_cut_is_noticed(sealed: bytes) -> None:
    for end in range(len(sealed)):
        with pytest.raises(MalformedMessage):
            enveloped.parse(sealed[:end])
    with pytest.raises(MalformedMessage):
        enveloped.parse(sealed + b"\0")


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        enveloped.parse(data)


@given(changes=st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFF)), min_size=1, max_size=4))
async def test_any_change_has_a_named_error(changes: list[tuple[int, int]], party: Party) -> None:
    der = bytearray(await enveloped.seal(CONTENT, recipient=party.enc, module=party.module))
    for at, value in changes:
        der[at % len(der)] = value
    with contextlib.suppress(WanError):
        assert (await opened(bytes(der), party)).content == CONTENT


async def test_wrong_recipient(parties: dict[Curve, Party], party: Party, sealed: bytes) -> None:
    with pytest.raises(EnvelopeRefused):
        await opened(sealed, parties[Curve.P256])
    with pytest.raises(EnvelopeRefused):  # the right name, but not the key
        await enveloped.open(
            sealed, module=parties[Curve.P256].module, slot=KeySlot.WAN_ENC, certificate=party.enc
        )


async def test_shared_info_must_agree(party: Party, sealed: bytes) -> None:
    with pytest.raises(EnvelopeRefused):
        await opened(sealed, party, SharedInfo.EMPTY)


def _set(*path: str | int, to: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        *head, last = path
        for step in head:
            value = value[step].chosen if step == 0 else value[step]
        value[last] = to

    return change


def _twice(value: Any) -> None:
    keys = value["recipient_infos"][0].chosen["encrypted_keys"]
    keys.append(keys[0].copy())


def _attributes(*oids: str) -> Any:
    return syntax.Attributes(
        [{"type": "1.2.840.113549.1.9.3", "values": [core.Any(core.ObjectIdentifier(oid)) for oid in oids]}]
    )


_AGREEMENT = ("recipient_infos", 0)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_set("version", to=2), id="version"),
        pytest.param(_set(*_AGREEMENT, "version", to=2), id="recipient version"),
        pytest.param(_set("recipient_infos", to=syntax.RecipientInfos([])), id="no recipient"),
        pytest.param(_twice, id="two keys for one recipient"),
        pytest.param(
            _set(*_AGREEMENT, "algorithm", "algorithm", to="1.3.133.16.840.63.0.2"), id="KDF with SHA-1"
        ),
        pytest.param(
            _set(*_AGREEMENT, "algorithm", "wrap", "algorithm", to="1.2.840.113549.1.9.16.3.6"),
            id="3DES wrap",
        ),
        pytest.param(_set("encrypted", "algorithm", "algorithm", to="2.16.840.1.101.3.4.1.2"), id="bare CBC"),
        pytest.param(_set("encrypted", "content_type", to="1.2.3"), id="unknown content type"),
        pytest.param(_set("mac", to=bytes(12)), id="short tag"),
        pytest.param(_set("auth_attrs", to=None), id="attributes missing"),
        pytest.param(
            _set("auth_attrs", to=_attributes(ContentType.DATA.oid)), id="attribute names another type"
        ),
        pytest.param(
            _set("auth_attrs", to=_attributes(ContentType.COMPRESSED.oid, "1.2.3")), id="two values"
        ),
    ],
)
async def test_malformed(sealed: bytes, change: Callable[[Any], None]) -> None:
    with pytest.raises(MalformedMessage):
        enveloped.parse(changed(sealed, change))


async def test_gcm_parameters(party: Party) -> None:
    der = await enveloped.seal(CONTENT, recipient=party.enc, module=party.module)
    for nonce, tag in ((bytes(8), 16), (bytes(12), 12), (bytes(16), 16)):
        parameters = core.Any(syntax.GcmParameters({"nonce": nonce, "tag_bytes": tag}))
        with pytest.raises(MalformedMessage, match="nonce"):
            enveloped.parse(changed(der, _set("encrypted", "algorithm", "parameters", to=parameters)))


async def test_point_that_is_not_on_the_curve(party: Party, sealed: bytes) -> None:
    def change(value: Any) -> None:
        value["recipient_infos"][0].chosen["originator"].chosen["public_key"] = b"\x04" + b"\x01" * 64

    with pytest.raises(EnvelopeRefused):
        await opened(changed(sealed, change), party)


@pytest.mark.parametrize("operation", ["agree_ephemeral", "generate_ephemeral", "random"])
async def test_no_ephemeral_key_stays_when_sealing_fails(operation: str, party: Party) -> None:
    module = SoftModule()
    module.faults[operation] = ModuleUnavailable("gone")
    with pytest.raises(ModuleUnavailable):
        await enveloped.seal(CONTENT, recipient=party.enc, module=module)
    assert not module.ephemerals


async def test_content_keys_are_the_modules_and_fresh(party: Party) -> None:
    before = party.module.counts["random"]
    first = enveloped.parse(await enveloped.seal(CONTENT, recipient=party.enc, module=party.module))
    second = enveloped.parse(await enveloped.seal(CONTENT, recipient=party.enc, module=party.module))
    assert party.module.counts["random"] == before + 4  # key and nonce, twice
    assert first.nonce != second.nonce
    assert first.ciphertext != second.ciphertext
    assert first.recipients[0].ephemeral_point != second.recipients[0].ephemeral_point


async def to_party(party: Party, content: bytes = CONTENT, *, compressed: bool = False) -> bytes:
    return await message.to_recipient(
        content,
        recipient=party.enc,
        module=party.module,
        sig_slot=KeySlot.WAN_SIG,
        sig_certificate=party.sig,
        compressed=compressed,
    )


async def from_party(der: bytes, party: Party, signer: Party) -> message.Opened:
    return await message.from_sender(
        der,
        module=party.module,
        enc_slot=KeySlot.WAN_ENC,
        enc_certificate=party.enc,
        signers=[signer.sig],
    )


@pytest.mark.parametrize("compressed", [False, True])
async def test_nesting(party: Party, compressed: bool) -> None:
    der = await to_party(party, compressed=compressed)
    assert await from_party(der, party, party) == message.Opened(CONTENT, party.sig)


async def test_signature_is_checked_before_anything_is_opened(party: Party, stranger: Party) -> None:
    der = await to_party(party)
    agreements = party.module.counts["agree"]
    with pytest.raises(SignatureRefused):
        await from_party(der, party, stranger)
    assert party.module.counts["agree"] == agreements


async def test_signed_data_alone_is_not_a_sealed_message(party: Party) -> None:
    der = await signed.sign(CONTENT, module=party.module, slot=KeySlot.WAN_SIG, certificate=party.sig)
    with pytest.raises(MalformedMessage, match="not over AuthEnvelopedData"):
        await from_party(der, party, party)


async def test_envelope_over_signed_data_is_refused(party: Party) -> None:
    der = await enveloped.seal(
        CONTENT, recipient=party.enc, module=party.module, content_type=ContentType.SIGNED
    )
    _, body = syntax.unwrap(der)
    outer = await signed.sign(
        body,
        module=party.module,
        slot=KeySlot.WAN_SIG,
        certificate=party.sig,
        content_type=ContentType.AUTH_ENVELOPED,
    )
    with pytest.raises(MalformedMessage, match="not over data"):
        await from_party(outer, party, party)


def _compressed(packed: bytes, **fields: Any) -> bytes:
    value = {
        "version": 0,
        "algorithm": {"algorithm": "1.2.840.113549.1.9.16.3.8"},
        "encap_content_info": {"content_type": ContentType.DATA.oid, "content": packed},
    }
    return bytes(syntax.CompressedData(value | fields).dump())


@pytest.mark.parametrize(
    "der",
    [
        pytest.param(_compressed(zlib.compress(bytes(1 << 20))), id="bomb"),
        pytest.param(_compressed(zlib.compress(CONTENT)[:-1]), id="cut off"),
        pytest.param(_compressed(zlib.compress(CONTENT) + b"\0"), id="bytes behind"),
        pytest.param(_compressed(b"no zlib"), id="no zlib"),
        pytest.param(_compressed(zlib.compress(CONTENT), version=1), id="version"),
        pytest.param(_compressed(zlib.compress(CONTENT), algorithm={"algorithm": "1.2.3"}), id="algorithm"),
        pytest.param(
            _compressed(b"", encap_content_info={"content_type": ContentType.SIGNED.oid, "content": b""}),
            id="content type",
        ),
        pytest.param(b"\x30\x00", id="empty"),
    ],
)
def test_decompress_refuses(der: bytes) -> None:
    with pytest.raises(MalformedMessage):
        message.decompress(der, max_bytes=1 << 16)


def test_decompress_up_to_the_limit() -> None:
    assert message.decompress(message.compress(bytes(100)), max_bytes=100) == bytes(100)
    with pytest.raises(MalformedMessage):
        message.decompress(message.compress(bytes(101)), max_bytes=100)


async def test_static_key_missing(sealed: bytes, party: Party) -> None:
    """An empty slot is answered like a wrong key: the sender learns nothing."""
    with pytest.raises((EnvelopeRefused, CommandRefused)):
        await enveloped.open(sealed, module=SoftModule(), slot=KeySlot.WAN_ENC, certificate=party.enc)
