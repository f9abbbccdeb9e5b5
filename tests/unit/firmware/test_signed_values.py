"""Registered values under the gateway's signature, which verify off the device."""

from __future__ import annotations

import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from firmware.flow.evaluation import Evaluator, Since
from firmware.metering.signature import signed_text
from firmware.metering.tariff.task import Occasion
from hsm.api import KeySlot
from tests.unit.firmware.pipeline_street import GATEWAY, SIGNER, started
from tests.unit.firmware.profile_set import at
from tests.unit.firmware.tariff_street import a_set, run_through
from tests.unit.firmware.tariff_task import registers_of

LONG_AGO = Since(at(-60), at(-60))


async def test_signed_values_verify_off_device(street):
    profiles = a_set(7, billing_period_s=1800, signed_values=True)
    gateway = await started(street, profiles)
    await run_through(gateway, ["1000.5", None, "1300"])
    (document,) = gateway.documents()
    key = SIGNER.keys[KeySlot.WAN_SIG].public_key()
    kept = await gateway.originals.between("tariff", at(0), at(1800))
    for entry, sent in zip(kept, document["entries"], strict=True):
        plain = bytes.fromhex(sent["signature"])
        r, s = int.from_bytes(plain[:32], "big"), int.from_bytes(plain[32:], "big")
        signature, text = encode_dss_signature(r, s), signed_text(entry, GATEWAY)
        key.verify(signature, text, ec.ECDSA(hashes.SHA256()))
        with pytest.raises(InvalidSignature):
            key.verify(signature, text.replace(b'"status":"0', b'"status":"1'), ec.ECDSA(hashes.SHA256()))


def test_what_is_signed():
    (_, entry) = registers_of([230])
    assert json.loads(signed_text(entry, GATEWAY)) == {
        "logical_name": f"0100010800ff.{GATEWAY}.sm",
        "meter": "ELS-12345678-33-02",
        "status": "0002000500000000",
        "capture_time": "2026-01-01T00:15:00Z",
        "value": "123",
        "scaler": 1,
        "unit": 30,
        "unit_name": "Wh",
    }


async def test_a_gateway_without_key_signs_nothing(street):
    gateway = await started(street, a_set(7, signed_values=True))
    evaluator = Evaluator(gateway.originals, gateway.happenings)
    with pytest.raises(ValueError, match="SIG key"):
        await evaluator.dataset(
            a_set(7, signed_values=True).processing[0], Occasion(at(0), at(900), ""), LONG_AGO
        )
