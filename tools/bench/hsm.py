"""`smgw bench hsm`: the emulated module in process, under secure messaging, beside the same without it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from hsm.api import Curve, KeySlot
from hsm.channel import Channel, Operation, T
from hsm.client import ModuleClient
from hsm.emulator import load_card
from hsm.emulator.card import Card, PowerEvent
from hsm.emulator.drbg import Drbg
from hsm.emulator.entropy import OperatingSystemEntropy
from hsm.emulator.personalise import new_card, new_state
from hsm.emulator.state import encode_state
from hsm.emulator.storage import MemoryStorage
from hsm.emulator.transport import EmulatorTransport
from hsm.host_random import host_random
from hsm.pace import Scalars
from hsm.session import ModuleSession
from hsm.suites import AES128
from tools.bench.figure import Figure

_PIN = b"1234567890"
_CURVE = Curve.BRAINPOOL_P256
_DIGEST = bytes(range(32))
_SELECT_MF = bytes.fromhex("00A4000C")
_TRIVIAL_BAR_MS, _PACE_BAR, _OVERHEAD_MS = 0.15, 2.0, 1.0
# GPL-3, so a process of its own, and beside the tests: in an installed wheel there is no such reference.
_PEER = Path(__file__).resolve().parents[2] / "tests" / "peers" / "eac.py"


async def run(rounds: int) -> list[Figure]:
    """Measure; `rounds` is the number of repetitions of the slow operations."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        new_card(folder, _PIN)
        card = load_card(folder)
        figures = [await asyncio.to_thread(_trivial, card, 50 * rounds)]
        figures += await asyncio.to_thread(_pace, card, max(rounds, 20))
        async with ModuleSession(lambda: EmulatorTransport(card), lambda: _PIN) as module:
            figures += await _operations(module, max(rounds, 20))
    return figures


def _drive(card: Card, channel: Channel, operation: Operation[T]) -> T:
    wire = channel.run(operation)
    try:
        command = next(wire)
        while True:
            command = wire.send(card.apdu(command))
    except StopIteration as done:
        result: T = done.value
        return result


def _log_in(card: Card) -> tuple[Channel, ModuleClient]:
    card.power(PowerEvent.RESET)
    channel = Channel()
    client = ModuleClient(channel)
    _drive(card, channel, client.select())
    scalars = Scalars.draw(_CURVE, host_random)
    _drive(card, channel, client.establish(_PIN, scalars, suite=AES128, curve=_CURVE))
    return channel, client


def _trivial(card: Card, rounds: int) -> Figure:
    """GET CHALLENGE of eight bytes, both ends of secure messaging included; beside a command in the clear."""
    card.power(PowerEvent.ON)
    channel, client = _log_in(card)
    spent, bare = [], []
    for _ in range(rounds):
        started = perf_counter()
        _drive(card, channel, client.random(8))
        spent.append(perf_counter() - started)
    for _ in range(rounds):
        started = perf_counter()
        card.apdu(_SELECT_MF)
        bare.append(perf_counter() - started)
    return Figure(
        "trivial command, in process, protected",
        1000 * median(spent),
        "ms",
        _TRIVIAL_BAR_MS,
        reference="SELECT in the clear",
        reference_value=1000 * median(bare),
    )


def _pace(durable: Card, rounds: int) -> list[Figure]:
    """PACE with both ends ours: in memory, as libeac does it; and with its two durable writes."""
    forgetful = Card(MemoryStorage(encode_state(new_state(_PIN))), Drbg(OperatingSystemEntropy()))
    spent: list[list[float]] = []
    for card in (forgetful, durable):
        _log_in(card)
        spent.append([])
        for _ in range(rounds):
            started = perf_counter()
            _log_in(card)
            spent[-1].append(perf_counter() - started)
    peer = subprocess.run(
        [sys.executable, str(_PEER), str(rounds)],
        capture_output=True,
        text=True,
        check=False,
    )
    name, (value, stored) = "PACE AES-128, brainpoolP256r1, warm", (1000 * median(times) for times in spent)
    with_disk = Figure(
        f"{name}, PIN counter on disk", stored, "ms", reference="in memory", reference_value=value
    )
    if peer.returncode:
        return [Figure(f"{name} (no libeac here)", value, "ms"), with_disk]
    judged = Figure(
        name,
        value,
        "ms",
        _PACE_BAR,
        reference="libeac with libeac",
        reference_value=float(peer.stdout),
        bar_on_ratio=True,
    )
    return [judged, with_disk]


async def _operations(module: ModuleSession, rounds: int) -> list[Figure]:
    """ECDSA and ECKA through session and secure messaging, beside pyca's bare operation."""
    await module.generate_key_pair(KeySlot.WAN_SIG, _CURVE)
    bare = ec.generate_private_key(ec.BrainpoolP256R1())
    peer = ec.generate_private_key(ec.BrainpoolP256R1()).public_key()
    numbers = peer.public_numbers()
    point = b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    algorithm = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
    return [
        await _beside(
            "ECDSA, protected",
            lambda: module.sign(KeySlot.WAN_SIG, _DIGEST),
            lambda: bare.sign(_DIGEST, algorithm),
            rounds,
        ),
        await _beside(
            "ECKA, protected",
            lambda: module.agree(KeySlot.WAN_SIG, point),
            lambda: bare.exchange(ec.ECDH(), peer),
            rounds,
        ),
    ]


async def _beside(
    name: str, ours: Callable[[], Awaitable[bytes]], bare: Callable[[], bytes], rounds: int
) -> Figure:
    await ours()
    spent, reference = [], []
    for _ in range(rounds):
        started = perf_counter()
        await ours()
        between = perf_counter()
        bare()
        spent.append(between - started)
        reference.append(perf_counter() - between)
    beside = 1000 * median(reference)
    return Figure(
        name,
        1000 * median(spent),
        "ms",
        2 * beside + _OVERHEAD_MS,
        reference="pyca alone (bar: twice that + 1 ms)",
        reference_value=beside,
    )
