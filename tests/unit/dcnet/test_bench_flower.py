"""The round that is measured beside Flower comes to the right sum, and a missing Flower is said clearly."""

from __future__ import annotations

import pytest

from firmware.enforcement.dcnet.primitives import graph, merkle
from tests.unit.dcnet.whole_net import fresh
from tools.bench import dcnet_flower
from tools.bench.dcnet_memory import _measured


def test_everybody_has_as_many_neighbours_as_with_flower() -> None:
    adjacent = graph.neighbours(dcnet_flower.ring())
    assert {len(peers) for peers in adjacent.values()} == {dcnet_flower.NEIGHBOURS}
    assert len(adjacent) == dcnet_flower.MEMBERS


def test_our_round_is_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = dcnet_flower.Own().round()  # raises if its sum is wrong
    assert all(value > 0 for value in cost.values())
    # 312 + 8 shares more of 20 bytes, 104, and now and then a share.
    assert 560 > cost["bytes_up"] > 500
    broken = dcnet_flower.Own()
    monkeypatch.setattr(dcnet_flower, "opening_of", lambda *_: (1, 2, 3))
    with pytest.raises(ValueError, match="our round came to"):
        broken.round()


def test_paths_are_those_of_each_leaf() -> None:
    for count in (1, 2, 5, 8, 13):
        leaves = [fresh("leaf", n, size=32) for n in range(count)]
        assert merkle.paths(leaves) == [merkle.path(leaves, n) for n in range(count)]
    assert merkle.paths([]) == []


async def test_without_flower_the_bench_says_why(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(dcnet_flower.NotInstalled, match=r"flower\.txt"):
        dcnet_flower.environment(tmp_path)
    monkeypatch.setattr(dcnet_flower, "environment", lambda: tmp_path / "no-python")
    assert await dcnet_flower.run(1) == []
    said = capsys.readouterr().err
    assert "no figure beside Flower" in said
    assert "hint" in said


def test_a_wrong_sum_of_flower_counts_for_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    child = tmp_path / "python"
    child.write_text("#!/bin/sh\necho '{\"mean\": [1.4, 1.5, 1.5]}'\n")
    child.chmod(0o755)
    with pytest.raises(ValueError, match="came to"):
        dcnet_flower.flower(child)


async def test_memory_of_a_net_is_measured() -> None:
    assert 20 < await _measured() < 5000
