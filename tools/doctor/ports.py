"""One configured port: is it there, may it be opened, who has it, and what comes from it.

Only ports that the configuration or the user names are opened, and a stick is sent what the gateway would
send it; a head and an RS-485 line are sent nothing.
"""

from __future__ import annotations

import asyncio
import grp
import os
import stat
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from lmn.errors import LmnError, PortClosed
from lmn.serial_port import borrowed, open_port
from lmn.sml.messages import read_frame
from lmn.sml.readings import pushed_list
from lmn.sml.transport import SmlDeframer, TransportStatistics
from lmn.wmbus.driver import WmbusStick, recognise
from lmn.wmbus.kinds import KINDS, Kind
from lmn.wmbus.link import ReceivedFrame, StickStatistics
from tools.doctor.report import Finding, error, note, ok, warning
from tools.listen.finding import BY_ID
from tools.listen.hearing import Hearing


def holders(paths: Iterable[Path], proc: Path = Path("/proc")) -> dict[int, str]:
    """Which other processes have one of these files open: number and name, as far as this user may see it."""
    wanted = {os.path.realpath(path) for path in paths}
    found: dict[int, str] = {}
    for folder in proc.glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            if any(os.readlink(entry) in wanted for entry in (folder / "fd").iterdir()):
                found[int(folder.name)] = (folder / "comm").read_text(encoding="utf-8").strip()
        except OSError:
            continue  # somebody else's process, or one that has ended
    return found


def named(found: dict[int, str]) -> str:
    """Processes in words."""
    return ", ".join(f"{name} ({number})" for number, name in sorted(found.items()))


def look(subject: str, port: str, *, by_id: Path = BY_ID) -> Iterator[Finding]:
    """Look at a port from outside, without opening it; nothing behind an error can be tried."""
    if "://" in port:
        yield note(subject, f"{port} is reached over a network")
        return
    path = Path(port)
    try:
        mode = path.stat().st_mode
    except OSError as fault:
        hint = f"plugged in? ls {by_id}; a virtual one: smgw meter --link {port}"
        yield error(subject, f"{port}: {fault.strerror}", hint)
        return
    wants = os.R_OK if stat.S_ISREG(mode) or stat.S_ISFIFO(mode) else os.R_OK | os.W_OK
    if not os.access(path, wants):
        owner = _group(path)
        yield error(subject, f"{port}: no permission", f"join its group: sudo usermod -aG {owner} $USER")
        return
    if stat.S_ISCHR(mode) and str(path).startswith(("/dev/ttyUSB", "/dev/ttyACM")):
        stable = [str(entry) for entry in _entries(by_id) if entry.resolve() == path.resolve()]
        hint = f"name it {stable[0]}" if stable else "a udev rule can give it a name of its own"
        yield warning(subject, f"{port} changes with the order of plugging", hint)
    if stat.S_ISCHR(mode):
        found = holders([path])
        virtual = os.path.realpath(path).startswith("/dev/pts/")  # who made it has it open as well
        if found and not virtual:
            yield error(subject, f"{port} is in use by {named(found)}", "stop it: two cannot share a line")
            return
        try:
            with borrowed(port):
                pass
        except PortClosed as fault:
            who = f" ({named(found)} has it open)" if found else ""
            yield error(subject, f"{fault}{who}", "stop that program, or name the right port")
            return
    yield ok(subject, f"{port} is there and free")


async def hear_stick(subject: str, port: str, kind: str, mode: str | None, seconds: float) -> list[Finding]:
    """Configure a stick as the gateway would, listen for a while, and say what came."""
    try:
        found = await recognise(port) if kind == "auto" else KINDS[kind]
    except PortClosed as fault:
        return [error(subject, str(fault), "see docs/meters.md 6")]
    if found is None:
        hint = 'wrong device, or it hangs: pull and plug; or set its kind instead of "auto"'
        return [error(subject, f"{port} answers to no kind of stick", hint)]
    statistics, hearing = StickStatistics(), Hearing()

    def take(frame: ReceivedFrame) -> None:
        hearing.take(frame)

    now = asyncio.get_running_loop().time
    service = WmbusStick.of_kind(found, port, take, now, mode=mode, statistics=statistics)
    try:
        async with asyncio.timeout(seconds):
            await service.run()
    except TimeoutError:
        if statistics.link_mode == "":
            hint = "wrong kind? `smgw doctor --port` asks it; or pull and plug"
            return [error(subject, f"{found.title} does not answer", hint)]
    except (LmnError, OSError) as fault:
        return [error(subject, str(fault), "see docs/meters.md 6")]
    return list(_heard(subject, found, statistics, hearing, now()))


def _heard(
    subject: str, kind: Kind, seen: StickStatistics, hearing: Hearing, now_s: float
) -> Iterator[Finding]:
    last = "no byte" if seen.last_byte_at is None else f"last byte {now_s - seen.last_byte_at:.1f} s ago"
    yield ok(
        subject,
        f"{seen.device or kind.title}, mode {seen.link_mode}: {seen.frames} telegrams of "
        f"{len(hearing.meters())} meters, {seen.duplicates} doubled, {last}",
    )
    if not seen.frames:
        hint = "some meters send every few minutes only: --seconds 600; another radio mode; another place"
        yield note(subject, "nothing heard in this time", hint)
    if seen.crc_failures or seen.garbage_bytes:
        text = f"{seen.crc_failures} wrong checksums, {seen.garbage_bytes} bytes that are no message"
        yield warning(subject, text, "a bad cable or hub, a wrong kind, or a second program on the line")
    if seen.truncated:
        yield warning(subject, f"{seen.truncated} telegrams cut off", "this stick is too small for them")
    if hearing.refused:
        codes = ", ".join(f"{code} {count}" for code, count in hearing.refused.items())
        yield note(subject, f"telegrams that cannot be taken apart: {codes}")


async def hear_head(
    subject: str, port: str, baudrate: int, server_id: bytes | None, seconds: float
) -> list[Finding]:
    """Listen to an infrared head; nothing is sent."""
    statistics, names, wrong = TransportStatistics(), set[bytes](), 0
    try:
        line = await partial(open_port, port, baudrate)()
    except PortClosed as fault:
        return [error(subject, str(fault), "see docs/meters.md 6")]
    deframer, now, got = SmlDeframer(statistics), asyncio.get_running_loop().time, 0
    try:
        async with asyncio.timeout(seconds):
            while data := await line.read():
                got += len(data)
                for frame in deframer.receive(data, now()):
                    try:
                        if isinstance(frame, LmnError):
                            raise frame
                        names.add(pushed_list(read_frame(frame.data)).server_id or b"")
                    except LmnError:
                        wrong += 1
    except TimeoutError:
        pass
    finally:
        line.close()
    shown = ", ".join(sorted(name.hex() for name in names)) or "none"
    told = [ok(subject, f"{got} bytes, {wrong} frames refused, meters: {shown}")]
    if not got:
        told = [warning(subject, "no byte in this time", "the head sits off its place, or the rate is wrong")]
    elif not names:
        told.append(warning(subject, "bytes, and no whole SML frame", "wrong rate, or another protocol"))
    elif server_id is not None and server_id not in names:
        told.append(error(subject, f"another meter than {server_id.hex()}", "set server_id to what is shown"))
    return told


def _group(path: Path) -> str:
    try:
        return grp.getgrgid(path.stat().st_gid).gr_name
    except KeyError:
        return str(path.stat().st_gid)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
