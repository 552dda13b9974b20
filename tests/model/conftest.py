"""Histories are played in silence."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of histories would log for minutes."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
