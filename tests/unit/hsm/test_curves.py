"""Point arithmetic against RFC 7027 and against another library; every bad point is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from hsm import curves
from hsm.api import Curve
from hsm.errors import ModuleFailed, PointRefused
from hsm.session import host_random
from tests.support.vectors import vectors

OTHERS = {
    Curve.P256: ec.SECP256R1(),
    Curve.P384: ec.SECP384R1(),
    Curve.BRAINPOOL_P256: ec.BrainpoolP256R1(),
    Curve.BRAINPOOL_P384: ec.BrainpoolP384R1(),
    Curve.BRAINPOOL_P512: ec.BrainpoolP512R1(),
}


@vectors("hsm/ecdh_brainpool.json")
def test_rfc_7027(case: dict[str, str]) -> None:
    curve = Curve(case["curve"])
    a, b = int(case["da"], 16), int(case["db"], 16)
    own, other = curves.multiply(curve, a), curves.multiply(curve, b)
    assert curves.x_of(curve, own).hex() == case["xa"]
    if "ya" in case:
        assert own[-curve.field_bytes :].hex() == case["ya"]
    if "xb" in case:
        assert curves.x_of(curve, other).hex() == case["xb"]
    assert curves.x_of(curve, curves.multiply(curve, a, other)).hex() == case["xz"]
    assert curves.x_of(curve, curves.multiply(curve, b, own)).hex() == case["xz"]


@pytest.mark.parametrize("curve", Curve)
def test_against_another_library(curve: Curve) -> None:
    scalar = curves.draw_scalar(curve, host_random)
    theirs = ec.derive_private_key(scalar, OTHERS[curve]).public_key().public_numbers()
    size = curve.field_bytes
    assert curves.multiply(curve, scalar) == b"\x04" + theirs.x.to_bytes(size, "big") + theirs.y.to_bytes(
        size, "big"
    )


@pytest.mark.parametrize("curve", Curve)
def test_group_laws(curve: Curve) -> None:
    g = curves.generator(curve)
    assert curves.add(curve, g, g) == curves.multiply(curve, 2)
    assert curves.add(curve, curves.multiply(curve, 2), g) == curves.multiply(curve, 3, g)
    n = curves.order(curve)
    minus = curves.multiply(curve, n - 1)
    assert minus[: 1 + curve.field_bytes] == g[: 1 + curve.field_bytes]
    with pytest.raises(PointRefused):
        curves.add(curve, g, minus)
    with pytest.raises(PointRefused):
        curves.multiply(curve, n)


def bad_points(curve: Curve) -> Iterator[tuple[str, bytes]]:
    g, size = curves.generator(curve), curve.field_bytes
    yield "empty", b""
    yield "infinity", b"\x00"
    yield "zero", b"\x04" + bytes(2 * size)
    yield "compressed", bytes((2 | g[-1] & 1,)) + g[1 : 1 + size]
    yield "hybrid", bytes((6 | g[-1] & 1,)) + g[1:]
    yield "short", g[:-1]
    yield "long", g + b"\x00"
    yield "off the curve", g[:-1] + bytes((g[-1] ^ 1,))
    yield "coordinate too large", b"\x04" + b"\xff" * (2 * size)
    other = Curve.BRAINPOOL_P256 if curve is Curve.P256 else Curve.P256
    yield "another curve", curves.generator(other)


@pytest.mark.parametrize("curve", Curve)
def test_bad_points_are_refused_everywhere(curve: Curve) -> None:
    good = curves.generator(curve)
    curves.check_point(curve, good)
    for _, point in bad_points(curve):
        for use in (
            lambda p: curves.check_point(curve, p),
            lambda p: curves.multiply(curve, 5, p),
            lambda p: curves.add(curve, good, p),
            lambda p: curves.add(curve, p, good),
        ):
            with pytest.raises(PointRefused):
                use(point)


def test_scalars_are_drawn_by_rejection() -> None:
    n = curves.order(Curve.BRAINPOOL_P256)
    answers = [bytes(32), n.to_bytes(32, "big"), b"\xff" * 32, (n - 1).to_bytes(32, "big")]
    assert curves.draw_scalar(Curve.BRAINPOOL_P256, lambda count: answers.pop(0)) == n - 1
    with pytest.raises(ModuleFailed):
        curves.draw_scalar(Curve.BRAINPOOL_P256, lambda count: b"\xff" * count)


def test_nonce_that_maps_to_nothing() -> None:
    n = curves.order(Curve.BRAINPOOL_P256)
    with pytest.raises(PointRefused):
        curves.map_generator(
            Curve.BRAINPOOL_P256, n.to_bytes(32, "big"), curves.generator(Curve.BRAINPOOL_P256)
        )
