"""A pcscd of one's own: own socket, own virtual reader, without root, systemd or polkit.

pcscd takes its listening socket from its parent (systemd's socket activation), its readers from a folder, and
clients find it by PCSCLITE_CSOCK_NAME. The distribution's reader file, whose vpcd listens on every interface,
is not used. One path cannot be chosen: pcsc-lite 2 makes its folder below /run and ends if it may not. So a
copy of the program runs, whose folder is its own; the system's pcscd and its files are not touched.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

SOCKET_VARIABLE: Final = "PCSCLITE_CSOCK_NAME"
_STOP_S: Final = 5.0
_START_S: Final = 10.0
_PATH: Final = ":/usr/sbin:/sbin"
_RUN_FOLDER: Final = b"/run/pcscd"
_OWN_FOLDER: Final = b"/dev//fd/7"
"""The daemon's own, open as descriptor 7. As long as the other one: it takes its place in the program."""
# The shell gets the socket as standard input: only its own process id is the one that pcscd wants to see.
_LAUNCH: Final = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@" 3<&0 7<. </dev/null'


class PcscdMissing(Exception):
    """pcscd or the driver of virtual readers is not installed."""


def find_pcscd() -> tuple[Path, Path]:
    """Where pcscd and the vpcd driver are; the driver may lie beside an unpacked daemon.

    Raises:
        PcscdMissing: says what to install.
    """
    found = shutil.which("pcscd", path=os.environ.get("PATH", os.defpath) + _PATH)
    if found is None:
        raise PcscdMissing("pcscd is not installed (Debian: apt install pcscd vsmartcard-vpcd)")
    root = Path(found).resolve().parent.parent
    for folder in (root, Path("/usr")):
        driver = folder / "lib/pcsc/drivers/serial/libifdvpcd.so"
        if driver.exists():
            return Path(found), driver
    raise PcscdMissing("the virtual reader is not installed (Debian: apt install vsmartcard-vpcd)")


class Pcscd:
    """`with Pcscd(folder, device):` runs one until the block ends; `start` and `stop` in between restart it.

    Args:
        folder: for socket, reader file and log; its path is short, as those of Unix sockets must be.
        devices: where the virtual readers' cards are, one or more of: "127.0.0.1:PORT" calls a card that
            listens there and at PORT + 1; "/dev/null:PORT" listens there, on every interface, for a card.
    """

    def __init__(self, folder: Path, *devices: str) -> None:
        found, driver = find_pcscd()
        self._folder = folder = folder.resolve()
        self.socket = folder / "pcscd.comm"
        """What PCSCLITE_CSOCK_NAME is to say."""
        self._process: subprocess.Popen[bytes] | None = None
        readers = folder / "readers"
        readers.mkdir(parents=True, exist_ok=True)
        self._program = folder / "pcscd"
        self._program.write_bytes(found.read_bytes().replace(_RUN_FOLDER, _OWN_FOLDER))
        self._program.chmod(0o700)
        blocks = []
        for device in devices:
            port = int(device.rpartition(":")[2])
            name = f"smgw {port}" if len(devices) > 1 else "smgw"
            blocks.append(
                f'FRIENDLYNAME "{name}"\nDEVICENAME {device}\nLIBPATH {driver}\nCHANNELID 0x{port:X}\n'
            )
        (readers / "vpcd").write_text("\n".join(blocks), encoding="ascii")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """True while the daemon lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; clients may connect at once, its socket is there before it is."""
        self.socket.unlink(missing_ok=True)
        arguments = [str(self._program), "--foreground", "--error", "-c", str(self._folder / "readers")]
        usage = subprocess.run([self._program, "--help"], capture_output=True, check=False, text=True)
        if "--disable-polkit" in usage.stdout:  # pcsc-lite 2
            arguments.append("--disable-polkit")
        with socket.socket(socket.AF_UNIX) as listening, self.log.open("ab") as log:
            listening.bind(str(self.socket))
            listening.listen(16)
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _LAUNCH, *arguments],
                cwd=self._folder,
                stdin=listening.fileno(),
                stdout=log,
                stderr=log,
            )

    def stop(self, *, kill: bool = False) -> None:
        """Stop it in order, or kill it; stopping twice is no error."""
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def log(self) -> Path:
        """What the daemon says."""
        return self._folder / "pcscd.log"


def free_pair() -> int:
    """A port that is free, with the next one free as well: vpcd has two slots.

    Raises:
        OSError: none found.
    """
    give_up = time.monotonic() + _START_S
    while time.monotonic() < give_up:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise OSError("no two free ports in a row")
