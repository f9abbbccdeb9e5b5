"""A signer's certificate that only looks like one is refused by name: nobody's process ends by it."""

from __future__ import annotations

import random

import pytest

from tools.counterparts.messages import MessageRefused, check_signed
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.pki import make_pki

KEY_TYPE = bytes.fromhex("06072a8648ce3d0201")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> CmsKeys:
    folder = tmp_path_factory.mktemp("forged") / "pki"
    make_pki(folder)
    return CmsKeys(folder / "gwa")


async def test_a_key_of_no_known_type_or_off_the_curve_is_refused(keys: CmsKeys) -> None:
    """The supplier's net ended with the error when an administrator answered so."""
    signed = await keys.sign(b"a manifest")
    assert (await check_signed(signed, keys.trust)).content == b"a manifest"
    place = signed.index(KEY_TYPE) + len(KEY_TYPE)
    curve = place + 2 + signed[place + 1]  # behind it: the bit string with the point
    for forged in (
        signed.replace(KEY_TYPE, KEY_TYPE[:-2] + b"\x03\x01"),
        signed[: place + 4] + bytes([signed[place + 4] ^ 0x10]) + signed[place + 5 :],
        signed[: curve + 6] + bytes([signed[curve + 6] ^ 1]) + signed[curve + 7 :],
    ):
        with pytest.raises(MessageRefused):
            await check_signed(forged, keys.trust)


@pytest.mark.filterwarnings("ignore:Parsed a serial number:DeprecationWarning", "ignore:.*:UserWarning")
async def test_whatever_a_signed_message_is_turned_into_is_good_or_refused(keys: CmsKeys) -> None:
    signed, source = await keys.sign(b"a manifest"), random.Random(7)
    refused = 0
    for _ in range(600):
        forged = bytearray(signed)
        for _ in range(source.choice((1, 1, 2))):
            forged[source.randrange(len(forged))] = source.choice(
                (0x00, 0x30, 0x80, 0xFF, source.randrange(256))
            )
        try:
            assert (await check_signed(bytes(forged), keys.trust)).content == b"a manifest"
        except MessageRefused:
            refused += 1
    assert refused > 500
