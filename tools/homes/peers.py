"""A party of the test PKI as profiles name it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tools.counterparts.pki import EMP_SERVER_NAME


def peer_entry(name: str, folder: Path, port: int, server_name: str = EMP_SERVER_NAME) -> dict[str, Any]:
    """A supplier of the test PKI as profiles name it."""
    texts = {
        f"{use}_certificate": _first_pem((folder / f"{use}.pem").read_text(encoding="ascii"))
        for use in ("tls", "sig", "enc")
    }
    return {"name": name, "host": "127.0.0.1", "port": port, "server_name": server_name, **texts}


def _first_pem(text: str) -> str:
    end = "-----END CERTIFICATE-----\n"
    return text[: text.index(end) + len(end)]
