"""Partition files as older firmware wrote them, made from the written format alone, without our code.

One function a version. A new schema version adds its predecessor here, and never changes what is here.
"""

from __future__ import annotations

import hmac
import os
import sqlite3
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from hsm.api import KeySlot

V1 = """
CREATE TABLE header (id INTEGER PRIMARY KEY CHECK (id = 1), curve TEXT NOT NULL, store BLOB NOT NULL,
                     ephemeral BLOB NOT NULL, wrapped BLOB NOT NULL) STRICT;
CREATE TABLE opening (number INTEGER PRIMARY KEY, salt BLOB NOT NULL) STRICT;
CREATE TABLE kind (id INTEGER PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
CREATE TABLE item (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, label BLOB NOT NULL, sealed BLOB NOT NULL,
                   UNIQUE (kind, label)) STRICT;
CREATE TABLE record (kind INTEGER NOT NULL, number INTEGER NOT NULL, sealed BLOB NOT NULL,
                     PRIMARY KEY (kind, number)) STRICT, WITHOUT ROWID;
PRAGMA application_id = 0x534D4757;
PRAGMA user_version = 1;
"""


def counted(part: bytes) -> bytes:
    return struct.pack(">H", len(part)) + part


async def version_1(path, name, module, lists, items):
    """Make a file of schema 1: `lists` is {kind: [plaintext]}, `items` {kind: {key: plaintext}}."""
    store = await module.public_key(KeySlot.STORE)
    key, salt = os.urandom(32), os.urandom(32)
    ephemeral = await module.generate_ephemeral(store.curve)
    secret = await module.agree_ephemeral(ephemeral, store.point)
    info = b"smgw store wrap 1" + b"".join(
        counted(part)
        for part in (name.encode(), store.curve.value.encode(), store.point, ephemeral.public.point)
    )
    wrapped = aes_key_wrap(X963KDF(SHA256(), 32, info).derive(secret), key)
    cipher = AESGCM(HKDF(SHA256(), 32, salt, b"smgw store record 1").derive(key))
    label_key = HKDF(SHA256(), 32, bytes(32), b"smgw store label 1").derive(key)
    seals = 0

    def sealed(place, plaintext):
        nonlocal seals
        seals += 1
        nonce = (1).to_bytes(4, "big") + seals.to_bytes(8, "big")
        return nonce + cipher.encrypt(nonce, plaintext, place)

    partition = counted(name.encode())
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(V1)
        header = (1, store.curve.value, store.point, ephemeral.public.point, wrapped)
        db.execute("INSERT INTO header VALUES (?, ?, ?, ?, ?)", header)
        db.execute("INSERT INTO opening VALUES (1, ?)", (salt,))
        for number, kind in enumerate([*lists, *items], 1):
            row = sealed(partition + b"N" + number.to_bytes(8, "big"), bytes(8) + kind.encode())
            db.execute("INSERT INTO kind VALUES (?, ?)", (number, row))
            prefix = partition + b"P" + counted(kind.encode())
            for position, plaintext in enumerate(lists.get(kind, ()), 1):
                row = sealed(prefix + b"R" + position.to_bytes(8, "big"), plaintext)
                db.execute("INSERT INTO record VALUES (?, ?, ?)", (number, position, row))
            for word, plaintext in items.get(kind, {}).items():
                label = hmac.digest(label_key, prefix + b"K" + word.encode(), "sha256")[:16]
                row = sealed(prefix + b"I" + label, counted(word.encode()) + plaintext)
                statement = "INSERT INTO item (kind, label, sealed) VALUES (?, ?, ?)"
                db.execute(statement, (number, label, row))
    db.close()


V2 = """
ALTER TABLE header RENAME TO header_1;
CREATE TABLE header (slot INTEGER PRIMARY KEY, curve TEXT NOT NULL, store BLOB NOT NULL,
                     ephemeral BLOB NOT NULL, wrapped BLOB NOT NULL) STRICT;
INSERT INTO header SELECT 8, curve, store, ephemeral, wrapped FROM header_1;
DROP TABLE header_1;
CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), sealed BLOB NOT NULL) STRICT;
PRAGMA user_version = 2;
"""


async def version_2(path, name, module, lists, items):
    """Make a file of schema 2, one of epoch 0 whose tally was never written."""
    await version_1(path, name, module, lists, items)
    with sqlite3.connect(path) as db:
        db.executescript(V2)
    db.close()


VERSIONS = {1: version_1, 2: version_2}
