"""The machine: interpreter, libcrypto and its curves, clock, card daemon, serial devices. Opens no device."""

from __future__ import annotations

import ctypes
import grp
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lmn.wmbus.kinds import candidates
from tools.doctor.report import Finding, error, note, ok, warning
from tools.listen.finding import BY_ID, serial_devices

OLDEST_PYTHON: Final = (3, 11)
OLDEST_CLOCK: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""Before this the software did not exist."""
CURVES: Final = ("brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1", "prime256v1", "secp384r1")
SERIAL_GROUP: Final = "dialout"
_LIBCRYPTO: Final = ("libcrypto.so.3", "libcrypto.so.4")
_PCSCD: Final = Path("/run/pcscd/pcscd.comm")


def examine() -> Iterator[Finding]:
    """Look at everything that no configuration says anything of."""
    yield python()
    yield from libcrypto()
    yield clock(datetime.now(UTC), synchronised())
    yield group()
    yield from serial()
    yield pcscd()


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Whether this interpreter is new enough."""
    text = "Python " + ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        return error("python", text, "3.11 or newer is needed; SMGW_PYTHON names another interpreter")
    return ok("python", f"{text}, {'64' if sys.maxsize > 2**32 else '32'} bits")


def libcrypto(load: Callable[[str], ctypes.CDLL] = ctypes.CDLL) -> Iterator[Finding]:
    """Whether the system's OpenSSL is there and knows the curves of the SM-PKI."""
    named = os.environ.get("SMGW_OPENSSL", "").split(":")[0]
    for name in (named,) if named else _LIBCRYPTO:
        try:
            library = load(name)
        except OSError:
            continue
        break
    else:
        yield error("openssl", "no libcrypto 3 or 4", "Debian: apt install libssl3 (or libssl3t64)")
        return
    library.OpenSSL_version.restype = ctypes.c_char_p
    version = library.OpenSSL_version(0).decode("ascii", "replace")
    library.EC_GROUP_new_by_curve_name.restype = ctypes.c_void_p
    library.EC_GROUP_free.argtypes = (ctypes.c_void_p,)
    missing = []
    for curve in CURVES:
        made = library.EC_GROUP_new_by_curve_name(library.OBJ_sn2nid(curve.encode()))
        if made:
            library.EC_GROUP_free(made)
        else:
            missing.append(curve)
    if missing:
        hint = "this build leaves them out; SMGW_OPENSSL=libcrypto:libssl names another one"
        yield error("openssl", f"{version} lacks {', '.join(missing)}", hint)
    else:
        yield ok("openssl", f"{version}, all {len(CURVES)} curves")


def synchronised() -> bool | None:
    """Whether the system says that its clock is disciplined; None where it does not say."""
    program = shutil.which("timedatectl")
    if program is None:
        return None
    command = [program, "show", "--property=NTPSynchronized", "--value"]
    try:
        said = subprocess.run(command, capture_output=True, timeout=5, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {b"yes": True, b"no": False}.get(said)


def clock(now_utc: datetime, disciplined: bool | None) -> Finding:
    """Whether the clock can be right."""
    text = f"{now_utc:%Y-%m-%d %H:%M:%S} UTC"
    if now_utc < OLDEST_CLOCK:
        return error("clock", f"{text} is in the past", "set it: certificates and readings carry the time")
    if disciplined is False:
        return warning(
            "clock", f"{text}, not synchronised", "timedatectl set-ntp true; readings carry the time"
        )
    return ok("clock", text + (", synchronised" if disciplined else ""))


def group(groups: Callable[[], list[int]] = os.getgroups, uid: Callable[[], int] = os.geteuid) -> Finding:
    """Whether this user may open serial devices."""
    try:
        number = grp.getgrnam(SERIAL_GROUP).gr_gid
    except KeyError:
        return note("user", f"this system has no group {SERIAL_GROUP}")
    if uid() == 0:
        return note("user", "root may open every device", "run the gateway as a user of its own")
    if number in groups():
        return ok("user", f"in group {SERIAL_GROUP}")
    hint = f"sudo usermod -aG {SERIAL_GROUP} $USER, then log in again"
    return note("user", f"not in group {SERIAL_GROUP}: serial devices may be closed to it", hint)


def serial(
    listed: Callable[[], Mapping[str, tuple[int, int] | None]] = serial_devices,
    processes: Callable[[], frozenset[str]] | None = None,
) -> Iterator[Finding]:
    """Which serial devices there are, and whether somebody likes to open them. None is opened."""
    devices = listed()
    sticks = candidates(devices)
    for name in sorted(devices):
        usb = devices[name]
        number = "" if usb is None else f", USB {usb[0]:04x}:{usb[1]:04x}"
        may_be = "may be a stick" if name in sticks else "left alone by name or USB number"
        yield note("serial", f"{BY_ID / name}{number}: {may_be}")
    if not devices:
        yield note(
            "serial", f"nothing below {BY_ID}", "lsusb shows what is plugged in; no stick is needed to try"
        )
    if devices and "ModemManager" in (processes or _processes)():
        hint = 'ENV{ID_MM_DEVICE_IGNORE}="1" in the udev rule of docs/meters.md, or stop it'
        yield warning("serial", "ModemManager runs: it opens and asks serial devices", hint)


def pcscd() -> Finding:
    """Whether a card daemon answers; only a configuration says whether one is needed."""
    if _PCSCD.exists():
        return ok("pcscd", "its socket is there")
    return note("pcscd", "not running", "only a card in a reader needs it: apt install pcscd")


def _processes() -> frozenset[str]:
    names = set()
    for entry in Path("/proc").glob("[0-9]*/comm"):
        try:
            names.add(entry.read_text(encoding="utf-8").strip())
        except OSError:
            continue  # it ended meanwhile
    return frozenset(names)
