"""The world of these tests."""

from __future__ import annotations

import pytest

from firmware.store.stores import Stores
from hsm.api import Curve, KeySlot
from tests.support.soft_module import SoftModule
from tests.unit.firmware.life.world import World


@pytest.fixture
async def module():
    one = SoftModule()
    await one.generate_key_pair(KeySlot.WAN_SIG, Curve.BRAINPOOL_P256)
    return one


@pytest.fixture
async def stores(tmp_path, module):
    async with await Stores.open(tmp_path, module) as opened:
        yield opened


@pytest.fixture
def world(stores, module):
    return World(stores, module)
