"""The Java Card applet as a card: built with Maven when its sources changed, run in jCardSim on loopback.

    build = ensure_built()
    with AppletCard(build, folder, pin=b"...") as card: ...  # card.port speaks the vpcd protocol

Output lives under `.tools/applet` of the checkout (or $SMGW_TOOLS/applet), never in git. Where Maven gets its
artefacts from is the machine's own set-up; nothing here says.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

_ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = _ROOT / "hsm" / "applet"
PROBE_S: Final = 120.0
"""How long Maven may take to fetch the one artefact that nothing else has."""
_BUILD_S: Final = 900.0
_START_S: Final = 60.0
_STOP_S: Final = 10.0
_JCARDSIM: Final = "com.klinec:jcardsim:3.0.6.0"
# Maven checks what it downloads against the registry alone; this is the file that was looked at.
_JCARDSIM_SHA256: Final = "db6de7ffde71651c45d00df7e160771685cec3e14e444bf36b796658d289942f"


class AppletUnavailable(Exception):
    """No JDK, no Maven, or Maven does not answer: no applet can be built here, which is no fault of it."""


class AppletBroken(Exception):
    """The build or the start failed although the tools are there."""


@dataclass(frozen=True, slots=True)
class Build:
    """A finished build: what to start, and with which Java."""

    java: str
    class_path: str


def output_folder() -> Path:
    """Where build output goes."""
    return Path(os.environ.get("SMGW_TOOLS") or _ROOT / ".tools") / "applet"


def ensure_built(*, probe_s: float = PROBE_S) -> Build:
    """Return the build of the sources as they are, making it if there is none; safe to call in parallel.

    Raises:
        AppletUnavailable: no JDK or Maven, or Maven did not deliver jCardSim within `probe_s`.
        AppletBroken: compiling or the build's own tests failed, or jCardSim is not the expected file.
    """
    java, javac, maven = (shutil.which(name) for name in ("java", "javac", "mvn"))
    output = output_folder()
    build = Build(java or "", os.pathsep.join((str(output / "hsm-applet.jar"), str(output / "lib" / "*"))))
    stamp, wanted = output / "stamp", _fingerprint()
    if java is None:
        raise AppletUnavailable("no Java")
    output.mkdir(parents=True, exist_ok=True)
    with _lock(output / "lock"):
        if _text(stamp) != wanted:
            if javac is None or maven is None:
                raise AppletUnavailable("no JDK" if javac is None else "no Maven")
            _probe(maven, output, probe_s)
            _build(maven, output)
            stamp.write_text(wanted, encoding="ascii")
    return build


def _fingerprint() -> str:
    """Of everything that goes into the build."""
    digest = hashlib.sha256()
    for path in sorted((*SOURCES.glob("src/**/*.java"), SOURCES / "pom.xml")):
        digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _text(path: Path) -> str | None:
    return path.read_text(encoding="ascii") if path.exists() else None


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _maven(maven: str, *arguments: str, limit_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [maven, "-B", "-ntp", "-q", *arguments],
        cwd=SOURCES,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_s,
        check=False,
    )


def _probe(maven: str, output: Path, limit_s: float) -> None:
    """Fetch jCardSim, once, within a limit: whether Maven answers is decided here and nowhere else."""
    if _text(output / "probed") == _JCARDSIM:
        return
    try:
        run = _maven(
            maven, "dependency:get", f"-Dartifact={_JCARDSIM}", "-Dtransitive=false", limit_s=limit_s
        )
    except subprocess.TimeoutExpired:
        raise AppletUnavailable(f"Maven did not deliver {_JCARDSIM} within {limit_s:.0f} s") from None
    if run.returncode:
        raise AppletUnavailable(f"Maven does not deliver {_JCARDSIM}: {_tail(run.stdout)}")
    (output / "probed").write_text(_JCARDSIM, encoding="ascii")


def _build(maven: str, output: Path) -> None:
    try:
        run = _maven(maven, f"-Doutput={output}", "package", limit_s=_BUILD_S)
    except subprocess.TimeoutExpired:
        raise AppletBroken(f"the build did not end within {_BUILD_S:.0f} s") from None
    if run.returncode:
        raise AppletBroken(f"the applet's build failed:\n{_tail(run.stdout)}")
    for jar in (output / "lib").glob("jcardsim-*.jar"):
        if hashlib.sha256(jar.read_bytes()).hexdigest() != _JCARDSIM_SHA256:
            raise AppletBroken(f"{jar.name} is not the file this project knows")


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-30:])


class AppletCard:
    """One running card; a context manager. The process ends with its standard input, so never outlives ours.

    Args:
        build: what to run.
        folder: the card lives here; kept between runs, so that a card can be started again.
        pin: PACE-PIN of a card that is made if the folder has none.
        reader_port: port of a reader on loopback that waits for cards (vpcd, dial mode); None makes the card
            listen itself.
        listen_port: port to listen on, 0 for any.

    Attributes:
        port: where the card listens, or the reader it has connected to.
    """

    def __init__(
        self, build: Build, folder: Path, *, pin: bytes, reader_port: int | None = None, listen_port: int = 0
    ) -> None:
        self._build, self._folder, self._pin = build, folder, pin
        self._how = ("--listen", listen_port) if reader_port is None else ("--connect", reader_port)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> None:
        """Start the card and wait until it can be reached.

        Raises:
            AppletBroken: it does not start; the text is the host's.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pin_file = self._folder / "pin"
        if not (self._folder / "card").exists():
            pin_file.unlink(missing_ok=True)
            pin_file.touch(mode=0o600)
            pin_file.write_bytes(self._pin)
        try:
            self._launch(pin_file)
        finally:
            pin_file.unlink(missing_ok=True)

    def _launch(self, pin_file: Path) -> None:
        errors = self._folder / "errors.log"
        with errors.open("wb") as sink:
            self._process = subprocess.Popen(
                [
                    self._build.java,
                    "-XX:+UseSerialGC",
                    "-XX:TieredStopAtLevel=1",
                    "-Xmx128m",
                    "-cp",
                    self._build.class_path,
                    "smgw.host.Host",
                    *("--state", str(self._folder / "card"), "--pin-file", str(pin_file)),
                    *(self._how[0], str(self._how[1])),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
            )
        assert self._process.stdout is not None
        words = _first_line(self._process.stdout, _START_S).split()
        if len(words) != 2 or words[0] not in ("listening", "connected"):
            self.stop()
            raise AppletBroken(f"the applet did not start: {_tail(errors.read_text(encoding='utf-8'))}")
        self.port = int(words[1])

    @property
    def pid(self) -> int:
        """Process id of the running card."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End the card in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self.stop()

    def stop(self) -> None:
        """End the card; stopping twice is no error."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _first_line(stream: IO[bytes], limit_s: float) -> str:
    """The first line of a pipe; empty if it ends or says nothing in time."""
    ready, _, _ = select.select([stream], [], [], limit_s)
    return stream.readline().decode("ascii", "replace") if ready else ""


def main() -> int:
    """Build; 0 built, 3 not possible here, 1 failed. What `./smgw test` calls before the tests."""
    try:
        ensure_built()
    except AppletUnavailable as error:
        print(f"applet: not built: {error}", file=sys.stderr)
        return 3
    except AppletBroken as error:
        print(f"applet: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
