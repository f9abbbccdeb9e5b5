"""The card's generator: known answers, an independent model, reseeding, and a source that fails."""

from __future__ import annotations

import hmac

import pytest

from hsm.emulator import drbg
from hsm.emulator.drbg import Drbg
from hsm.emulator.entropy import FixedEntropy, OperatingSystemEntropy
from hsm.emulator.health import PROPORTION_CUTOFF, REPETITION_CUTOFF, START_SAMPLES, WINDOW, HealthTests
from hsm.errors import ModuleFailed
from tests.support.vectors import vectors


class Model:
    """HMAC-DRBG with SHA-256 as NIST SP 800-90A 10.1.2 writes it down."""

    def __init__(self, seed: bytes) -> None:
        self.key, self.value = bytes(32), b"\x01" * 32
        self.update(seed)

    def update(self, data: bytes) -> None:
        for octet in (b"\x00", b"\x01") if data else (b"\x00",):
            self.key = hmac.digest(self.key, self.value + octet + data, "sha256")
            self.value = hmac.digest(self.key, self.value, "sha256")

    def generate(self, count: int) -> bytes:
        output = b""
        while len(output) < count:
            self.value = hmac.digest(self.key, self.value, "sha256")
            output += self.value
        self.update(b"")
        return output[:count]


class Failing:
    """A source that fails after some reads."""

    trusted = True

    def __init__(self, good: int, answer: bytes | None = None) -> None:
        self.good, self.answer = good, answer

    def read(self, count: int) -> bytes:
        self.good -= 1
        if self.good >= 0:
            return OperatingSystemEntropy().read(count)
        if self.answer is None:
            raise OSError("gone")
        return (self.answer * count)[:count]


@vectors("hsm/hmac_drbg.json")
def test_published_answer(case: dict[str, str]) -> None:
    model = Model(bytes.fromhex(case["entropy"] + case["nonce"]))
    size = len(case["output"]) // 2
    model.generate(size)
    assert model.generate(size).hex() == case["output"]
    assert drbg.known_answer()


def test_against_the_model_with_reseeding() -> None:
    source = FixedEntropy(b"seed")
    generator = Drbg(FixedEntropy(b"seed"), reseed_interval=3)
    source.read(START_SAMPLES)
    model = Model(source.read(48) + source.read(16))
    for request in range(10):
        if request and request % 3 == 0:
            model.update(source.read(48))
        assert generator.read(5 + 40 * request) == model.generate(5 + 40 * request)
    assert generator.reseeds == 3


def test_two_generators_differ() -> None:
    first, second = Drbg(OperatingSystemEntropy()), Drbg(OperatingSystemEntropy())
    assert first.read(32) != second.read(32)
    assert first.read(32) != first.read(32)
    assert first.trusted
    assert not Drbg(FixedEntropy(b"x")).trusted


@pytest.mark.parametrize("answer", [None, b"\x00", b"\x01\x02", b""])
def test_a_failing_source_stops_the_generator_for_good(answer: bytes | None) -> None:
    generator = Drbg(Failing(3, answer), reseed_interval=2)
    generator.read(8)
    generator.read(8)
    for _ in range(2):
        with pytest.raises(ModuleFailed):
            generator.read(8)
    assert generator.failed


@pytest.mark.parametrize("good", [0, 1, 2])
def test_no_generator_without_seed(good: int) -> None:
    with pytest.raises(ModuleFailed):
        Drbg(Failing(good))


def test_reseed_on_demand_fails_for_good() -> None:
    generator = Drbg(Failing(3))
    with pytest.raises(ModuleFailed):
        generator.reseed()
    with pytest.raises(ModuleFailed):
        generator.read(1)


def test_a_wrong_known_answer_stops_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drbg, "_KAT_OUTPUT", bytes(128))
    with pytest.raises(ModuleFailed, match="known answer"):
        Drbg(OperatingSystemEntropy())


def healthy(samples: bytes, *, pieces: int = 100) -> bool:
    tests = HealthTests()
    try:
        for start in range(0, len(samples), pieces):
            tests.check(samples[start : start + pieces])
    except ModuleFailed:
        with pytest.raises(ModuleFailed):  # the first failure is final
            tests.check(b"")
        return False
    return True


VARIED = bytes(range(256)) * 4


@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_repetition_count(pieces: int) -> None:
    assert healthy(VARIED + b"\x07" * (REPETITION_CUTOFF - 1) + VARIED, pieces=pieces)
    assert not healthy(VARIED + b"\x07" * REPETITION_CUTOFF, pieces=pieces)


@pytest.mark.parametrize("pieces", [1, 70, 512])
def test_adaptive_proportion(pieces: int) -> None:
    def window(alike: int) -> bytes:
        pairs = [bytes((7, 8 + index % 200)) for index in range(alike)]
        return b"".join(pairs) + VARIED[8:256] * 2

    assert healthy(window(PROPORTION_CUTOFF - 3)[:WINDOW], pieces=pieces)
    assert not healthy(window(PROPORTION_CUTOFF)[:WINDOW], pieces=pieces)
    # the reference is the first sample of a window: a value that only comes later is counted in the next one
    assert not healthy(VARIED[:1] + b"\x07\x08" * WINDOW, pieces=pieces)


def test_one_input_by_itself() -> None:
    assert not healthy(bytes(x for pair in zip([7] * 20, range(100, 120), strict=True) for x in pair))


def test_a_good_source_raises_no_false_alarm() -> None:
    tests = HealthTests()
    for _ in range(200):
        tests.check(OperatingSystemEntropy().read(1024))
