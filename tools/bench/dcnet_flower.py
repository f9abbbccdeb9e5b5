"""`smgw bench dcnet`: one round beside Flower's SecAgg+, the same work on both sides, without a network.

128 members with 16 neighbours each in the same ring, one vector of 3 numbers a member, a seed shared out to
16 neighbours of whom 9 restore it, 4 members away before the sum and 2 after they were counted in. CPU is
counted in the protocol's own code, bytes as they would go into a transport: frames with MACs here, encoded
records there. Flower makes new keys each round and has no signatures; here keys are agreed once a roster (30
days) and the supplier signs, so both are measured apart and added in the figures that say so.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA256

from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.faults import RecoveryOrder
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame, FrameType, seal
from firmware.enforcement.dcnet.messages.manifest import Manifest
from firmware.enforcement.dcnet.policy import NetRules, Recovery
from firmware.enforcement.dcnet.primitives import graph, kdf, merkle
from firmware.enforcement.dcnet.primitives.arithmetic import Prf
from firmware.enforcement.dcnet.slot.round import Round
from firmware.enforcement.dcnet.slot.view import Head, View
from tools.aggregate.columns import Columns
from tools.aggregate.ingest import Intake, Wanted
from tools.bench.dcnet_open import rules_of
from tools.bench.figure import Figure
from tools.counterparts.net_recovery import opening_of, order_for, recoverable

MEMBERS: Final = 128
NEIGHBOURS: Final = 16
LANES: Final = 3
THRESHOLD: Final = 9
ABSENT: Final = (20, 60, 100, 120)
LOST: Final = (10, 80)
READING: Final = 15
LESS_CLIENT_CPU: Final = 20.0
LESS_SERVER_CPU: Final = 300.0
FEWER_BYTES: Final = 20.0
_EPOCH: Final = 20_000
_CHILDREN: Final = 2
"""Rounds of Flower; each takes about 15 s."""
_CHILD_TIMEOUT_S: Final = 300
_INSTALL_TIMEOUT_S: Final = 900
_ROOT: Final = Path(__file__).resolve().parents[2]
_NAMES: Final = ("client_us", "server_us", "bytes_up")


class NotInstalled(Exception):
    """Flower's environment cannot be set up; the text says why and what helps."""


def environment(root: Path = _ROOT) -> Path:
    """Return the Python of Flower's own environment, set up when it is missing or its lock file changed.

    Raises:
        NotInstalled: no network, no venv module, or no build for this machine.
    """
    lock, folder = root / "requirements" / "flower.txt", root / ".venv-flower"
    python, stamp = folder / "bin" / "python", folder / ".stamp"
    try:
        wanted = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
        if stamp.is_file() and stamp.read_text() == wanted:
            return python
        sys.stderr.write("smgw bench: setting up .venv-flower (about 150 MB, once)\n")
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "-q", "--require-hashes", "-r", str(lock)])
        stamp.write_text(wanted)
    except OSError as error:
        raise NotInstalled(str(error)) from error
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"nothing came for {_INSTALL_TIMEOUT_S} s") from error
    if done.returncode:
        last = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        raise NotInstalled(f"{' '.join(command[1:4])}: {last}")


def flower(python: Path) -> dict[str, Any]:
    """Run one round of Flower's SecAgg+ in a child.

    Raises:
        NotInstalled: the child failed: another Flower than the lock file's, or not enough memory.
        ValueError: its sum is wrong, so what it cost means nothing.
    """
    plan = {
        "members": MEMBERS,
        "neighbours": NEIGHBOURS,
        "threshold": THRESHOLD,
        "lanes": LANES,
        "reading": READING,
        "absent": ABSENT,
        "lost": LOST,
    }
    script = Path(__file__).with_name("flower_round.py")
    try:
        done = subprocess.run(
            [str(python), "-I", str(script), json.dumps(plan)],
            capture_output=True,
            text=True,
            timeout=_CHILD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(f"Flower's child: {type(error).__name__}") from error
    if done.returncode:
        raise NotInstalled(f"Flower's child: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout)
    # Flower quantises: the mean of equal readings is right to a few parts in 2**22 of its range.
    if len(found["mean"]) != LANES or any(abs(value - READING / 10) > 1e-3 for value in found["mean"]):
        raise ValueError(f"Flower's round came to {found['mean']}, not to {READING / 10}")
    return found


def ring() -> frozenset[graph.Edge]:
    """Return the key graph that Flower draws: everybody with the 8 next on both sides."""
    pairs = ((i, (i - 1 + step) % MEMBERS + 1) for i in range(1, MEMBERS + 1) for step in range(1, 9))
    return frozenset((min(a, b), max(a, b)) for a, b in pairs)


class Own:
    """The same round by this product's members and a supplier in columns."""

    def __init__(self) -> None:
        """Agree on keys: once a roster, so not part of a round."""
        self.rules: NetRules = rules_of(Recovery.WITNESS, holders=NEIGHBOURS, threshold=THRESHOLD, n_min=64)
        self.adjacent = graph.neighbours(ring())
        keys = {edge: os.urandom(16) for edge in ring()}
        self.views = {
            index: View(
                self.rules,
                1,
                _EPOCH,
                MEMBERS,
                index,
                {peer: Prf(keys[min(index, peer), max(index, peer)]) for peer in self.adjacent[index]},
                self.adjacent,
            )
            for index in range(1, MEMBERS + 1)
        }
        self.macs = {index: os.urandom(16) for index in self.views}
        self.columns = Columns.empty(LANES, [MEMBERS])
        self.intake = Intake(self.macs, self.columns.submitted)
        self.client_ns = dict.fromkeys(self.views, 0)
        self.bytes_up = dict.fromkeys(self.views, 0)
        self.server_ns = 0

    def round(self) -> dict[str, float]:
        """Run one round and return what it cost.

        Raises:
            ValueError: its sum is wrong.
        """
        everybody = frozenset(self.views)
        head = Head(_EPOCH, 6, os.urandom(32), everybody)
        rounds = {index: Round(view, head) for index, view in self.views.items() if index not in ABSENT}
        sealed = {index: self._submit(index, one) for index, one in rounds.items()}
        manifest, paths = self._close(head, sealed)
        opened = {
            index: self._open(index, one, manifest, paths[index])
            for index, one in rounds.items()
            if index not in LOST
        }
        order = order_for(self.rules.net, 1, 7, document_hash(manifest), LOST, MEMBERS)
        shares = [
            frame
            for index in opened
            for owner in LOST
            if index in self.adjacent[owner]
            for frame in (self._share(index, rounds[index], order, owner, sealed[owner], paths[owner]),)
        ]
        total = self._sum(manifest, sealed, opened, shares)
        if total != (READING * len(sealed), 0, len(sealed)):
            raise ValueError(f"our round came to {total}")
        there = opened.keys()
        return {
            "client_us": sum(self.client_ns[index] for index in there) / len(there) / 1000,
            "server_us": self.server_ns / 1000,
            "bytes_up": sum(self.bytes_up[index] for index in there) / len(there),
        }

    def _submit(self, index: int, current: Round) -> bytes:
        start = time.process_time_ns()
        seed, coefficients = os.urandom(16), [os.urandom(16) for _ in range(THRESHOLD - 1)]
        frame = seal(current.submit((READING, 0, 1), seed, coefficients), self.macs[index])
        return self._sent(index, start, frame)

    def _open(self, index: int, current: Round, manifest: Manifest, path: tuple[bytes, ...]) -> bytes:
        encoded = manifest.to_bytes()
        start = time.process_time_ns()
        current.consider(Manifest.from_bytes(encoded), path)
        return self._sent(index, start, seal(current.open(), self.macs[index]))

    def _share(
        self,
        index: int,
        current: Round,
        order: RecoveryOrder,
        owner: int,
        sealed: bytes,
        path: tuple[bytes, ...],
    ) -> bytes:
        start = time.process_time_ns()
        frame = current.release(order, owner, sealed[:-MAC_BYTES], path)
        return self._sent(index, start, seal(frame, self.macs[index]))

    def _sent(self, index: int, start: int, frame: bytes) -> bytes:
        self.client_ns[index] += time.process_time_ns() - start
        self.bytes_up[index] += len(frame)
        return frame

    def _close(self, head: Head, sealed: dict[int, bytes]) -> tuple[Manifest, dict[int, tuple[bytes, ...]]]:
        frames = list(sealed.values())
        start = time.process_time_ns()
        self.intake.take(frames, self._wanted(FrameType.SUBMIT, head.hash))
        accepted = sorted(self.intake.digests)
        leaves = [self.intake.digests[index] for index in accepted]
        root = merkle.root(leaves)
        manifest = Manifest(
            self.rules.net,
            1,
            7,
            head.hash,
            to_bitmap(accepted, MEMBERS),
            to_bitmap((), MEMBERS),
            root,
        )
        paths = dict(zip(accepted, merkle.paths(leaves), strict=True))
        self.server_ns += time.process_time_ns() - start
        return manifest, paths

    def _sum(
        self, manifest: Manifest, sealed: dict[int, bytes], opened: dict[int, bytes], shares: list[bytes]
    ) -> tuple[int, ...]:
        frames = list(opened.values())
        start = time.process_time_ns()
        self.intake.begin(self.columns.opened)
        self.intake.take(frames, self._wanted(FrameType.OPEN, document_hash(manifest)))
        if not recoverable(LOST, ABSENT, self.adjacent, self.rules.f_max):
            raise ValueError("the members would not follow this order")
        given: dict[int, dict[int, bytes]] = {}
        for frame in shares:
            body = Frame.from_bytes(frame[:-MAC_BYTES])
            mac = CMAC(AES(self.macs[body.index]))
            mac.update(frame[:-MAC_BYTES])
            mac.verify(frame[-MAC_BYTES:])
            ((owner, share),) = body.shares
            given.setdefault(owner, {})[body.index] = share
        for owner in LOST:
            dealt = Frame.from_bytes(sealed[owner][:-MAC_BYTES]).shares
            lanes = opening_of(dealt, given[owner], THRESHOLD, 7, LANES)
            if lanes is None:
                raise ValueError("the shares give no seed")
            self.columns.opened[:, owner - 1] = lanes
        total = self.columns.total(np.array([index - 1 for index in ABSENT], dtype=np.intp))
        self.server_ns += time.process_time_ns() - start
        return tuple(int(word) for word in total)

    def _wanted(self, kind: FrameType, reference: bytes) -> Wanted:
        return Wanted(kind, 7, self.rules.net, 1, _EPOCH, reference, LANES)


def _extras() -> tuple[float, float]:
    """Return CPU microseconds of two signature checks, and of agreeing on a roster's 17 keys."""
    key, peer = ec.generate_private_key(ec.BrainpoolP256R1()), ec.generate_private_key(ec.BrainpoolP256R1())
    document = os.urandom(300)
    signature = key.sign(document, ec.ECDSA(SHA256()))
    start = time.process_time_ns()
    for _ in range(2 * 10):
        key.public_key().verify(signature, document, ec.ECDSA(SHA256()))
    checks = (time.process_time_ns() - start) / 10 / 1000
    start = time.process_time_ns()
    ec.generate_private_key(ec.BrainpoolP256R1())
    for _ in range(NEIGHBOURS + 1):
        root = kdf.edge_root(key.exchange(ec.ECDH(), peer.public_key()), bytes(32), bytes(16), bytes(16))
        Prf(kdf.epoch_key(kdf.chain_next(kdf.chain_start(root, bytes(8)), bytes(8)), bytes(8), 1))
    return checks, (time.process_time_ns() - start) / 1000


async def run(rounds: int) -> list[Figure]:
    """Measure both in turn; medians count. Without Flower there is nothing to stand beside, so no figure."""
    theirs, ours, extras = [], [], []
    try:
        python = environment()
        for _ in range(min(rounds, _CHILDREN)):
            theirs.append(flower(python))
            ours += [Own().round() for _ in range(5)]
            extras.append(_extras())
    except NotInstalled as error:
        sys.stderr.write(
            f"smgw bench: no figure beside Flower: {error}\n"
            "  hint: it is installed from PyPI by requirements/flower.txt; with a network, try again\n"
        )
        return []
    flower_figures = {name: median(one[name] for one in theirs) for name in _NAMES}
    own = {name: median(one[name] for one in ours) for name in _NAMES}
    checks, agreement = (median(column) for column in zip(*extras, strict=True))
    said = f"{MEMBERS} members, {NEIGHBOURS} neighbours, {len(ABSENT)} + {len(LOST)} drop-outs"
    beside = "Flower SecAgg+, the same round"
    return [
        _less(f"client CPU of a round, {said}", own, flower_figures, "client_us", "us", LESS_CLIENT_CPU),
        _less("supplier CPU of the round", own, flower_figures, "server_us", "us", LESS_SERVER_CPU),
        _less("bytes up of a client", own, flower_figures, "bytes_up", "B", FEWER_BYTES),
        Figure(
            "client CPU with the two signature checks that Flower has not",
            own["client_us"] + checks,
            "us",
            reference=beside,
            reference_value=flower_figures["client_us"],
        ),
        Figure(
            "client CPU of a roster's first round, with checks and key agreement in software",
            own["client_us"] + checks + agreement,
            "us",
            reference=beside,
            reference_value=flower_figures["client_us"],
        ),
    ]


def _less(
    name: str, own: dict[str, float], other: dict[str, float], what: str, unit: str, times: float
) -> Figure:
    """Return a figure whose bar is a ratio: this one at most 1/times of the other."""
    return Figure(
        f"{name} (1/{times:g} is the bar)",
        own[what],
        unit,
        bar=1 / times,
        reference="Flower SecAgg+, the same round",
        reference_value=other[what],
        bar_on_ratio=True,
    )
