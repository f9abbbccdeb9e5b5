"""What several test modules of the gateway's core stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.firmware.pipeline_street import Street


@pytest.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    one = Street(tmp_path)
    yield one
    if one.partition is not None:
        await one.partition.close()
