"""The status function: the report, or in plain words why there is none."""

import json

import pytest

from common.errors import CredentialError, PipelineError, ThrottledError, UnavailableError
from ops.toolbox import open_toolbox
from ops.triggers import MAX_RUNS, read_runs, status_response
from tests.unit.ops.samples import Bench


def test_the_report_is_json() -> None:
    """The health and the latest runs."""
    bench = Bench()
    bench.run()
    bench.run_at(60)
    response = status_response(lambda: bench.toolbox, runs=1)
    assert (response.status_code, response.mimetype) == (200, "application/json")
    report = json.loads(response.get_body())
    assert (report["health"], len(report["runs"])) == ("healthy", 1)


@pytest.mark.parametrize("error", [UnavailableError, ThrottledError, CredentialError])
def test_trouble_with_the_storage_is_told(error: type[PipelineError]) -> None:
    """503 with the reason, so that whoever watches knows that it is not the feed's answer."""
    bench = Bench()

    def fail(table: str, _operation: str) -> None:
        raise error(f"table {table} is away")

    bench.tables.before = fail
    response = status_response(lambda: bench.toolbox, runs=5)
    assert (response.status_code, response.mimetype) == (503, "application/json")
    assert json.loads(response.get_body()) == {"error": "table control is away"}


@pytest.mark.parametrize(
    ("name", "value"), [("SENTINEL_REQUESTS_PER_MINUTE", "many"), ("PipelineStorage", "")]
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """500 with the setting and its remedy, not a traceback."""
    monkeypatch.setenv("PipelineStorage", "UseDevelopmentStorage=true")
    monkeypatch.setenv(name, value)
    response = status_response(open_toolbox, runs=5)
    assert response.status_code == 500
    assert name in json.loads(response.get_body())["error"]


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("1", 1),
        ("50", MAX_RUNS),
        ("007", 7),
        ("0", None),
        ("51", None),
        ("000000050999999", None),
        ("9" * 5000, None),
        ("", None),
        ("-1", None),
        (" 5", None),
        ("5.0", None),
        ("\u0665", None),
    ],
)
def test_the_number_of_runs_is_checked_as_it_is_used(text: str, runs: int | None) -> None:
    """The whole text is one number from 1 to the most; anything else is none."""
    assert read_runs(text) == runs
