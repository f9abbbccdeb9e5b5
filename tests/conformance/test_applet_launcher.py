"""When the applet counts as not available, and when as broken: judged with a Maven of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.counterparts import applet_card
from tools.counterparts.applet_card import AppletBroken, AppletUnavailable, ensure_built


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where programs are found; build output goes elsewhere below tmp_path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("SMGW_TOOLS", str(tmp_path / "tools"))
    return folder


def program(folder: Path, name: str, text: str = "exit 0") -> None:
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n{text}\n', encoding="ascii")
    path.chmod(0o755)


def calls(folder: Path) -> list[str]:
    log = folder / "calls"
    return log.read_text(encoding="ascii").splitlines() if log.exists() else []


@pytest.mark.parametrize("there", [(), ("java",), ("java", "javac"), ("java", "mvn")])
def test_without_a_jdk_or_maven_it_is_not_available(bin_folder: Path, there: tuple[str, ...]) -> None:
    for name in there:
        program(bin_folder, name)
    with pytest.raises(AppletUnavailable):
        ensure_built()
    assert calls(bin_folder) == []


@pytest.mark.parametrize("answer", ["echo no such artefact; exit 1", "exec /bin/sleep 30"])
def test_a_maven_that_does_not_answer_is_asked_once(bin_folder: Path, answer: str) -> None:
    for name in ("java", "javac"):
        program(bin_folder, name)
    program(bin_folder, "mvn", answer)
    with pytest.raises(AppletUnavailable, match="Maven"):
        ensure_built(probe_s=1.0)
    assert len(calls(bin_folder)) == 1


def test_a_build_that_fails_is_a_failure(bin_folder: Path) -> None:
    for name in ("java", "javac"):
        program(bin_folder, name)
    program(bin_folder, "mvn", 'case "$*" in *package*) echo "cannot find symbol"; exit 1;; esac')
    for _ in range(2):
        with pytest.raises(AppletBroken, match="cannot find symbol"):
            ensure_built()
    probes = [call for call in calls(bin_folder) if "dependency:get" in call]
    assert len(probes) == 1


def test_another_jcardsim_is_a_failure(bin_folder: Path, tmp_path: Path) -> None:
    for name in ("java", "javac"):
        program(bin_folder, name)
    library = tmp_path / "tools" / "applet" / "lib"
    library.mkdir(parents=True)
    (library / "jcardsim-3.0.6.0.jar").write_bytes(b"something else")
    program(bin_folder, "mvn")
    with pytest.raises(AppletBroken, match="not the file"):
        ensure_built()


def test_a_finished_build_is_not_made_again(
    bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("java", "javac", "mvn"):
        program(bin_folder, name)
    build = ensure_built()
    assert build.class_path.startswith(str(tmp_path / "tools" / "applet" / "hsm-applet.jar") + os.pathsep)
    made = len(calls(bin_folder))
    assert ensure_built() == build
    (bin_folder / "mvn").unlink()  # nor is Maven needed any more
    assert ensure_built() == build
    assert len(calls(bin_folder)) == made
    monkeypatch.setattr(applet_card, "_JCARDSIM", "another:version:1")
    program(bin_folder, "mvn")
    assert ensure_built() == build


def test_the_sources_stay_out_of_git_and_wheel() -> None:
    root = applet_card.SOURCES.parents[1]
    assert "target/" in (applet_card.SOURCES / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert ".tools/" in (root / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert 'exclude = ["hsm/applet"]' in (root / "pyproject.toml").read_text(encoding="utf-8")


def test_no_file_of_the_build_names_a_registry() -> None:
    for path in (applet_card.SOURCES / "pom.xml", Path(applet_card.__file__)):
        text = path.read_text(encoding="utf-8")
        assert "<repositor" not in text
        assert [word for word in text.split() if "://" in word and "maven.apache.org/POM" not in word] in (
            [],
            ["xmlns"],
        )
