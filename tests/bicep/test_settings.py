"""Template, code and host.json agree: app settings, queues, tables, functions, clouds."""

import importlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator

import common.ledger
import producer.index
from common.queues import POISON_QUEUE, UPLOAD_QUEUE
from common.settings import (
    STORAGE_CONNECTION,
    describe_settings,
    read_settings,
    read_storage_settings,
)
from tests.bicep.template import BICEP, MAIN, ROOT, Name, Value, load
from tests.patience import PATIENCE

APP = load(BICEP / "modules/function-app.bicep")
LEFT_TO_DEFAULT = {
    "LUMEN_BASE_URL",
    "LUMEN_POLL_INTERVAL",
    "LUMEN_POLL_TIMEOUT",
    "MAX_PAGES",
    "CHUNK_SIZE",
    "MAX_RETRIES",
    "RETRY_BASE_DELAY",
    "RETRY_MAX_DELAY",
    "RUN_TIME_BUDGET",
    "RUN_LEASE",
    "KNOWN_FOR_DAYS",
    "KNOWN_MAX",
    "SEND_UNKNOWN_REVOKED",
    "DEFERRAL_DELAY",
}
"""Settings that are tuned against measurements and not chosen at a deployment."""

HOST = {
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__queueServiceUri",
    "AzureWebJobsStorage__tableServiceUri",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__clientId",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "PYTHON_THREADPOOL_THREAD_COUNT",
}
"""What the Functions host and its Python worker need for themselves
(learn.microsoft.com/azure/azure-functions/functions-app-settings, read 2026-11-22)."""

FORBIDDEN = {
    "WEBSITE_RUN_FROM_PACKAGE",
    "WEBSITE_CONTENTOVERVNET",
    "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING",
    "WEBSITE_CONTENTSHARE",
    "FUNCTIONS_WORKER_RUNTIME",
    "FUNCTIONS_EXTENSION_VERSION",
    "WEBSITE_VNET_ROUTE_ALL",
    "WEBSITE_TIME_ZONE",
    "SCM_DO_BUILD_DURING_DEPLOYMENT",
    "ENABLE_ORYX_BUILD",
}
"""What Flex Consumption refuses or ignores
(learn.microsoft.com/azure/azure-functions/flex-consumption-plan, read 2026-11-22)."""

LISTS = ("hostSettings", "storageSettings", "pipelineSettings", "applicationSettings")


def app_settings() -> dict[str, Value]:
    """Return every app setting that the template can set, by name."""
    entries = [entry for name in LISTS for entry in APP.variables[name]]
    names = [entry["name"] for entry in entries]
    assert len(names) == len(set(names)), "set twice"
    return {entry["name"]: entry["value"] for entry in entries}


def default_of(setting: str) -> str | None:
    """Return a setting's default in the code."""
    (info,) = (info for info in describe_settings() if info.name == setting)
    return info.default


def ledger_tables() -> Iterator[str]:
    """Yield the table of each part of the ledger."""
    for module in pkgutil.iter_modules(common.ledger.__path__):
        part = importlib.import_module(f"common.ledger.{module.name}")
        if isinstance(table := getattr(part, "TABLE", None), str):
            yield table
    yield producer.index.TABLE


def clouds() -> dict[str, dict[str, str]]:
    """Return what main.bicep knows of each cloud."""
    found: dict[str, dict[str, str]] = load(MAIN).variables["clouds"]
    return found


def test_every_setting_is_set_or_left_to_its_default() -> None:
    """The template sets the code's settings, the storage's and the host's, and nothing else."""
    ours = {info.name for info in describe_settings()}
    storage = {
        f"{STORAGE_CONNECTION}__{part}"
        for part in ("queueServiceUri", "tableServiceUri", "credential", "clientId")
    }
    assert set(app_settings()) == (ours - LEFT_TO_DEFAULT) | storage | HOST
    assert ours >= LEFT_TO_DEFAULT


def test_what_is_left_to_its_default_is_named_in_the_template() -> None:
    """Whoever reads the template sees that these were not forgotten, and each has a default."""
    (comment,) = re.findall(r"// Left to their defaults: (.*?)\n(?!//)", APP.source, re.DOTALL)
    assert set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", comment)) == LEFT_TO_DEFAULT
    assert all(default_of(name) is not None for name in LEFT_TO_DEFAULT)


def test_all_lists_reach_the_app() -> None:
    """No list of settings is declared and then forgotten; the secret only with an application."""
    given = APP.resources["app"].body["properties"]["siteConfig"]["appSettings"]
    used = set(given["function"]["parameters"].values())
    assert used == {
        "hostSettings",
        "storageSettings",
        "pipelineSettings",
        "signInSettings",
        "overrideSettings",
    }
    choice = APP.variables["signInSettings"]["operator"]["operands"]
    assert (choice["true_value"], choice["false_value"]) == ([], "applicationSettings")


def test_nothing_that_flex_consumption_refuses() -> None:
    """Settings of other plans are nowhere in the template."""
    source = "".join(path.read_text(encoding="utf-8") for path in BICEP.rglob("*.bicep*"))
    assert not [name for name in FORBIDDEN if name in source]


def test_secrets_are_references() -> None:
    """The app's settings hold where a secret is, never the secret; no connection string at all."""
    settings = app_settings()
    for name in ("LUMEN_API_KEY", "CLIENT_SECRET"):
        assert settings[name].startswith("@Microsoft.KeyVault(SecretUri=${")
    assert "AzureWebJobsStorage" not in settings
    assert STORAGE_CONNECTION not in settings
    app = APP.resources["app"].body["properties"]
    assert app["keyVaultReferenceIdentity"] == "identityId"


def test_defaults_of_parameters_are_the_codes() -> None:
    """Whoever deploys without choosing gets what the README's table says."""
    parameters = {name.lower(): item for name, item in load(MAIN).parameters.items()}
    compared = set()
    for info in describe_settings():
        parameter = parameters.get(info.name.replace("_", "").lower())
        if parameter is not None and info.default:
            given = parameter.default
            shown = str(given).lower() if isinstance(given, bool) else str(given)
            assert shown == info.default, info.name
            compared.add(info.name)
    assert compared == {
        "LUMEN_SCHEDULE",
        "LUMEN_ENABLE_IPV4",
        "LUMEN_ENABLE_DOMAIN",
        "LUMEN_CONFIDENCE_THRESHOLD",
        "SENTINEL_REQUESTS_PER_MINUTE",
        "REUPLOAD_AFTER_DAYS",
    }


def test_the_code_accepts_what_the_template_sets() -> None:
    """The settings as a deployment in each cloud makes them are read without a fault."""
    guid = "11111111-2222-3333-4444-555555555555"
    for cloud, places in clouds().items():
        values = {
            "lumenSchedule": "0 */15 * * * *",
            "workspaceId": guid,
            "tenantId": guid,
            "clientId": guid,
            "identityClientId": guid,
            "queueEndpoint": f"https://account.queue.{cloud.lower()}.net/",
            "tableEndpoint": f"https://account.table.{cloud.lower()}.net/",
            **places,
        }
        environment = {
            name: str(values[value]) if isinstance(value, Name) else value
            for name, value in app_settings().items()
            if isinstance(value, str) and not value.startswith("@Microsoft.KeyVault")
            if not isinstance(value, Name) or value in values
        }
        settings = read_settings({**environment, "LUMEN_API_KEY": "key"})
        assert settings.storage == read_storage_settings(environment)
        assert settings.storage.client_id == guid
        assert settings.sentinel_base_url == places["sentinelBaseUrl"]


def test_the_clouds_are_those_of_the_settings() -> None:
    """The public cloud has the code's defaults, the other one what the settings' meanings say."""
    names = {
        "ENTRA_AUTHORITY_HOST": "entraAuthorityHost",
        "SENTINEL_BASE_URL": "sentinelBaseUrl",
        "SENTINEL_AUDIENCE": "sentinelAudience",
    }
    meanings = {info.name: info.meaning for info in describe_settings()}
    for setting, key in names.items():
        assert clouds()["AzureCloud"][key] == default_of(setting)
        assert clouds()["AzureUSGovernment"][key] in meanings[setting]
    allowed = load(MAIN).parameters["cloud"].decorators["allowed"]
    assert list(clouds()) == allowed


def test_the_queues_are_those_of_the_code() -> None:
    """Both queues are made, so that no trigger waits for one."""
    assert load(MAIN).variables["queueNames"] == [UPLOAD_QUEUE, POISON_QUEUE]


def test_the_tables_are_those_of_the_ledger() -> None:
    """Every table of the ledger is made, and has its role, before the first run."""
    assert load(MAIN).variables["tableNames"] == sorted(set(ledger_tables()))


def test_functions_named_in_the_template_exist() -> None:
    """An always-ready instance is for a function that there is."""
    program = (
        "import function_app as f; print([x.get_function_name() for x in f.app.get_functions()])"
    )
    names = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    ).stdout
    named = re.findall(r"'function:(\w+)'", APP.source)
    assert named == ["sentinel_upload"]
    assert all(repr(name) in names for name in named)


def test_threads_match_the_messages_of_an_instance() -> None:
    """An instance has a thread for each message that host.json lets it hold."""
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    queues = host["extensions"]["queues"]
    threads = int(app_settings()["PYTHON_THREADPOOL_THREAD_COUNT"])
    assert threads == queues["batchSize"] + queues["newBatchThreshold"]


def test_the_runtime_is_the_projects() -> None:
    """The app runs on the Python that the project is locked and tested with."""
    runtime = APP.resources["app"].body["properties"]["functionAppConfig"]["runtime"]
    assert runtime == {"name": "python", "version": "3.13"}
    assert (ROOT / ".python-version").read_text(encoding="utf-8").strip() == runtime["version"]
