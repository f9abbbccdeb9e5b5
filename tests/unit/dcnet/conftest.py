"""What several test modules of DC-nets stand on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from firmware.enforcement.dcnet.primitives import range_proof, verifiable
from tests.unit.dcnet.conduct_parties import GATEWAY, OTHER, Member, Parties, member
from tests.unit.dcnet.support import policy
from tools.counterparts.pki import make_pki


@pytest.fixture
def unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commitments and sums are real, the proofs are left out: for what is not about them, and quick."""

    def shown(_binding: Any, values: Any, blindings: Any, _masked: Any, _secret: bytes) -> Any:
        pairs = zip(values, blindings, strict=True)
        return tuple(range_proof.commit(value, blinding) for value, blinding in pairs), b""

    monkeypatch.setattr(verifiable, "shown", shown)
    monkeypatch.setattr(verifiable, "check", lambda *_: None)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Member, Member]:
    folder = tmp_path_factory.mktemp("conduct") / "pki"
    make_pki(folder)
    return folder, asyncio.run(member(folder, GATEWAY)), asyncio.run(member(folder, OTHER))


@pytest.fixture
def parties(keys: tuple[Path, Member, Member]) -> Parties:
    folder, one, two = keys
    return Parties(folder, policy(calendar="signed"), one, two)
