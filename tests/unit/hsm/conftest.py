"""Fixtures of the security module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.reader import CardThread


@pytest.fixture
def card_thread() -> Iterator[CardThread]:
    """Where cards live that block."""
    thread = CardThread()
    yield thread
    thread.close()
