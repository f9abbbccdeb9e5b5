"""Stores made by somebody who has the disk, or a backup, and not the module: none of them is taken.

The forger knows what lies in every file: the module's public key STORE. He wraps a key of his own against it
and seals what he likes. Rule: protection profile PP-0073, FDP_SDI.2, FMT_MOF.1.
"""

from __future__ import annotations

import hashlib
import io
import sqlite3
import tarfile
from datetime import UTC, datetime

import msgspec
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from firmware.clock.clock import AdjustableClock
from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.store import seal
from firmware.store.exchange import PARTITIONS, path_of
from firmware.store.operations import Epoch
from firmware.store.partition import Partition
from firmware.store.schema import SCHEMA_VERSION
from firmware.store.stores import Stores
from firmware.transfer import keep_as_they_are, restore
from hsm.api import Curve, KeySlot, PublicKey
from tests.support.soft_module import SoftModule
from tests.unit.firmware.older_files import counted, version_2

GATEWAY = "esgw0100000001"


class Forger(SoftModule):
    """Knows another module's public key and no private one."""

    def __init__(self, store: PublicKey) -> None:
        super().__init__()
        self._store = store

    async def public_key(self, slot: KeySlot) -> PublicKey:
        return self._store

    async def agree(self, slot: KeySlot, peer_point: bytes) -> bytes:
        return bytes(32)  # a guess: he has nothing better


def store_key_in(path) -> PublicKey:
    with sqlite3.connect(path) as db:
        curve, point = db.execute("SELECT curve, store FROM header").fetchone()
    db.close()
    return PublicKey(seal.curve_of(curve), point)


async def anybodys_wrap(module, partition, key, slot=KeySlot.STORE):
    """What a forger can make at best: ECKA-EG against the public key, as older firmware did too."""
    store = await module.public_key(slot)
    ephemeral = await module.generate_ephemeral(store.curve)
    secret = await module.agree_ephemeral(ephemeral, store.point)
    info = b"smgw store wrap 1" + b"".join(
        counted(part)
        for part in (partition.encode(), store.curve.value.encode(), store.point, ephemeral.public.point)
    )
    wrapped = aes_key_wrap(X963KDF(SHA256(), 32, info).derive(secret), key)
    return seal.WrappedKey(store, ephemeral.public.point, wrapped, slot)


@pytest.fixture
async def module(tmp_path):
    own = SoftModule()
    async with await Stores.open(tmp_path / "state", own) as stores:
        await stores.system.put("profiles", "active", b"the administrator's")
    return own


async def forge(folder, store: PublicKey, epoch: int, names=PARTITIONS) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        path_of(folder, name).unlink(missing_ok=True)
        async with await Partition.open(path_of(folder, name), name, Forger(store)) as partition:
            await partition.put("profiles", "active", b"the forger's")
            await partition.put("stores", "complete", b"")
            await partition.commit((Epoch(epoch),))


@pytest.mark.parametrize("old_form", [False, True])
async def test_a_store_made_with_the_public_key_alone_is_refused(tmp_path, monkeypatch, module, old_form):
    state = tmp_path / "state"
    store = store_key_in(state / "system.db")
    with monkeypatch.context() as patched:
        if old_form:
            patched.setattr(seal, "wrap_partition_key", anybodys_wrap)
        await forge(state, store, module.count, ["system"])
    with pytest.raises((StoreUnavailable, StoreCorrupt), match="partition system"):
        await Stores.open(state, module)


async def test_a_backup_made_with_the_public_key_alone_is_refused(tmp_path, monkeypatch, module):
    store = store_key_in(tmp_path / "state" / "system.db")
    with monkeypatch.context() as patched:
        patched.setattr(seal, "wrap_partition_key", anybodys_wrap)
        await forge(tmp_path / "forged", store, 7)
    files = {name: path_of(tmp_path / "forged", name).read_bytes() for name in PARTITIONS}
    members = {
        name: {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    }
    manifest = msgspec.json.encode(
        {"format": 1, "gateway": GATEWAY, "schema": SCHEMA_VERSION, "partitions": members}
    )
    with tarfile.open(tmp_path / "backup", "w") as archive:
        for name, data in {"smgw-backup.json": manifest, **{f"{n}.db": d for n, d in files.items()}}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    clock = AdjustableClock(datetime(2026, 1, 1, tzinfo=UTC))
    arguments = (tmp_path / "state", module, clock, GATEWAY, tmp_path / "backup", lambda *_: None)
    with pytest.raises(StoreUnavailable, match="anybody can do"):
        await restore(*arguments, replace=True)
    async with await Stores.open(tmp_path / "state", module) as stores:
        assert await stores.system.get("profiles", "active") == b"the administrator's"


async def test_stores_of_the_older_form_are_taken_by_hand_and_wrapped_anew(tmp_path):
    module, state = SoftModule(), tmp_path / "state"
    await module.generate_key_pair(KeySlot.STORE, Curve.BRAINPOOL_P256)
    state.mkdir()
    for name in PARTITIONS:
        await version_2(state / f"{name}.db", name, module, {}, {"stores": {"complete": b""}})
    with pytest.raises(StoreUnavailable, match="keep-as-they-are"):
        await Stores.open(state, module)
    await keep_as_they_are(state, module, AdjustableClock(datetime(2026, 1, 1, tzinfo=UTC)))
    async with await Stores.open(state, module) as stores:
        assert stores.faults() == []


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE TABLE hoard (x); CREATE TRIGGER t AFTER DELETE ON item BEGIN INSERT INTO hoard SELECT 1; END",
        "CREATE TRIGGER never BEFORE DELETE ON item BEGIN SELECT RAISE(IGNORE); END",
        "CREATE VIEW other AS SELECT sealed FROM item",
        "CREATE INDEX slow ON item (sealed)",
        "ALTER TABLE header ADD COLUMN more BLOB",
    ],
)
async def test_what_somebody_planted_in_a_file_is_noticed(tmp_path, module, planted):
    """FDP_RIP.2: a trigger would keep what a wiping and a change of keys delete."""
    state = tmp_path / "state"
    with sqlite3.connect(state / "consumer.db") as db:
        db.executescript(planted)
    db.close()
    with pytest.raises(StoreCorrupt, match=r"consumer: .*other tables or triggers than ours"):
        await Stores.open(state, module)


@pytest.mark.parametrize(
    "moved",
    [
        "UPDATE item SET label = randomblob(16) WHERE kind = {items}",
        "UPDATE item SET kind = {lists} WHERE kind = {items}",
        "UPDATE record SET kind = {items}, number = 1 WHERE kind = {lists} AND number = 2",
        "UPDATE record SET number = 0 WHERE kind = {lists} AND number = 2",
        "UPDATE record SET number = 3 WHERE kind = {lists} AND number = 1",
    ],
    ids=[
        "another key",
        "another kind",
        "the end of another list",
        "before the oldest",
        "behind the newest",
    ],
)
async def test_fdp_sdi_2_a_row_moved_to_where_nobody_looks_for_it_is_noticed(tmp_path, module, moved):
    """Its tag is the same, so the tally is; a counter against replays or a receipt would be gone unseen."""
    state = tmp_path / "state"
    async with await Stores.open(state, module) as stores:
        await stores.consumer.put("counter", "meter", b"last accepted")
        await stores.consumer.append("reading", b"one")
        await stores.consumer.append("reading", b"two")
    with sqlite3.connect(state / "consumer.db") as db:
        (items,) = db.execute("SELECT DISTINCT kind FROM item").fetchone()
        (lists,) = db.execute("SELECT DISTINCT kind FROM record").fetchone()
        changed = db.execute(moved.format(items=items, lists=lists)).rowcount
    db.close()
    assert changed == 1
    async with await Stores.open(state, module) as stores:
        assert [partition.name for partition in stores.partitions if partition.fault] == ["consumer"]
        with pytest.raises(StoreCorrupt):
            await stores.consumer.put("counter", "meter", b"again")
