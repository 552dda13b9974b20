"""function_app.py as Azure loads it: no settings, production dependencies only, one host.json."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from common.delivery import LONGEST_DELIVERY, LOOK_IS_GOOD_FOR, REQUEST_WITHIN
from common.ledger.slots import TURN_WITHIN
from common.queues import POISON_QUEUE, SYNC_QUEUE, UPLOAD_QUEUE
from common.settings import DEFAULT_SCHEDULE, STORAGE_CONNECTION, describe_settings
from consumer import sentinel
from consumer.pacing import MAX_WAIT
from local.functions_host.ncrontab import next_occurrence
from ops.checks import FUNCTIONS
from ops.triggers import ARRIVAL_SCHEDULE
from producer.lumen import CONNECT_TIMEOUT, READ_TIMEOUT
from scripts.package import deployed
from tests.patience import PATIENCE
from tests.repo.lock_files import requirements_of

ROOT = Path(__file__).parents[2]
NOT_DEPLOYED = ("local", "tests", "benchmarks")

DESCRIBE = """
import json, function_app
print(json.dumps({
    function.get_function_name(): [binding.get_dict_repr() for binding in function.get_bindings()]
    for function in function_app.app.get_functions()
}, default=str))
"""

IMPORT_EVERYTHING = """
import importlib, json, sys

class Refuse:
    def __init__(self, names):
        self.names = set(names)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is not installed in production", name=name)
        return None

refused, names = json.load(sys.stdin)
sys.meta_path.insert(0, Refuse(refused))
for name in refused:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} was not refused")
import function_app
for name in names:
    importlib.import_module(name)
print(json.dumps(names))
"""


def run(program: str, *, stdin: str = "", **environment: str) -> Any:
    """Run a program in the app's folder with nothing but this environment; return its JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def functions() -> dict[str, list[dict[str, Any]]]:
    """Each function's bindings, indexed in an empty environment."""
    found: dict[str, list[dict[str, Any]]] = run(DESCRIBE)
    return found


@pytest.fixture(scope="module")
def host() -> dict[str, Any]:
    """Return host.json."""
    found: dict[str, Any] = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    return found


def default_of(setting: str) -> float:
    """Return the default of a setting in seconds."""
    (info,) = (info for info in describe_settings() if info.name == setting)
    assert info.default is not None
    return float(info.default)


def seconds(span: str) -> float:
    """Return the seconds of a host.json time span."""
    hours, minutes, rest = map(int, span.split(":"))
    return timedelta(hours=hours, minutes=minutes, seconds=rest).total_seconds()


OPEN = {"health": "ANONYMOUS", "dashboard": "ANONYMOUS"}
"""What anybody may call: one word, and a page without data."""


def triggers(functions: dict[str, list[dict[str, Any]]], kind: str) -> dict[str, dict[str, Any]]:
    """Return the triggers of a kind by function."""
    return {
        name: binding
        for name, bindings in functions.items()
        for binding in bindings
        if binding["type"] == kind
    }


def test_importing_needs_no_setting(functions: dict[str, list[dict[str, Any]]]) -> None:
    """With an empty environment every function is there: a wrong setting must not hide them."""
    assert {
        "lumen_sync",
        "sync_now",
        "sentinel_upload",
        "keep_poison",
        "read",
        "act",
        "health",
        "dashboard",
    } <= set(functions)


def test_the_doctor_looks_at_the_functions_that_there_are(
    functions: dict[str, list[dict[str, Any]]],
) -> None:
    """All but those of HTTP: whoever asks over HTTP sees that they run."""
    assert set(FUNCTIONS) == set(functions) - set(triggers(functions, "httpTrigger"))


@pytest.mark.parametrize(
    ("value", "level"), [("", "FUNCTION"), (" ", "FUNCTION"), ("a-guid", "ANONYMOUS")]
)
def test_the_host_asks_for_keys_unless_operators_sign_in(value: str, level: str) -> None:
    """By the setting alone, which the host shows to nobody; health is open either way."""
    functions = run(DESCRIBE, OPERATOR_CLIENT_ID=value)
    levels = {
        name: trigger["authLevel"] for name, trigger in triggers(functions, "httpTrigger").items()
    }
    assert levels == {"read": level, "act": level, **OPEN}


def test_importing_survives_wrong_settings() -> None:
    """Values that no setting may have are met by the first call, not by the import."""
    wrong = {info.name: "@Microsoft.KeyVault(broken)" for info in describe_settings()}
    assert run(DESCRIBE, **{**wrong, "LUMEN_SCHEDULE": "", STORAGE_CONNECTION: "broken"})


def test_every_deployed_module_imports_with_production_dependencies_only() -> None:
    """Nothing that runs in Azure imports what requirements.txt does not install."""
    locked = {canonicalize_name(item.name) for item in requirements_of("requirements.txt")}
    refused = [
        package
        for package, distributions in packages_distributions().items()
        if not locked & set(map(canonicalize_name, distributions)) and package.isidentifier()
    ]
    assert {"pytest", "hypothesis", "trustme", "azure_functions_runtime"} <= set(refused)
    names = [
        name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for name in deployed(ROOT)
        if name.endswith(".py")
    ]
    imported = run(IMPORT_EVERYTHING, stdin=json.dumps([[*refused, *NOT_DEPLOYED], names]))
    assert {"common.settings", "producer.sync", "consumer.deliver", "ops.status"} <= set(imported)


def test_the_queues_are_those_that_the_code_sends_to(
    functions: dict[str, list[dict[str, Any]]],
) -> None:
    """Each has one reader, and so has the queue that the host makes of the upload queue's name."""
    found = triggers(functions, "queueTrigger")
    assert {name: binding["queueName"] for name, binding in found.items()} == {
        "sentinel_upload": UPLOAD_QUEUE,
        "keep_poison": POISON_QUEUE,
        "sync_now": SYNC_QUEUE,
    }
    assert f"{UPLOAD_QUEUE}-poison" == POISON_QUEUE
    assert {binding["connection"] for binding in found.values()} == {STORAGE_CONNECTION}


def test_the_timers_have_their_schedules_and_do_not_run_on_startup(
    functions: dict[str, list[dict[str, Any]]],
) -> None:
    """An unset or empty setting means every 15 minutes; a deployment is no reason to run."""
    timers = triggers(functions, "timerTrigger")
    assert {name: timer["schedule"] for name, timer in timers.items()} == {
        "lumen_sync": DEFAULT_SCHEDULE,
        "arrival_check": ARRIVAL_SCHEDULE,
    }
    assert {timer["runOnStartup"] for timer in timers.values()} == {False}


def test_the_schedule_is_a_setting() -> None:
    """LUMEN_SCHEDULE reaches the trigger."""
    timers = triggers(run(DESCRIBE, LUMEN_SCHEDULE="0 0 * * * *"), "timerTrigger")
    assert timers["lumen_sync"]["schedule"] == "0 0 * * * *"
    assert timers["arrival_check"]["schedule"] == ARRIVAL_SCHEDULE


def test_the_check_of_arrivals_fires_between_two_syncs() -> None:
    """Seven minutes behind each: what the sync before has sent has had the time to arrive."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for sync in range(4):
        due = next_occurrence(DEFAULT_SCHEDULE, start + timedelta(minutes=15 * sync))
        after = next_occurrence(ARRIVAL_SCHEDULE, due) - due
        assert after == timedelta(minutes=7)


def test_every_http_function_but_health_needs_a_key(
    functions: dict[str, list[dict[str, Any]]],
) -> None:
    """What holds data is open to nobody who merely finds its address."""
    found = triggers(functions, "httpTrigger")
    levels = {name: binding["authLevel"] for name, binding in found.items()}
    assert levels == {"read": "FUNCTION", "act": "FUNCTION", **OPEN}


def test_the_host_reads_messages_as_the_code_writes_them(host: dict[str, Any]) -> None:
    """Plain text: with the default, base64, every message would go to poison unread."""
    assert host["extensions"]["queues"]["messageEncoding"] == "none"


def test_a_failing_delivery_does_not_use_up_its_tries_at_once(host: dict[str, Any]) -> None:
    """Five deliveries, at least half a minute apart: what the consumer's docstrings promise."""
    queues = host["extensions"]["queues"]
    assert queues["maxDequeueCount"] == 5
    assert seconds(queues["visibilityTimeout"]) >= 30


def test_the_functions_a_run_needs_end_in_time(host: dict[str, Any]) -> None:
    """After the time budget there is room for a last answer and a last page's messages."""
    room = seconds(host["functionTimeout"]) - default_of("RUN_TIME_BUDGET")
    assert room >= 2 * (CONNECT_TIMEOUT + READ_TIMEOUT)


def test_no_message_waits_for_another_s_answer(host: dict[str, Any]) -> None:
    """The host fetches while fewer than its threshold are under way: at full rate 8 s an answer."""
    under_way = default_of("SENTINEL_REQUESTS_PER_MINUTE") / 60 * 8
    assert host["extensions"]["queues"]["newBatchThreshold"] > under_way


def test_a_delivery_ends_in_time(host: dict[str, Any]) -> None:
    """It waits for its turn at the slots, and sends two requests that are not answered."""
    longest = TURN_WITHIN + 2 * (REQUEST_WITHIN + MAX_WAIT)
    assert longest <= seconds(host["functionTimeout"]) / 4


def test_a_newer_version_waits_for_every_older_request() -> None:
    """A look and the request that leaves on it are over before what was struck is replaced."""
    assert LOOK_IS_GOOD_FOR + REQUEST_WITHIN < LONGEST_DELIVERY
    assert sentinel.CONNECT_TIMEOUT + sentinel.READ_TIMEOUT <= REQUEST_WITHIN


def test_a_dead_run_is_taken_over_by_the_next_tick() -> None:
    """The lease is shorter than the quarter of an hour between two ticks."""
    assert DEFAULT_SCHEDULE.split()[1] == "*/15"
    assert default_of("RUN_LEASE") < 15 * 60


def test_no_traces_are_sampled_away(host: dict[str, Any]) -> None:
    """The one line of each run and each envelope reaches Application Insights."""
    sampling = host["logging"]["applicationInsights"]["samplingSettings"]
    assert not sampling["isEnabled"] or "Trace" in sampling["excludedTypes"].split(";")
