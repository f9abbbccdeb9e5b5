"""Further branches of a test SM-PKI: sub-CAs under the same root, each with an administrator of its own.

A branch is a folder like that of `tools.counterparts.pki.make_pki`, but without the root's key. What checks
certificates reads sub-CAs and revocation lists from files that may hold several: `introduce` lets the
participants of all branches know one another.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from tools.counterparts.keys import new_private_key, save_private_key
from tools.counterparts.pki import Issuer, issue, make_participant, subject_name, write_crl
from wan.pki.profile import ROOT_NAME, SUB_CA, Role

_OWN = "own-ca.pem"


def make_branch(root: Path, folder: Path, *, name: str, gwa: str, gwa_server_name: str) -> None:
    """Make a sub-CA under the root of `root`, and an administrator in DIR/gwa.

    Args:
        root: a PKI made by `make_pki`.
        folder: new or empty.
        name: the sub-CA's common name.
        gwa: the administrator's name.
        gwa_server_name: as its TLS certificate has it.

    Raises:
        FileExistsError: there is a branch already; keys are never overwritten.
    """
    if (folder / "sub-ca.key").exists():
        raise FileExistsError(f"{folder} holds a branch already")
    folder.mkdir(parents=True, exist_ok=True)
    top = Issuer.load(root / "root.pem", root / "root.key")
    key = new_private_key(SUB_CA.curve)
    certificate = issue(subject_name(name, ROOT_NAME, entity=False), key.public_key(), SUB_CA, top)
    save_private_key(folder / "sub-ca.key", key)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    for file in ("sub-ca.pem", _OWN):
        (folder / file).write_bytes(pem)
    shutil.copyfile(root / "root.pem", folder / "root.pem")
    make_participant(folder, folder / "gwa", Role.GWA, gwa, server_name=gwa_server_name)


def introduce(root: Path, branches: Sequence[Path]) -> None:
    """Write every sub-CA and every revocation list into each branch, each branch's own sub-CA first."""
    lists = write_crl(Issuer.load(root / "root.pem", root / "root.key"))
    own = {branch: (branch / _OWN).read_bytes() for branch in branches}
    for branch in branches:
        lists += write_crl(Issuer.load(branch / _OWN, branch / "sub-ca.key"))
    for branch in branches:
        others = b"".join(pem for other, pem in own.items() if other != branch)
        for folder in (branch, *_participants(branch)):
            (folder / "sub-ca.pem").write_bytes(own[branch] + others)
            (folder / "crls.pem").write_bytes(lists)


def _participants(branch: Path) -> Iterable[Path]:
    return [path.parent for path in branch.glob("*/sig.pem")]
