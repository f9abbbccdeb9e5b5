"""Asks a running gateway through its control socket; shared by the words that do."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any, Final

from firmware import config
from firmware.errors import ConfigurationRefused
from firmware.life.decommission import MARKER

SOCKET: Final = "control.sock"
TIMEOUT_S: Final = 120.0
"""A self-test of a large store takes its time."""
_ANSWER_BYTES: Final = 16 << 20


class NotReached(Exception):
    """The gateway does not answer, or refuses; the text says why and what helps."""


def state_folder(configuration: Path) -> Path:
    """Return the folder of a gateway's state; NotReached names every fault of the configuration."""
    try:
        return config.load(configuration).gateway.state
    except ConfigurationRefused as refused:
        raise NotReached(str(refused)) from refused


def ask(configuration: Path, **request: Any) -> dict[str, Any]:
    """Send one request and return the answer.

    Raises:
        NotReached: the gateway does not run, is not ours, or refuses.
    """
    state = state_folder(configuration)
    try:
        folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise NotReached(f"{state}: {error.strerror}; has this gateway ever run?") from error
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(TIMEOUT_S)
            # By the folder's descriptor: the address of a socket has room for 107 bytes only.
            line.connect(f"/proc/self/fd/{folder}/{SOCKET}")
            line.sendall(json.dumps(request).encode() + b"\n")
            with line.makefile("rb") as answers:
                text = answers.readline(_ANSWER_BYTES)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        if (state / MARKER).exists():
            what = f"the gateway of {state} was decommissioned; `smgw init` makes another one"
        else:
            what = f"no gateway runs in {state}; `smgw run -c {configuration}` starts it"
        raise NotReached(what) from error
    except PermissionError as error:
        raise NotReached(f"{state}: only the gateway's own user may ask it") from error
    except OSError as error:
        raise NotReached(f"{state}: {error.strerror or type(error).__name__}") from error
    finally:
        os.close(folder)
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise NotReached("the gateway stopped before it answered") from error
    if "error" in answer:
        raise NotReached(f"{answer['error']['code']}: {answer['error']['message']}")
    return dict(answer)
