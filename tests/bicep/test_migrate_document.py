"""docs/migrate.md names what exists: parameters, settings, controls of the form."""

import json
import re

from common.settings import describe_settings
from scripts.release import FORM
from tests.bicep.compiled import ROOT, template

TEXT = (ROOT / "docs/migrate.md").read_text(encoding="utf-8")
ELSEWHERE = {"queryFrequency", "dt_lookBack"}
"""Names of the official connector's rules."""

THEIRS = {"DEFAULT_MAX_RETRIES", "DEFAULT_BASE_DELAY", "DEFAULT_MAX_DELAY", "POLL_INTERVAL"}
THEIRS |= {"POLL_TIMEOUT", "AADSTS7000222"}
"""Constants of the official connector's code."""


def test_parameters_in_the_document_exist() -> None:
    """What looks like a parameter is one of the template's."""
    named = set(re.findall(r"`([a-z]+(?:[A-Z][a-zA-Z0-9]*)+)`", TEXT)) - ELSEWHERE
    assert {"sendUnknownRevoked", "applicationClientId", "assignSentinelRole"} <= named
    assert named <= set(template()["parameters"])


def test_settings_in_the_document_exist() -> None:
    """What looks like an app setting is one of the code's, or a constant of the other connector."""
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z0-9]+)+)`", TEXT))
    assert named - THEIRS <= {info.name for info in describe_settings()}
    assert "SEND_UNKNOWN_REVOKED" in named


def test_unknown_revocations_are_a_box_of_the_form() -> None:
    """Those who come by the button find what the document tells them to set."""
    (label,) = re.findall(r"in the form \*(.*?)\*", TEXT)
    form = json.loads((ROOT / FORM).read_text(encoding="utf-8"))
    elements = [item for step in form["parameters"]["steps"] for item in step["elements"]]
    (box,) = [item for item in elements if item.get("label") == label]
    assert (box["name"], box["defaultValue"]) == ("sendUnknownRevoked", False)
