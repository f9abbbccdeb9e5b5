"""`smgw bench dcnet`: what one submission costs a gateway, beside plain AES and HMAC in the same run."""

from __future__ import annotations

import hashlib
import hmac
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import ECB

from firmware.enforcement.dcnet.messages.frames import Frame, FrameType, digest, seal
from firmware.enforcement.dcnet.primitives.arithmetic import Prf, submission
from firmware.store.partition import Partition
from hsm.api import Curve, KeySlot
from tools.bench.figure import Figure
from tools.counterparts.keys import SoftwareKeys

NEIGHBOURS: Final = 16
LANES: Final = 3
GOAL_US: Final = 60.0
_CALLS: Final = 1000
_BATCH: Final = 50
_FSYNCS: Final = 20
_ENTRY_BYTES: Final = 192
"""A slot's ledger entry with seed, frame and hash."""
_AES_CALLS_PER_EDGE: Final = (16, 16, 32)
"""Bytes of the three ECB calls that one pad of three lanes takes: two context blocks, two output blocks."""


def _cpu_us(work: Callable[[int], object]) -> float:
    """CPU microseconds of one call: the best of several batches, because a busy neighbour only ever adds."""
    batches = []
    for first in range(0, _CALLS, _BATCH):
        start = time.process_time_ns()
        for number in range(first, first + _BATCH):
            work(number)
        batches.append((time.process_time_ns() - start) / _BATCH / 1000)
    return min(batches)


def _submit() -> Callable[[int], object]:
    """A whole submission: self-mask, 16 pads under a new manifest hash, frame, digest, MAC."""
    edges = {peer: Prf(os.urandom(16)) for peer in range(2, NEIGHBOURS + 2)}
    everybody, mac_key, net = frozenset(range(1, NEIGHBOURS + 2)), os.urandom(16), bytes(8)
    # In a gateway the hash comes with the manifest and the seed from the module; making them is not counted.
    hashes = [hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(_CALLS)]
    seeds = [os.urandom(16) for _ in range(_CALLS)]

    def one(n: int) -> tuple[bytes, bytes]:
        lanes = submission((1234, 0, 1), seeds[n], 1, edges, everybody, hashes[n], n)
        body = Frame(FrameType.SUBMIT, n, net, 1, 1, 20_000, hashes[n], lanes).to_bytes()
        return digest(body), seal(body, mac_key)

    return one


def _bare_aes() -> Callable[[int], object]:
    ciphers = [Cipher(AES128(os.urandom(16)), ECB()).encryptor().update for _ in range(NEIGHBOURS)]  # noqa: S305
    blocks = [bytes(size) for size in _AES_CALLS_PER_EDGE]
    return lambda _: [encrypt(block) for encrypt in ciphers for block in blocks]


def _hmac() -> Callable[[int], object]:
    keys = [os.urandom(16) for _ in range(NEIGHBOURS)]
    return lambda n: [hmac.digest(key, n.to_bytes(48, "big"), "sha256") for key in keys]


async def _persist_us(folder: Path) -> tuple[float, float]:
    """Wall microseconds of one ledger entry (sealed, SQLite, fsync), and of a bare write and fsync."""
    entries, bare = [], []
    module = SoftwareKeys()
    await module.generate_key_pair(KeySlot.STORE, Curve.BRAINPOOL_P256)
    async with await Partition.open(folder / "system.db", "system", module) as store:
        for slot in range(_FSYNCS):
            start = time.perf_counter_ns()
            await store.put("dcnet-slot", f"{slot:010d}", bytes(_ENTRY_BYTES))
            entries.append((time.perf_counter_ns() - start) / 1000)
    with (folder / "bare").open("wb", buffering=0) as file:
        for _ in range(_FSYNCS):
            start = time.perf_counter_ns()
            file.write(bytes(_ENTRY_BYTES))
            os.fsync(file.fileno())
            bare.append((time.perf_counter_ns() - start) / 1000)
    return median(entries), median(bare)


async def run(rounds: int) -> list[Figure]:
    """Measure `rounds` rounds with all subjects in each, so that noise meets all of them.

    Of CPU times the best round counts, as the best batch does; of what waits for the disk, the median.
    """
    submits, bares, macs, persists, fsyncs = [], [], [], [], []
    for _ in range(rounds):
        submits.append(_cpu_us(_submit()))
        bares.append(_cpu_us(_bare_aes()))
        macs.append(_cpu_us(_hmac()))
        with tempfile.TemporaryDirectory() as folder:
            persist, fsync = await _persist_us(Path(folder))
        persists.append(persist)
        fsyncs.append(fsync)
    submit = min(submits)
    return [
        Figure(
            f"submit, {NEIGHBOURS} neighbours, {LANES} lanes, CPU",
            submit,
            "us",
            bar=GOAL_US,
            reference="bare AES-ECB of the same blocks in the same calls",
            reference_value=min(bares),
        ),
        Figure(
            "submit, CPU",
            submit,
            "us",
            reference="one HMAC-SHA256 per edge",
            reference_value=min(macs),
        ),
        Figure(
            "ledger entry before sending, wall",
            median(persists),
            "us",
            reference=f"write and fsync of {_ENTRY_BYTES} bytes",
            reference_value=median(fsyncs),
        ),
    ]
