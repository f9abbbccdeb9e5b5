"""`smgw bench lmn`: a telegram in mode 7 beside its bare cryptography, records beside a decoder in Rust.

The other decoder, pymbusparser, comes with the test environment (decision 011); without it the second figure
has no reference.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.cmac import CMAC

from lmn.mbus import records
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


_MIX: Final = (
    "0403/4 04833C/4 042B/4 04AB3C/4 841003/4 842003/4 0C14/4 4C14/4 0B3B/3 0A5A/2 0A5E/2 0A62/2 "
    "0265/2 02FD48/2 04FD59/4 0C78/4 046D/4 426C/2 0B6E/3 4B6E/3 8C0413/4 CC0413/4 01FD0C/1 02FD17/2"
)
_RECORDS: Final = tuple(
    (bytes.fromhex(header), int(size)) for header, size in (entry.split("/") for entry in _MIX.split())
)
"""Headers and data bytes of records as meters for electricity, gas, water and heat send them."""
_RECORDS_EACH: Final = 6


def _unencrypted() -> list[bytes]:
    """Application data of six records each, always the same; decimal digits, so both read all of it."""
    contents, state = [], 1
    for _ in range(_TELEGRAMS):
        content = bytearray()
        for _ in range(_RECORDS_EACH):
            state = state * 1103515245 + 12345 & 0x7FFFFFFF
            header, size = _RECORDS[(state >> 16) % len(_RECORDS)]
            content += header + bytes.fromhex(f"{state % 10 ** (2 * size):0{2 * size}}")[:size]
        contents.append(bytes(content))
    return contents


def _other_decoder() -> Callable[[bytes], object] | None:
    try:
        module = importlib.import_module("pymbusparser")
    except ImportError:
        return None
    parse_records: Callable[[bytes], object] = module.parse_records
    return parse_records


def _records_figure(rounds: int) -> Figure:
    contents, other = _unencrypted(), _other_decoder()
    for work in (records.parse, other):
        if work is not None:
            _mean_us(work, contents)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(_mean_us(records.parse, contents))
        if other is not None:
            theirs.append(_mean_us(other, contents))
    return Figure(
        f"unencrypted application data of {_RECORDS_EACH} records to values, mean CPU",
        median(ours),
        "us",
        reference="pymbusparser (Rust) to its Python objects" if theirs else "pymbusparser is not installed",
        reference_value=median(theirs) if theirs else None,
    )


def _mean_us(work: Callable[[bytes], object], telegrams: Sequence[bytes]) -> float:
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
        ),
        _records_figure(rounds),
    ]
