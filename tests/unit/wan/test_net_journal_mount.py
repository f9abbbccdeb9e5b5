"""A supplier's folder with journals: totals once, damage and older copies named, by the command as well."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.unit.wan.conftest import Pki
from tests.unit.wan.doubles import Events
from tests.unit.wan.test_net_mount import NET, OTHERS, settings
from tools.cli.main import main
from tools.counterparts.emp import TOTALS, Supplier
from tools.counterparts.net_journal import FileMedium, Journal, JournalDamaged
from tools.counterparts.net_mount import open_journal, to_toml
from tools.counterparts.net_totals import KeptTotals


@pytest.fixture
def folder(pki: Pki, tmp_path: Path) -> Path:
    shutil.copytree(pki.folder / "emp", tmp_path / "emp")
    with (tmp_path / "emp" / "emp.toml").open("a", encoding="utf-8") as file:
        file.write(to_toml(settings(1, OTHERS)))
    return tmp_path / "emp"


def total(slot: int, **more: Any) -> dict[str, Any]:
    return {"event": "total", "net": NET, "slot": slot, "lanes": [slot, 0, 4]} | more


def test_a_total_is_kept_and_told_once(tmp_path: Path) -> None:
    path, told = tmp_path / TOTALS, list[Any]()
    totals = KeptTotals(path, told.append)
    totals({"event": "submit"})
    for event in (total(1), total(1), total(2), total(2, net="other")):
        totals(event)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"event": "total", "net": "001')  # killed while it was written
    again = KeptTotals(path, told.append)
    assert again.told(NET) == (2, 2)
    assert again.told("unknown") == (0, -1)
    again(total(2))
    again(total(3))
    assert [json.loads(line)["slot"] for line in path.read_text().splitlines()] == [1, 2, 2, 3]
    assert [event.get("slot") for event in told] == [None, 1, 2, 2, 3]


async def test_a_folder_without_a_journal_gets_one_and_keeps_it(folder: Path) -> None:
    for _ in range(2):
        listening = await Supplier(folder, Events()).start()
        with pytest.raises(Exception, match="in use"):
            await Supplier(folder, Events()).start()
        await listening.close()
    journal = folder / "dcnet" / f"{NET}.journal"
    assert journal.stat().st_mode & 0o777 == 0o600
    kept = Journal(FileMedium(journal), bytes.fromhex(NET))
    assert kept.room("net").get("policy") is not None
    assert kept.room("roster/1").get("nonce") is not None, "what its roster will commit to"


async def test_an_older_journal_than_what_was_told_is_refused(folder: Path) -> None:
    (folder / TOTALS).write_text(json.dumps(total(7)) + "\n", encoding="utf-8")  # of an older version of us
    listening = await Supplier(folder, Events()).start()
    await listening.close()
    with (folder / TOTALS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(total(9)) + "\n")
    with pytest.raises(JournalDamaged, match=r"ends before slot 9, .*hint: never put an older copy"):
        open_journal(folder, NET, Events(), KeptTotals(folder / TOTALS, Events()).told)


def test_the_command_names_a_damaged_journal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "dcnet" / f"{NET}.journal"
    path.parent.mkdir()
    path.write_bytes(b"something else than a journal")
    with pytest.raises(SystemExit) as end:
        main(["emp", "--dir", str(folder)])
    assert end.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "the journal does not begin as one; hint: never put an older copy" in said


def test_what_a_kill_cut_off_is_told(folder: Path) -> None:
    def none(_net: str) -> tuple[int, int]:
        return 0, -1

    open_journal(folder, NET, Events(), none).close()
    with (folder / "dcnet" / f"{NET}.journal").open("ab") as file:
        file.write(b"cut off")
    events = Events()
    open_journal(folder, NET, events, none).close()
    assert [event["dropped_bytes"] for event in events.named("journal")] == [7]
