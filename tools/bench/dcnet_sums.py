"""`smgw bench dcnet`: the supplier's side. Sums, intake of frames, and a whole simulated slot."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import ECB

from firmware.enforcement.dcnet.messages.frames import Frame, FrameType, seal
from tools.aggregate.columns import Columns
from tools.aggregate.ingest import Intake, Taken, Wanted
from tools.bench.figure import Figure
from tools.dcnet.simulate import Plan
from tools.dcnet.simulate import run as simulate

GATEWAYS: Final = 1_000_000
LANES: Final = 3
NET: Final = 250
MISSING: Final = GATEWAYS // 100
SHARE_OF_BANDWIDTH: Final = 0.8
FRAMES: Final = 20_000
FRAMES_PER_S: Final = 200_000.0
SIMULATED: Final = 100_000
SIMULATION_S: Final = 15.0
_CALLS: Final = 7


def _gb_per_s(work: Callable[[], object], size: int) -> float:
    start = time.perf_counter_ns()
    work()
    return size / (time.perf_counter_ns() - start)


def _bandwidth(rounds: int) -> dict[str, float]:
    """GB/s of each subject over the same bytes, interleaved call by call; the median of all calls."""
    columns = Columns.empty(LANES, [NET] * (GATEWAYS // NET))
    random = np.random.default_rng(1)
    for values in (columns.submitted, columns.opened):
        values[:] = random.integers(0, 1 << 63, values.shape, dtype=np.uint64)
    missing = np.sort(random.choice(GATEWAYS, MISSING, replace=False))
    size = columns.submitted.nbytes + columns.opened.nbytes
    subjects: dict[str, Callable[[], object]] = {
        "sum": lambda: (np.sum(columns.submitted), np.sum(columns.opened)),
        "total": columns.total,
        "missing": lambda: columns.total(missing),
        "nets": lambda: columns.by_net(missing),
    }
    found: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(_CALLS * rounds):
        for name, work in subjects.items():
            found[name].append(_gb_per_s(work, size))
    return {name: median(values) for name, values in found.items()}


def _frames_per_s() -> tuple[float, float]:
    """Frames taken per second of CPU with MAC, header and digest, and SHA-256 of them alone."""
    keys = {index: os.urandom(16) for index in range(1, FRAMES + 1)}
    columns = Columns.empty(LANES, [FRAMES])
    wanted = Wanted(FrameType.SUBMIT, 7, bytes(8), 1, 20_000, bytes(32), LANES)
    frames = [
        seal(Frame(FrameType.SUBMIT, 7, bytes(8), i, 1, 20_000, bytes(32), (i, 0, 1)).to_bytes(), key)
        for i, key in keys.items()
    ]
    taking = Intake(keys, columns.submitted)
    start = time.process_time_ns()
    verdicts = taking.take(frames, wanted)
    taken = FRAMES * 1e9 / (time.process_time_ns() - start)
    assert (verdicts == Taken.NEW).all()
    start = time.process_time_ns()
    for frame in frames:
        hashlib.sha256(frame[:-16]).digest()
    return taken, FRAMES * 1e9 / (time.process_time_ns() - start)


def _contexts_s(count: int) -> float:
    """Seconds of CPU to make AES contexts, as many as the simulated net has edges; measured on a part."""
    part = 20_000
    keys = [os.urandom(16) for _ in range(part)]
    start = time.process_time_ns()
    for key in keys:
        Cipher(AES128(key), ECB()).encryptor()  # noqa: S305
    return (time.process_time_ns() - start) / 1e9 * count / part


async def run(rounds: int) -> list[Figure]:
    """Measure; the simulation runs once, because it takes as long as all the rest."""
    speed = _bandwidth(rounds)
    intakes = [_frames_per_s() for _ in range(rounds)]
    start = time.perf_counter()
    tally = simulate(Plan(SIMULATED, SIMULATED // 256, 1, 0.01, witness=True))
    seconds = time.perf_counter() - start
    assert tally.exact
    return [
        *(
            Figure(
                name,
                speed[subject],
                "GB/s",
                bar=SHARE_OF_BANDWIDTH if subject != "nets" else None,
                at_least=True,
                reference="np.sum over the same bytes, one thread",
                reference_value=speed["sum"],
                bar_on_ratio=subject != "nets",
            )
            for subject, name in (
                ("total", f"total of {GATEWAYS} gateways, {LANES} lanes"),
                ("missing", "the same, 1 % missing"),
                ("nets", f"sums of {GATEWAYS // NET} nets, 1 % missing"),
            )
        ),
        Figure(
            "submissions taken, MAC checked, one core",
            median(taken for taken, _ in intakes),
            "/s",
            bar=FRAMES_PER_S,
            at_least=True,
            reference="SHA-256 of the same frames and nothing else",
            reference_value=median(hashed for _, hashed in intakes),
        ),
        Figure(
            f"whole slot of {SIMULATED} gateways, k = 16, 1 % drop-outs, recovery",
            seconds,
            "s",
            bar=SIMULATION_S,
            reference=f"CPU of {tally.edges} bare AES contexts, one for each edge",
            reference_value=_contexts_s(tally.edges),
        ),
    ]
