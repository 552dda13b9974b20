"""Judging histories, one or many, with all rules or without one."""

import logging
import random
import secrets
from collections import Counter
from unittest.mock import patch

import pytest

from tests.model.history import History
from tests.model.mutations import RULES

AT_ONCE = 50


def judge(seed: int, used: Counter[str] | None = None) -> list[str]:
    """Play one history; return what is wrong with how it ended."""
    rng = random.Random(seed)  # noqa: S311 - names of runs, ticks and segments by the seed, too
    with patch.object(
        secrets, "token_hex", lambda size: f"{rng.getrandbits(size * 8):0{size * 2}x}"
    ):
        history = History(seed)
        try:
            history.play()
            faults = history.faults()
        finally:
            history.end()
    if used is not None:
        used += history.used
    return faults


def judge_some(first: int) -> tuple[dict[int, list[str]], Counter[str]]:
    """Judge the histories from one seed on."""
    logging.disable(logging.CRITICAL)
    used: Counter[str] = Counter()
    wrong = {seed: judge(seed, used) for seed in range(first, first + AT_ONCE)}
    return {seed: faults for seed, faults in wrong.items() if faults}, used


def first_to_notice(rule: str, *, first: int, histories: int) -> int | None:
    """Return the first seed whose history ends wrong without a rule; None when there is none."""
    logging.disable(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as patch:
        RULES[rule](patch)
        for seed in range(first, first + histories):
            try:
                if judge(seed):
                    return seed
            except Exception:  # noqa: BLE001 - a rule that is missing may break the code outright
                return seed
    return None


def notices(task: tuple[str, int, int]) -> tuple[str, int | None]:
    """Return a rule, and the first of so many seeds whose history ends wrong without it."""
    rule, first, histories = task
    return rule, first_to_notice(rule, first=first, histories=histories)
