"""The compiled template as the tests ask it: main.json, and what each example would make."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BICEP = ROOT / "bicep"

FILES = sorted((BICEP / "examples").glob("*.bicepparam"))
EXAMPLES = tuple(path.stem for path in FILES if not path.stem.startswith("mine"))


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a snapshot, with every value worked out that Azure does not decide."""

    body: dict[str, Any]

    @property
    def type(self) -> str:
        """Its type, as `Microsoft.Storage/storageAccounts`."""
        return str(self.body["type"])

    @property
    def name(self) -> str:
        """Its whole name, as `account/default/queue`."""
        return str(self.body["name"])

    @property
    def id(self) -> str:
        """Its resource id."""
        return str(self.body["id"])

    @property
    def properties(self) -> dict[str, Any]:
        """Its properties."""
        found: dict[str, Any] = self.body["properties"]
        return found


@cache
def template(name: str = "main") -> dict[str, Any]:
    """Return a compiled template: `main` or `network`."""
    text = (BICEP / "compiled" / f"{name}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@cache
def snapshot(example: str) -> dict[str, Any]:
    """Return the snapshot of an example."""
    path = BICEP / "examples" / f"{example}.snapshot.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@cache
def resources(example: str, type_: str = "") -> tuple[Resource, ...]:
    """Return what an example makes: everything, or the resources of one type."""
    found = (Resource(body) for body in snapshot(example)["predictedResources"])
    return tuple(item for item in found if type_ in {"", item.type})


def only(example: str, type_: str) -> Resource:
    """Return the one resource of a type."""
    (resource,) = resources(example, type_)
    return resource


def app_settings(example: str) -> dict[str, str]:
    """Return the app settings of an example; a name that is there twice is an error."""
    entries = only(example, "Microsoft.Web/sites").properties["siteConfig"]["appSettings"]
    settings = {entry["name"]: entry["value"] for entry in entries}
    assert len(settings) == len(entries)
    return settings


def modules(found: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """Return the modules of a template, by the names that it has for them."""
    named = (found or template())["resources"]
    return {
        name: item
        for name, item in named.items()
        if item["type"] == "Microsoft.Resources/deployments"
    }


def texts(value: object) -> Iterator[str]:
    """Yield every text in a JSON value, keys left out."""
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from texts(item)
        case list():
            for item in value:
                yield from texts(item)
