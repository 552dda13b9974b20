"""Watching a demo that is kept: in which order it looks, judges and goes on."""

from types import SimpleNamespace
from typing import cast

import pytest

from local.demo.watch import Sight, Watch, World


def test_a_repair_is_judged_before_anything_new_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a tick is due at that very look: its run would count as missing."""
    world = SimpleNamespace(cloud=None, screen=None, play=object())
    watch = Watch(cast("World", world))
    sight, fired = Sight(runs=[], report={}), list[str]()
    monkeypatch.setattr(watch, "look", lambda: sight)
    for name in ("_is_repaired", "_is_tick_due", "_may_change"):
        monkeypatch.setattr(watch, name, lambda *_: True)
    monkeypatch.setattr(watch, "_serve_desk", lambda: None)
    monkeypatch.setattr(watch, "change_feed", lambda: fired.append("feed"))
    monkeypatch.setattr(watch, "fire", lambda: fired.append("timer"))
    assert watch.step(fire_every=0.0) is sight
    assert (watch.is_over, fired) == (True, [])
    watch.step(fire_every=0.0)
    assert fired == ["feed", "timer"]
