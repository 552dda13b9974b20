"""The rules and hunting queries that an operator may add to Sentinel."""

import re
from pathlib import Path
from typing import Any

import pytest

from scripts.compiler import Compiler
from tests.bicep.compiled import BICEP
from tests.compiler.inputs import predict
from tests.kql.texts import named

RULES = "Microsoft.SecurityInsights/alertRules"
HUNTS = "Microsoft.OperationalInsights/workspaces/savedSearches"


def made(compiler: Compiler, folder: Path, **inputs: object) -> dict[str, list[dict[str, Any]]]:
    """Return the properties of the rules and of the hunting queries that inputs make."""
    found = predict(compiler, folder, inputs)["predictedResources"]
    return {
        type_: [item["properties"] for item in found if item["type"] == type_]
        for type_ in (RULES, HUNTS)
    }


def test_none_is_made_unless_asked_for(compiler: Compiler, tmp_path: Path) -> None:
    """Each needs logs that not everybody has."""
    assert not any(made(compiler, tmp_path).values())


def test_each_is_a_checked_text(compiler: Compiler, tmp_path: Path) -> None:
    """By default they are the texts that the parser has checked, all of them."""
    found = made(compiler, tmp_path, createRules=True)
    checked = {text: name for name, text in named().items()}
    asked = [checked[item["query"] + "\n"].split()[0] for part in found.values() for item in part]
    folders = ("rules", "hunting")
    texts = [path for folder in folders for path in (BICEP / "kql/feed" / folder).glob("*.kql")]
    assert sorted(asked) == sorted(str(path.relative_to(BICEP / "kql")) for path in texts)


def test_a_rule_reads_the_window_that_it_runs(compiler: Compiler, tmp_path: Path) -> None:
    """No hour is left out; one address is one incident, as grave as its confidence."""
    for rule in made(compiler, tmp_path, createRules=True)[RULES]:
        assert re.findall(r"let window = (\w+);", rule["query"]) == ["1h"]
        assert (rule["queryFrequency"], rule["queryPeriod"]) == ("PT1H", "P14D")
        assert rule["alertDetailsOverride"]["alertSeverityColumnName"] == "Severity"
        grouping = rule["incidentConfiguration"]["groupingConfiguration"]
        assert (grouping["matchingMethod"], grouping["groupByCustomDetails"]) == (
            "Selected",
            ["Listed"],
        )
        columns = {
            field["columnName"]
            for entity in rule["entityMappings"]
            for field in entity["fieldMappings"]
        }
        assert columns == {"Listed", "Own", "Host", "Account"}


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"daysWithoutEnd": 30}, "let withoutEnd = 30d;"),
        ({"matchAllowedOnly": False}, "let allowedOnly = false;"),
        ({}, "let withoutEnd = 90d;"),
        ({}, "let allowedOnly = true;"),
    ],
)
def test_a_rule_takes_what_is_chosen(
    inputs: dict[str, object], text: str, compiler: Compiler, tmp_path: Path
) -> None:
    """The texts hold the defaults, and a choice takes their place."""
    rules = made(compiler, tmp_path, createRules=True, **inputs)[RULES]
    assert [rule["query"].count(text) for rule in rules] == [1, 1]
