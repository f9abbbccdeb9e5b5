"""One test PKI for all flow tests of a process; each test works on a copy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.whole_gateway import Road, Site
from tools.counterparts.pki import make_pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki") / "pki"
    make_pki(folder)
    return folder


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A gateway without a wide area network, its stick plugged in."""
    one = Site(tmp_path / "gateway")
    async with one.stick:
        yield one


@pytest.fixture
async def road(tmp_path: Path, pki: Path) -> AsyncIterator[Road]:
    """A gateway with its administrator; the supplier is not up yet."""
    async with AsyncExitStack() as stack:
        yield await Road.make(tmp_path, pki, stack)
