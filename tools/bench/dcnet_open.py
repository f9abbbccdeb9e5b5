"""`smgw bench dcnet`: what judging a manifest and opening costs a gateway, beside two signature checks."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from firmware.enforcement.dcnet.messages.documents import to_bitmap
from firmware.enforcement.dcnet.messages.frames import digest, seal
from firmware.enforcement.dcnet.messages.manifest import Manifest
from firmware.enforcement.dcnet.policy import NetRules, Recovery
from firmware.enforcement.dcnet.primitives import graph, merkle
from firmware.enforcement.dcnet.primitives.arithmetic import Prf
from firmware.enforcement.dcnet.slot.round import Round
from firmware.enforcement.dcnet.slot.view import Head, View
from tools.bench.figure import Figure

MEMBERS: Final = 256
DEGREE: Final = 16
GOAL_US: Final = 1000.0
_CALLS: Final = 60
_ABSENT: Final = 2


def rules_of(recovery: Recovery, *, holders: int = 8, threshold: int = 5, n_min: int = 128) -> NetRules:
    """Return the rules of a net of the recommended kind."""
    return NetRules(
        net=bytes(8),
        slot_s=900,
        t0_utc=datetime(2026, 1, 1, tzinfo=UTC),
        n_min=n_min,
        d_min=12,
        delta_ppm=50_000,
        submit_ms=120_000,
        manifest_ms=240_000,
        open_ms=360_000,
        poll_ms=10_000,
        max_wh=1_000_000,
        n_max=4096,
        insecure_small_nets=False,
        recovery=recovery,
        holders=holders,
        threshold=threshold,
    )


def _view(rules: NetRules) -> tuple[View, frozenset[int]]:
    """A member all of whose neighbours are there, and who is absent."""
    members = range(1, MEMBERS + 1)
    number = 0
    while True:
        edges = graph.key_graph(members, DEGREE, b"bench %d" % number)
        if graph.lowest_degree(members, edges) >= rules.required_degree():
            break
        number += 1
    adjacent = graph.neighbours(edges)
    own = {peer: Prf(os.urandom(16)) for peer in adjacent[1]}
    absent = [index for index in members if index != 1 and index not in adjacent[1]][:_ABSENT]
    return View(rules, 1, 20_000, MEMBERS, 1, own, adjacent), frozenset(absent)


def _slots(recovery: Recovery) -> tuple[list[Callable[[], object]], list[Callable[[], object]]]:
    """Calls that submit, and for each the call that judges its manifest and opens; each call once."""
    view, absent = _view(rules_of(recovery))
    everybody, key = frozenset(range(1, MEMBERS + 1)), os.urandom(16)
    accepted = sorted(everybody - absent)
    submits: list[Callable[[], object]] = []
    opens: list[Callable[[], object]] = []
    for number in range(_CALLS):
        head = Head(20_000, number - 1, hashlib.sha256(b"%d" % number).digest(), everybody)
        current, seed = Round(view, head), os.urandom(16)
        coefficients = [os.urandom(16) for _ in range(view.rules.threshold - 1 if recovery else 0)]
        body = current.submit((1234, 0, 1), seed, coefficients)
        leaves = [digest(body) if index == 1 else bytes(32) for index in accepted]
        root, path = merkle.root(leaves), merkle.path(leaves, 0)
        shown = Manifest(
            bytes(8), 1, number, head.hash, to_bitmap(accepted, MEMBERS), to_bitmap((), MEMBERS), root
        )
        encoded = shown.to_bytes()

        def submit(n: int = number, h: Head = head, s: bytes = seed, c: list[bytes] = coefficients) -> bytes:
            return seal(Round(view, Head(20_000, n - 1, h.hash, everybody)).submit((1234, 0, 1), s, c), key)

        def judge(r: Round = current, e: bytes = encoded, p: tuple[bytes, ...] = path) -> bytes:
            r.consider(Manifest.from_bytes(e), p)
            return seal(r.open(), key)

        submits.append(submit)
        opens.append(judge)
    return submits, opens


def _cpu_us(calls: list[Callable[[], object]]) -> float:
    """CPU microseconds of one call, the best of several batches."""
    batches, size = [], 10
    for first in range(0, len(calls), size):
        start = time.process_time_ns()
        for call in calls[first : first + size]:
            call()
        batches.append((time.process_time_ns() - start) / size / 1000)
    return min(batches)


def _verifications() -> list[Callable[[], object]]:
    key = ec.generate_private_key(ec.BrainpoolP256R1())
    public, document = key.public_key(), os.urandom(300)
    signature, algorithm = key.sign(document, ec.ECDSA(SHA256())), ec.ECDSA(SHA256())

    def twice() -> None:
        public.verify(signature, document, algorithm)
        public.verify(signature, document, algorithm)

    return [twice] * _CALLS


async def run(rounds: int) -> list[Figure]:
    """Measure `rounds` rounds with all subjects in each; medians count."""
    opens, signatures, shares = [], [], []
    for _ in range(rounds):
        opens.append(_cpu_us(_slots(Recovery.NONE)[1]))
        signatures.append(_cpu_us(_verifications()))
        shares.append(_cpu_us(_slots(Recovery.WITNESS)[0]))
    return [
        Figure(
            f"judge a manifest of {MEMBERS} members and open, without signatures, CPU",
            median(opens),
            "us",
            bar=GOAL_US,
            reference="two ECDSA checks, brainpoolP256r1",
            reference_value=median(signatures),
        ),
        Figure("submit with 8 sealed shares (recovery), CPU", median(shares), "us"),
    ]
