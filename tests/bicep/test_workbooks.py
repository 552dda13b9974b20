"""The workbooks: each tile asks a text that the parser has checked, of the right place."""

import json
from typing import Any

import pytest

from tests.bicep.compiled import BICEP, EXAMPLES, Resource, only, resources
from tests.kql.texts import PARAMETERS, named

WORKBOOK = "Microsoft.Insights/workbooks"
BY_FOLDER = {"workbook": "log/health", "sentinel": "feed/indicators"}


def workbooks(example: str) -> dict[str, Resource]:
    """Return the workbooks of an example by their category."""
    return {item.properties["category"]: item for item in resources(example, WORKBOOK)}


def items(book: Resource, type_: int) -> list[dict[str, Any]]:
    """Return the contents of a workbook's items of a type: 1 text, 3 query, 9 parameters."""
    data = json.loads(book.properties["serializedData"])
    return [item["content"] for item in data["items"] if item["type"] == type_]


@pytest.mark.parametrize("category", BY_FOLDER)
def test_each_tile_is_a_checked_text(category: str) -> None:
    """Every text of the folder has its tile, and every tile is a text of the folder."""
    folder = BY_FOLDER[category]
    checked = named()
    asked = []
    for tile in items(workbooks("all-new")[category], 3):
        query = tile["query"] + "\n"
        for parameter, value in PARAMETERS.items():
            query = query.replace(parameter, value)
        asked += [name for name, text in checked.items() if text == query]
    texts = {f"{folder}/{path.name}" for path in BICEP.glob(f"kql/{folder}/*.kql")}
    assert sorted(name.split()[0] for name in asked) == sorted(texts)


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_workbook_asks_its_own_place(example: str) -> None:
    """The app's component, or Sentinel's workspace: by parameters, nothing fixed."""
    found = workbooks(example)
    component = only(example, "Microsoft.Insights/components").id
    assert found["workbook"].properties["sourceId"] == component
    assert "/workspaces/" in found["sentinel"].properties["sourceId"]
    for book in found.values():
        data = json.loads(book.properties["serializedData"])
        assert data["fallbackResourceIds"] == [book.properties["sourceId"]]


def test_only_the_indicators_ask_for_a_value() -> None:
    """The other has a time range alone; a value that is not one goes into no query."""
    books = workbooks("all-new")
    (feed,), (indicators,) = (items(books[category], 9) for category in ("workbook", "sentinel"))
    assert [parameter["name"] for parameter in feed["parameters"]] == ["TimeRange"]
    assert [parameter["name"] for parameter in indicators["parameters"]] == ["TimeRange", "Value"]
    (rule,) = indicators["parameters"][1]["typeSettings"]["paramValidationRules"]
    assert not {"'", '"', "\\", "|", " "} & set(rule["regExp"].strip("^[]*$"))


def test_what_sentinel_wrote_again_is_no_news() -> None:
    """Texts that say what came leave republished rows out; those of what is valid need them."""
    for name in ("volume", "newest"):
        text = (BICEP / f"kql/feed/indicators/{name}.kql").read_text(encoding="utf-8")
        assert 'LastUpdateMethod != "LogARepublisher"' in text
    assert "LogARepublisher" not in (BICEP / "kql/feed/start.kql").read_text(encoding="utf-8")
