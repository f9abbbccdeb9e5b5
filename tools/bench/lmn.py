"""`smgw bench lmn`: one telegram in security mode 7, raw bytes to records, beside its bare cryptography."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.cmac import CMAC

from lmn.mbus.decoder import decode
from lmn.ports import MeterAccess, ReceptionMode
from tools.bench.figure import Figure
from tools.counterparts.meter_wmbus import DEFAULT_KEY, DEFAULT_METER, ElectricityMeter

BAR_US: Final = 60.0
_TELEGRAMS: Final = 2000
_ACCESS: Final = MeterAccess(DEFAULT_METER, DEFAULT_KEY, ReceptionMode.STRICT)
_DERIVATION_INPUT: Final = bytes(16)
_ENCRYPTED_BYTES: Final = 32
"""At the end of the simulated meter's telegrams."""


def _telegrams() -> list[bytes]:
    meter = ElectricityMeter()
    telegrams = []
    for _ in range(_TELEGRAMS):
        meter.step()
        telegrams.append(meter.telegram())
    return telegrams


def _decode(telegram: bytes) -> None:
    decode(telegram, _ACCESS, 0)


def _bare(telegram: bytes) -> None:
    """What cannot be left out: two derived keys and the authentication code by CMAC, one AES-CBC."""
    for message in (_DERIVATION_INPUT, _DERIVATION_INPUT, telegram):
        mac = CMAC(AES(DEFAULT_KEY))
        mac.update(message)
        mac.finalize()
    Cipher(AES(DEFAULT_KEY), CBC(bytes(16))).decryptor().update(telegram[-_ENCRYPTED_BYTES:])


def _mean_us(work: Callable[[bytes], None], telegrams: Sequence[bytes]) -> float:
    start = time.process_time_ns()
    for telegram in telegrams:
        work(telegram)
    return (time.process_time_ns() - start) / len(telegrams) / 1000


async def run(rounds: int) -> list[Figure]:
    """Measure `rounds` rounds of 2000 telegrams, both subjects in turn; the median of the means counts."""
    telegrams = _telegrams()
    ours, bare = [], []
    for work in (_decode, _bare):
        _mean_us(work, telegrams)  # warm: header cache, imports
    for _ in range(rounds):
        ours.append(_mean_us(_decode, telegrams))
        bare.append(_mean_us(_bare, telegrams))
    return [
        Figure(
            f"telegram of {len(telegrams[0])} bytes in mode 7 to three records, mean CPU",
            median(ours),
            "us",
            bar=BAR_US,
            reference="pyca alone: AES-CBC and three CMACs",
            reference_value=median(bare),
        )
    ]
