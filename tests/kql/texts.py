"""Every KQL text of the project as it is run: from its file, and where a document shows one.

A folder of bicep/kql may hold `start.kql`: what the texts of its folders have in common. The
template puts it before each of them, and so does this module.
"""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
KQL: Final = ROOT / "bicep" / "kql"
OF_THE_APP: Final = ROOT / "common" / "kql"
"""The texts by which the app itself asks."""

STARTS: Final = ("start.kql", "start-in-sentinel.kql")
"""What the texts of a folder have in common; the second is for the same texts elsewhere."""

PARAMETERS: Final = {
    "{Value}": "192.0.2.1",
    "{credentialEnds}": "2027-01-31",
    "{asked}": "IjE5Mi4wLjIuMSI=",
    "{ids}": "WyJpbmRpY2F0b3ItLTEiXQ==",
}
"""What a workbook, the template or the app puts in place of its parameters, for example."""

_BLOCK: Final = re.compile(r"^ *```(?:kusto|kql)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


_EVENT: Final = re.compile(r'events\("([\w-]+)"\)')
_FACT: Final = re.compile(r'facts(?:\.(\w+)|\["(\w+)"\])')


def files() -> list[Path]:
    """Return every file of a text of its own, in order."""
    return sorted(path for path in KQL.rglob("*.kql") if path.name not in STARTS)


def log_files() -> list[Path]:
    """Return those that read what the pipeline logs."""
    return [path for path in files() if path.is_relative_to(KQL / "log")]


def asked_of_log(path: Path) -> tuple[set[str], set[str]]:
    """Return the events that such a text names, and the facts. `pulse` is the newest health."""
    text = re.sub(r"^pulse$", 'events("health")', path.read_text("utf-8"), flags=re.MULTILINE)
    return set(_EVENT.findall(text)), {one or other for one, other in _FACT.findall(text)}


def whole(path: Path) -> dict[str, str]:
    """Return the text of a file by name, behind each of the starts that the folder above has."""
    own = path.read_text(encoding="utf-8")
    name = str(path.relative_to(KQL))
    starts = [path.parents[1] / start for start in STARTS if (path.parents[1] / start).is_file()]
    texts = {
        f"{name} after {start.name}": start.read_text(encoding="utf-8") + own for start in starts
    }
    return texts or {name: own}


def filled(text: str) -> str:
    """Return a workbook's text with its parameters filled in."""
    for parameter, value in PARAMETERS.items():
        text = text.replace(parameter, value)
    return text


def shown() -> dict[str, str]:
    """Return the texts that documents show, by document and number."""
    documents = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    return {
        f"{path.relative_to(ROOT)}#{number}": block
        for path in documents
        for number, block in enumerate(_BLOCK.findall(path.read_text(encoding="utf-8")), start=1)
    }


def asked() -> dict[str, str]:
    """Return the texts of the app, by the names of their files."""
    paths = sorted(OF_THE_APP.glob("*.kql"))
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def named() -> dict[str, str]:
    """Return all of them, ready to be parsed."""
    texts = {name: text for path in files() for name, text in whole(path).items()} | asked()
    return {name: filled(text) for name, text in texts.items()} | shown()
