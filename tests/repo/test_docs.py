"""The documents say what the code says: settings, states, events, errors, words, links, modules.

Documents are read as their readers see them: tables by their cells, sections by their headings.
That make targets in documents exist is `test_make`'s business.
"""

import json
import os
import re
from pathlib import Path

import pytest

from common import errors
from common.errors import PipelineError, SettingsError
from common.events import Event
from common.health import Cause
from common.ledger.poison import PoisonState
from common.ledger.problems import ProblemKind
from common.ledger.states import CHUNK_MOVES, LETTER_MOVES, RUN_MOVES, ChunkState, RunState
from common.settings import STORAGE_CONNECTION, describe_settings, read_settings
from ops.api.answers import Status
from ops.api.parameters import MAX_RUNS
from ops.cli.program import app
from ops.toolbox import open_toolbox

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

HOST_SETTINGS = {
    "FUNCTIONS_WORKER_RUNTIME": "python",
    "AzureWebJobsStorage": "UseDevelopmentStorage=true",
    STORAGE_CONNECTION: "UseDevelopmentStorage=true",
    "PYTHON_THREADPOOL_THREAD_COUNT": "24",
}
"""What Core Tools and the Functions host read of the example file."""

TO_FILL_IN = {"CLIENT_SECRET": "<secret of the application>"}
"""Settings with a default that only Azure can do with: a laptop has no managed identity."""

WORDS = {
    "sync run",
    "page",
    "indicator",
    "chunk",
    "envelope",
    "send slot",
    "ledger",
    "upload receipt",
    "rejection",
    "attempt",
    "defer",
    "poison",
    "problem",
    "replay",
    "gap",
    "fingerprint",
    "fold",
    "split",
    "acceptance number",
    "checkpoint",
    "cursor",
    "run lease",
    "conservation",
    "version",
    "version index",
    "on its way",
    "void",
    "struck",
    "correction",
    "wish",
    "due",
    "silence",
}


def text_of(name: str) -> str:
    """Return a document."""
    return (ROOT / name).read_text(encoding="utf-8")


def section(document: str, heading: str) -> str:
    """Return what stands under a heading, up to the next one of its level or above."""
    level = heading.index(" ")
    found = re.search(
        rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{level}}} |\Z)", document, re.MULTILINE | re.DOTALL
    )
    assert found, f"no section {heading!r}"
    return found[1]


def rows(document: str) -> list[list[str]]:
    """Return the cells of each row of a document's tables, without code marks."""
    lines = [line for line in document.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def moves(what: str) -> dict[str, set[str]]:
    """Return the moves of a kind of thing that docs/architecture.md allows; *any* is `other`."""
    table = rows(section(text_of("docs/architecture.md"), "## States"))
    return {row[1]: set(re.findall(r"[\w.]+", row[2])) for row in table if row[0] == what}


def error_classes() -> set[str]:
    """Return the name of every error of the pipeline."""
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    return {item.__name__ for item in classes if issubclass(item, PipelineError)}


def relative_links(document: str) -> list[tuple[str, str]]:
    """Return path and anchor of each link that stays in the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", document)
    split = [target.partition("#") for target in targets if "://" not in target]
    return [(path, anchor) for path, _, anchor in split]


def anchors(document: str) -> set[str]:
    """Return the anchors of a document's headings, made as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", document, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", item.lower()).replace(" ", "-") for item in headings}


def tree() -> list[Path]:
    """Return the paths that docs/modules.md names, relative to the root."""
    found = re.search(r"```\n(.*?)```", text_of("docs/modules.md"), re.DOTALL)
    assert found
    folders: list[str] = []
    paths = []
    for line in found[1].splitlines():
        name = line.split()[0]
        folders = folders[: (len(line) - len(line.lstrip())) // 2]
        paths.append(Path(*folders, name))
        if name.endswith("/"):
            folders.append(name)
    return paths


def test_the_readme_is_short() -> None:
    """The README is read in one go; what needs more room has a page of its own."""
    assert len(text_of("README.md").splitlines()) <= 160


def test_each_guarantee_of_the_readme_names_its_test() -> None:
    """The README has six guarantees, each with a link to the test that proves it."""
    items = section(text_of("README.md"), "## What it guarantees").split("\n- ")[1:]
    proofs = [[path for path, _ in relative_links(item) if "tests/" in path] for item in items]
    assert len(items) == 6
    assert all(proofs)


def test_the_settings_are_listed() -> None:
    """docs/settings.md has the settings' names, defaults and meanings, in the code's order."""
    settings, _, _ = text_of("docs/settings.md").partition("## Other clouds")
    shown = [row for row in rows(settings) if len(row) == 3]
    defaults = {None: "**required**", "": "unset"}
    expected = [
        [item.name, defaults.get(item.default, str(item.default)), item.meaning]
        for item in describe_settings()
    ]
    assert shown[2:] == expected


def test_the_readme_names_what_must_be_set() -> None:
    """The README's table has exactly the settings without a default, with their meanings."""
    shown = rows(section(text_of("README.md"), "## Settings"))[2:]
    assert shown == [[i.name, i.meaning] for i in describe_settings() if i.default is None]


def test_the_clouds_defaults_are_shown() -> None:
    """The table of clouds in docs/settings.md has the defaults for the public one."""
    known = {item.name: item for item in describe_settings()}
    header, _, *shown = rows(section(text_of("docs/settings.md"), "## Other clouds"))
    assert header[1:] == ["public", "US Government"]
    assert {name for name, *_ in shown} == {
        name for name, item in known.items() if "US Government: " in item.meaning
    }
    for name, public, government in shown:
        assert public == known[name].default
        assert known[name].meaning.endswith(f"US Government: {government}")


def test_the_example_file_has_every_setting() -> None:
    """The example for Core Tools names each setting once, at its default where it has one."""
    values = json.loads(text_of("local.settings.example.json"))["Values"]
    expected = [item.name for item in describe_settings()]
    assert [name for name in values if name not in HOST_SETTINGS] == expected
    assert {name: values.get(name) for name in HOST_SETTINGS} == HOST_SETTINGS
    optional = {i.name: i.default for i in describe_settings() if i.default is not None}
    assert {name: values[name] for name in optional} == optional | TO_FILL_IN


def test_the_example_file_must_be_filled_in() -> None:
    """Unedited, it is refused for placeholders and nothing else; they look like placeholders."""
    values = json.loads(text_of("local.settings.example.json"))["Values"]
    required = {item.name for item in describe_settings() if item.default is None}
    placeholders = {name for name, value in values.items() if value.startswith("<")}
    assert placeholders == required | TO_FILL_IN.keys()
    with pytest.raises(SettingsError) as refused:
        read_settings(values)
    assert {fault.partition(":")[0] for fault in refused.value.faults} == placeholders


def test_the_runbook_has_one_entry_an_event() -> None:
    """Each event has exactly one entry, and each entry is about an event."""
    found = re.findall(
        r"^### `(.*)`$", section(text_of("docs/runbook.md"), "## Events"), re.MULTILINE
    )
    assert sorted(found) == sorted(Event)


def test_the_runbook_has_one_entry_an_error() -> None:
    """Each error has exactly one entry; those that only group others are in the table above."""
    part = section(text_of("docs/runbook.md"), "## Errors")
    found = re.findall(r"^### `(.*)`$", part, re.MULTILINE)
    groups = {row[0] for row in rows(part)[2:]} | {"PipelineError"}
    assert len(found) == len(set(found))
    assert set(found) | groups == error_classes()
    assert not set(found) & groups
    assert all(f"`{group}`" in part for group in groups)


def codes(heading: str) -> list[str]:
    """Return the first column of a table of the runbook, in order."""
    return [row[0] for row in rows(section(text_of("docs/runbook.md"), heading))[2:]]


def test_the_runbook_has_one_entry_an_alert() -> None:
    """Each alert of the template has its row, and each row an alert."""
    assert sorted(codes("## Alerts")) == sorted(
        path.stem for path in (ROOT / "bicep/kql/log/alerts").glob("*.kql")
    )


def test_the_runbook_has_one_entry_a_finding() -> None:
    """Each cause of a finding has its row, in the order of the code."""
    assert codes("## Findings") == list(Cause)


def test_the_runbook_has_one_entry_a_problem() -> None:
    """Each kind of problem has its line."""
    part = section(text_of("docs/runbook.md"), "### A problem is open")
    assert sorted(re.findall(r"^- `([\w-]+)`", part, re.MULTILINE)) == sorted(ProblemKind)


def test_the_architecture_has_the_moves_of_the_code() -> None:
    """The tables of states allow exactly the moves that the code allows, and name every state."""
    assert moves("run") | moves("any") == {state: set(RUN_MOVES[state]) for state in RunState}
    assert moves("chunk") | moves("any") == {state: set(CHUNK_MOVES[state]) for state in ChunkState}
    assert moves("letter") == {letter: set(after) for letter, after in LETTER_MOVES.items()}
    assert set(moves("poison") | moves("any")) == set(PoisonState)


def test_the_architecture_is_one_page() -> None:
    """It has its parts, each once, in order, and no more lines than a person reads at once."""
    text = text_of("docs/architecture.md")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "States",
        "A chunk's life",
        "One way through",
        "What is left when it dies",
        "Where is it decided …?",
    ]
    assert text.count("```mermaid") == 1
    assert len(text.splitlines()) <= 180


def test_the_life_of_a_chunk_is_drawn_as_the_code_allows() -> None:
    """Each arrow between two states of the diagram is a move; every state but *other* is drawn."""
    life = section(text_of("docs/architecture.md"), "## A chunk's life")
    arrows = re.findall(r"^ +(\w+) --> (\w+):", life, re.MULTILINE)
    drawn = {(before, after) for before, after in arrows if "void" not in (before, after)}
    stays = {("queued", "queued"), ("queued", "struck")}  # its message moves; by its letters
    assert drawn - stays <= {(a.value, b.value) for a in ChunkState for b in CHUNK_MOVES[a]}
    assert {name for arrow in drawn for name in arrow} == set(ChunkState) - {ChunkState.OTHER}


def test_every_table_is_documented() -> None:
    """Each table of the ledger has its section in docs/ledger.md."""
    sources = [path.read_text(encoding="utf-8") for path in ROOT.glob("common/ledger/*.py")]
    pattern = re.compile(r'^TABLE: Final = "(\w+)"', re.MULTILINE)
    names = {name for source in sources for name in pattern.findall(source)}
    assert set(re.findall(r"^## `(\w+)`", text_of("docs/ledger.md"), re.MULTILINE)) == names


def commands_of_the_program() -> set[str]:
    """Return each command of `lumen-sentinel` as it is typed."""
    found = set()
    for name in app.resolved_commands():
        group = app[name]
        actions = {f"{name} {action}" for action in group.resolved_commands() if action[0] != "-"}
        found |= actions
        if name[0] != "-" and (group.default_command is not None or not actions):
            found.add(name)
    return found


class Noting(dict[str, str]):
    """An environment that notes the names that it is asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        """Return a variable."""
        self.asked.add(name)
        return super().get(name, default)


def test_what_the_program_needs_next_to_the_storage_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A setting that is missing there would give another verdict than the app's."""
    environ = Noting({STORAGE_CONNECTION: "UseDevelopmentStorage=true"})
    monkeypatch.setattr(os, "environ", environ)
    open_toolbox()
    operate = section(text_of("docs/operate.md"), "## The program and a key, in five lines")
    (listed,) = re.findall(r"\*\*Next to the storage\*\*.*?(?=\n\n)", operate, re.DOTALL)
    read = environ.asked & {info.name for info in describe_settings()}
    assert {name for name in read if f"`{name}`" not in listed} == set()
    assert "SENTINEL_BASE_URL" in read


def test_the_status_as_json_has_its_fields() -> None:
    """The example has all of them, in order; the text says how many runs may be asked for."""
    text = section(text_of("docs/operate.md"), "## The status as JSON")
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert list(json.loads(example)) == list(Status.__annotations__)
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|.*?\|", text, re.MULTILINE))))
    assert set(json.loads(example)) - {"now", "runs"} <= named
    assert f"1 to {MAX_RUNS} runs" in text


def test_every_command_is_documented() -> None:
    """The table in docs/operate.md has exactly the commands of the program, with their options."""
    table = section(text_of("docs/operate.md"), "## Commands")
    shown = {
        match[1]: row
        for row in table.splitlines()
        if (match := re.match(r"\| `([a-z]+(?: [a-z]+)?)", row))
    }
    assert sorted(shown) == sorted(commands_of_the_program())
    shared = {"--json", "--csv", "--url", "--profile", "--entra", "--by", "--help", "-h"}
    for command, row in shown.items():
        found = app
        for word in command.split():
            found = found[word]
        arguments = found.assemble_argument_collection()
        options = {
            name for one in arguments for name in one.names if name.startswith("--") and one.show
        }
        expected = options - shared if command != "login" else options - {"--help"}
        assert set(re.findall(r"--[a-z-]+", row.split("` |")[0])) == expected, command


def test_runbook_entries_say_what_to_do() -> None:
    """No entry ends at what happened: each says what to check and what to do."""
    entries = re.split(r"^### ", text_of("docs/runbook.md"), flags=re.MULTILINE)[1:]
    silent = [
        entry.splitlines()[0]
        for entry in entries
        if entry.startswith("`") and not ("**Check**" in entry and "**do**" in entry.lower())
    ]
    assert not silent


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link of a document names a file that exists, and a heading in it."""
    dead = []
    for name, anchor in relative_links(path.read_text(encoding="utf-8")):
        target = path.parent / name if name else path
        known = not anchor or (
            target.is_file() and anchor in anchors(target.read_text(encoding="utf-8"))
        )
        if not (target.exists() and known):
            dead.append(f"{name}#{anchor}")
    assert not dead


def test_the_glossary_has_the_words() -> None:
    """Each word of the house has one row in the glossary, in the alphabet's order."""
    found = [row[0].strip("*") for row in rows(text_of("docs/glossary.md"))[2:]]
    assert set(found) >= WORDS
    assert found == sorted(set(found))


def test_each_module_has_its_line() -> None:
    """docs/modules.md has each module of the app once, and nothing that does not exist."""
    paths = tree()
    assert len(paths) == len(set(paths))
    assert not [str(path) for path in paths if not (ROOT / path).exists()]
    folders = ("common", "producer", "consumer", "ops")
    modules = {
        path.relative_to(ROOT)
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if not path.stem.startswith("__")
    }
    assert not sorted(map(str, modules - set(paths)))


@pytest.mark.parametrize("name", ["contracts", "architecture"])
def test_names_beside_files_exist(name: str) -> None:
    """Each name that the document gives beside a Python file stands in that file."""
    pairs = re.findall(r"`([\w/]+\.py)`: ((?:`\w+`(?:, )?)+)", text_of(f"docs/{name}.md"))
    assert len(pairs) > 20
    missing = [
        f"{path}: {name}"
        for path, names in pairs
        for name in re.findall(r"`(\w+)`", names)
        if not re.search(rf"\b{name}\b", text_of(path))
    ]
    assert not missing


def test_the_index_lists_every_decision() -> None:
    """docs/adr/README.md links each decision record once, by number and in order."""
    index = text_of("docs/adr/README.md")
    linked = re.findall(r"\[(\d+)\]\((\d{4})-[\w-]+\.md\)", index)
    files = sorted(path.name for path in (ROOT / "docs/adr").glob("[0-9]*.md"))
    assert [name for name, _ in relative_links(index)] == files
    assert all(int(number) == int(prefix) for number, prefix in linked)
    assert [int(number) for number, _ in linked] == list(range(1, len(files) + 1))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs/adr").glob("[0-9]*.md")), ids=lambda p: p.stem
)
def test_a_decision_is_whole(path: Path) -> None:
    """A decision record has its number, the four parts in order, and fits on a page."""
    text = path.read_text(encoding="utf-8")
    parts = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert parts == ["Context", "Decision", "Consequences", "Rejected"]
    assert len(text.splitlines()) <= 60
