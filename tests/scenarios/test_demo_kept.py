"""`--fault NAME --keep`: it lasts until an operator does what the demo and the status say."""

import os
from pathlib import Path

import pytest

from local.demo import desk
from local.demo.faults import PLAYS
from tests.scenarios.conftest import NewWorld
from tests.scenarios.kept import FEED, SEEN, keep, settings_of


@pytest.mark.parametrize("name", PLAYS)
def test_a_fault_lasts_until_it_is_repaired_as_told(
    name: str, new_world: NewWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows in the status and does not pass; what the demo names repairs it, all arrives."""
    monkeypatch.setattr(desk, "DIRECTORY", tmp_path)
    folder = tmp_path / str(os.getpid())
    folder.mkdir()
    kept = keep(name, new_world(FEED, **settings_of(name)).cloud, folder)
    kept.until_it_shows()
    assert SEEN[name] in "".join(kept.findings)
    assert not kept.watch.is_over
    repair = kept.play.repair
    if repair.outside:
        assert kept.ask_outside() == name
    if repair.act is not None:
        path = f"/api/act/{repair.act.path}"
        answer = kept.watch.host.request("POST", path, json=repair.act.given)
        assert answer.ok, answer.text
    sight = kept.until_it_is_over()
    assert sight.report["findings"] == []
    assert all(run["balanced"] for run in sight.runs)
