"""`smgw bench dcnet`, V-mode: what a member's commitments and proof cost, and their check at the supplier.

The reference is the multiplication of a point by a number, by libsodium, in the same run: it says how many of
those a proof is worth, whatever the machine. A signature stands beside it as what a member does anyway.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from firmware.enforcement.dcnet.primitives import edwards, scalars, verifiable
from firmware.enforcement.dcnet.primitives.range_proof import proof_bytes
from tools.bench.figure import Figure

_LIMIT: Final = 10_000_000
"""0.1 Wh: the default policy's largest value, in 32 bits."""
_POINTS: Final = 50
_SIGNATURES: Final = 20
_MEMBERS: Final = 256


def _cpu_us(work: Callable[[], object], times: int = 1) -> float:
    start = time.process_time_ns()
    for _ in range(times):
        work()
    return (time.process_time_ns() - start) / times / 1000


async def run(rounds: int) -> list[Figure]:
    """Measure `rounds` rounds with all subjects in each; medians count."""
    binding = verifiable.Binding(bytes(8), bytes(32), 20_000, 7, 1, bytes(32), bytes(32), (_LIMIT, _LIMIT))
    values, masked = (1234, 0), (5, 6)
    key = ec.generate_private_key(ec.BrainpoolP256R1())
    data, algorithm = bytes(1000), ec.ECDSA(hashes.SHA256())
    point, number = edwards.hashed(b"bench"), scalars.wide(os.urandom(64))
    many = [edwards.times_base(2 + at) for at in range(_MEMBERS)]
    proofs, checks, sums, points, signed, judged = [], [], [], [], [], []
    for _ in range(rounds + 1):  # the first makes the bases and is not counted
        blindings = tuple(scalars.wide(os.urandom(64)) for _ in values)
        make = partial(verifiable.shown, binding, values, blindings, masked, os.urandom(32))
        proofs.append(_cpu_us(make))
        commitments, proof = make()
        checks.append(_cpu_us(partial(verifiable.check, binding, commitments, masked, proof)))
        sums.append(_cpu_us(partial(verifiable.fits, many, 1, 1)) / _MEMBERS)
        points.append(_cpu_us(partial(edwards.times, number, point), _POINTS))
        signature = key.sign(data, algorithm)
        signed.append(_cpu_us(partial(key.sign, data, algorithm), _SIGNATURES))
        judged.append(_cpu_us(partial(key.public_key().verify, signature, data, algorithm), _SIGNATURES))
    base, made, checked = (median(found[1:]) for found in (points, proofs, checks))

    def beside(name: str, value: float, reference: str, reference_value: float) -> Figure:
        return Figure(
            f"V-mode, {name}, CPU", value, "us", reference=reference, reference_value=reference_value
        )

    per_point = "one multiplication of a point by libsodium"
    return [
        beside("commitments and proof, 2 lanes of 32 bits", made, per_point, base),
        beside("commitments and proof", made, "one ECDSA signature, brainpoolP256r1", median(signed[1:])),
        beside("check of a member's proof", checked, per_point, base),
        beside("check of a proof", checked, "one ECDSA verification, brainpoolP256r1", median(judged[1:])),
        beside(
            f"sum against commitments, per member and lane, {_MEMBERS} members",
            median(sums[1:]),
            per_point,
            base,
        ),
        Figure(
            "V-mode, proof of 2 lanes of 32 bits",
            float(len(proof)),
            "bytes",
            reference="of 64 bits",
            reference_value=float(proof_bytes(64, 4)),
        ),
    ]
