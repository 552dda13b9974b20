"""Template, code and host.json agree: app settings, queues, tables, functions, clouds."""

import importlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

import common.ledger
from common.queues import POISON_QUEUE, SYNC_QUEUE, UPLOAD_QUEUE
from common.settings import (
    STORAGE_CONNECTION,
    describe_settings,
    read_settings,
)
from tests.bicep.compiled import BICEP, EXAMPLES, ROOT, app_settings, only, resources, template
from tests.patience import PATIENCE

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
    "SENTINEL_REQUESTS_PER_MINUTE",
    "REUPLOAD_AFTER_DAYS",
    "DEFERRAL_DELAY",
    "ARRIVAL_CHECK",
}
"""Settings without a parameter: `settingOverrides` sets them where it must be."""

HOST = {
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__clientId",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "PYTHON_THREADPOOL_THREAD_COUNT",
}
"""What the Functions host and its Python worker need for themselves. No address of queues and
tables: the identity has no role of the host's there, and would meet 403s
(learn.microsoft.com/azure/azure-functions/functions-app-settings, read 2026-11-22)."""

STORAGE = {
    f"{STORAGE_CONNECTION}__{part}"
    for part in ("queueServiceUri", "tableServiceUri", "credential", "clientId")
}

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

CLOUDS: dict[str, dict[str, str]] = json.loads((BICEP / "clouds.json").read_text(encoding="utf-8"))
TAKEN: dict[str, list[str]] = json.loads(
    (BICEP / "taken-settings.json").read_text(encoding="utf-8")
)


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


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_setting_is_set_or_left_to_its_default(example: str) -> None:
    """The template sets the code's settings, the storage's and the host's, and nothing else."""
    ours = {info.name for info in describe_settings()}
    assert ours >= LEFT_TO_DEFAULT
    secret = set() if example == "application" else {"CLIENT_SECRET"}
    assert set(app_settings(example)) == (ours - LEFT_TO_DEFAULT - secret) | STORAGE | HOST


def test_what_is_left_to_its_default_has_one() -> None:
    """None of them is required."""
    assert all(default_of(name) is not None for name in LEFT_TO_DEFAULT)


def test_no_setting_of_the_template_can_be_overridden() -> None:
    """The list that refuses overrides has every setting that some example gets, and no other."""
    ours = {name for example in EXAMPLES for name in app_settings(example)}
    connections = {"AzureWebJobsStorage", STORAGE_CONNECTION}  # the other form, which would win
    assert set(TAKEN["connections"]) == connections  # and any part of them: test_refusals
    assert set(TAKEN["template"]) == ours | connections
    assert not set(TAKEN["template"]) & LEFT_TO_DEFAULT
    assert set(TAKEN["flexConsumption"]) == FORBIDDEN


@pytest.mark.parametrize("example", EXAMPLES)
def test_secrets_are_references(example: str) -> None:
    """The app's settings hold where a secret is, never the secret; no connection string at all."""
    settings = app_settings(example)
    vault = only(example, "Microsoft.KeyVault/vaults").name
    secrets = {"LUMEN_API_KEY": "lumen-api-key"}
    if example == "application":
        secrets["CLIENT_SECRET"] = "sentinel-client-secret"
    for name, secret in secrets.items():
        assert settings[name] == f"@Microsoft.KeyVault(VaultName={vault};SecretName={secret})"
    made = {item.name for item in resources(example, "Microsoft.KeyVault/vaults/secrets")}
    assert made >= {f"{vault}/{secret}" for secret in secrets.values()}
    (identity,) = resources(example, "Microsoft.ManagedIdentity/userAssignedIdentities")
    app = only(example, "Microsoft.Web/sites").properties
    assert app["keyVaultReferenceIdentity"] == identity.id


def test_an_empty_secret_is_not_written() -> None:
    """A deployment without it keeps what the vault has; its parameter is secure everywhere."""
    for secret in resources("application", "Microsoft.KeyVault/vaults/secrets"):
        value = secret.properties["value"].removeprefix("[").removesuffix("]")
        assert secret.body["condition"] == f"[not(empty({value}))]"
    secure = {
        name
        for name, item in template()["parameters"].items()
        if item.get("type") == "securestring"
    }
    assert secure == {"lumenApiKey", "applicationClientSecret"}


def test_defaults_of_parameters_are_the_codes() -> None:
    """Who deploys without choosing gets the defaults of docs/settings.md."""
    parameters = {name.lower(): item for name, item in template()["parameters"].items()}
    compared = set()
    for info in describe_settings():
        parameter = parameters.get(info.name.replace("_", "").lower())
        if parameter is not None and info.default:
            given = parameter["defaultValue"]
            shown = str(given).lower() if isinstance(given, bool) else str(given)
            assert shown == info.default, info.name
            assert app_settings("all-new")[info.name] == info.default
            compared.add(info.name)
    assert compared == {
        "LUMEN_SCHEDULE",
        "LUMEN_ENABLE_IPV4",
        "LUMEN_ENABLE_DOMAIN",
        "LUMEN_CONFIDENCE_THRESHOLD",
        "SEND_UNKNOWN_REVOKED",
    }


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_code_accepts_what_the_template_sets(example: str) -> None:
    """The settings of a deployment are read without a fault, and mean what they should."""
    guid = "11111111-2222-3333-4444-555555555555"
    environment = {
        name: guid if value.startswith("[reference(") else value
        for name, value in app_settings(example).items()
        if not value.startswith("@Microsoft.KeyVault")
    }
    settings = read_settings({**environment, "LUMEN_API_KEY": "key"})
    account = only(example, "Microsoft.Storage/storageAccounts").name
    cloud = CLOUDS["AzureUSGovernment" if example == "us-government" else "AzureCloud"]
    assert settings.storage.queue_endpoint == f"https://{account}.queue.{cloud['storageSuffix']}"
    assert settings.storage.table_endpoint == f"https://{account}.table.{cloud['storageSuffix']}"
    assert settings.storage.client_id == guid
    assert settings.sentinel_base_url == cloud["sentinelBaseUrl"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_who_uploads_is_who_signs_in(example: str) -> None:
    """With an application its id, without one the app's identity; telemetry always the latter."""
    settings = app_settings(example)
    (identity,) = resources(example, "Microsoft.ManagedIdentity/userAssignedIdentities")
    client_id = f"[reference('{identity.id}', '2024-11-30').clientId]"
    assert settings["AzureWebJobsStorage__clientId"] == client_id
    assert settings["PipelineStorage__clientId"] == client_id
    assert client_id.strip("[]") in settings["APPLICATIONINSIGHTS_AUTHENTICATION_STRING"]
    if example == "application":
        assert settings["CLIENT_ID"] == "11111111-1111-1111-1111-111111111111"
    else:
        assert settings["CLIENT_ID"] == client_id


def test_the_workspaces_guid_is_read_only_where_it_is_not_given() -> None:
    """A deployer without a role on the workspace gives its GUID."""
    app = template()["resources"]["functionApp"]["properties"]["template"]["resources"]
    assert app["workspace"]["condition"] == "[empty(parameters('sentinelWorkspaceId'))]"
    assert app["workspace"]["existing"] is True
    found = app_settings("all-new")["WORKSPACE_ID"]
    assert found.endswith(").customerId]")
    assert "/workspaces/soc-sentinel'" in found


def test_the_clouds_are_those_of_the_settings() -> None:
    """The public cloud has the code's defaults, the other one what the settings' meanings say."""
    names = {
        "ENTRA_AUTHORITY_HOST": "entraAuthorityHost",
        "SENTINEL_BASE_URL": "sentinelBaseUrl",
        "SENTINEL_AUDIENCE": "sentinelAudience",
        "SENTINEL_QUERY_URL": "sentinelQueryUrl",
        "SENTINEL_QUERY_AUDIENCE": "sentinelQueryAudience",
    }
    meanings = {info.name: info.meaning for info in describe_settings()}
    for setting, key in names.items():
        assert CLOUDS["AzureCloud"][key] == default_of(setting)
        assert CLOUDS["AzureUSGovernment"][key] in meanings[setting]
        assert app_settings("us-government")[setting] == CLOUDS["AzureUSGovernment"][key]
    cloud = template()["parameters"]["cloud"]
    assert cloud["defaultValue"] == "[environment().name]"
    assert "allowedValues" not in cloud  # with it the default does not compile


def test_the_queues_are_those_of_the_code() -> None:
    """All are made, with the host's for what it gives up, so that no trigger waits for one."""
    queues = resources("all-new", "Microsoft.Storage/storageAccounts/queueServices/queues")
    assert {item.name.rpartition("/")[2] for item in queues} == {
        UPLOAD_QUEUE,
        POISON_QUEUE,
        SYNC_QUEUE,
        f"{SYNC_QUEUE}-poison",
    }


def test_the_tables_are_those_of_the_ledger() -> None:
    """Every table of the ledger is made, and has its role, before the first run."""
    tables = resources("all-new", "Microsoft.Storage/storageAccounts/tableServices/tables")
    assert sorted(item.name.rpartition("/")[2] for item in tables) == sorted(set(ledger_tables()))


def test_functions_named_in_the_template_exist() -> None:
    """An always-ready instance is for a function that there is; none is asked for by default."""
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
    source = (BICEP / "modules" / "function-app.bicep").read_text(encoding="utf-8")
    named = re.findall(r"'function:(\w+)'", source)
    assert named == ["sentinel_upload"]
    assert all(repr(name) in names for name in named)
    scale = only("all-new", "Microsoft.Web/sites").properties["functionAppConfig"]
    assert scale["scaleAndConcurrency"]["alwaysReady"] == []


def test_threads_match_the_messages_of_an_instance() -> None:
    """An instance has a thread for each message that host.json lets it hold."""
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    queues = host["extensions"]["queues"]
    threads = int(app_settings("all-new")["PYTHON_THREADPOOL_THREAD_COUNT"])
    assert threads == queues["batchSize"] + queues["newBatchThreshold"]


def test_the_app_fetches_its_code_as_its_own_identity() -> None:
    """The one identity is the app's and reads its package, on the Python of the project.

    learn.microsoft.com/azure/azure-functions/flex-consumption-how-to, read 2026-11-22.
    """
    app = only("all-new", "Microsoft.Web/sites")
    plan = only("all-new", "Microsoft.Web/serverfarms")
    (identity,) = resources("all-new", "Microsoft.ManagedIdentity/userAssignedIdentities")
    account = only("all-new", "Microsoft.Storage/storageAccounts").name
    container = only("all-new", "Microsoft.Storage/storageAccounts/blobServices/containers")
    assert app.body["identity"]["userAssignedIdentities"] == {identity.id: {}}
    assert plan.body["sku"] == {"name": "FC1", "tier": "FlexConsumption"}
    assert app.properties["serverFarmId"] == plan.id
    config = app.properties["functionAppConfig"]
    name = container.name.rpartition("/")[2]
    assert config["deployment"]["storage"] == {
        "type": "blobContainer",
        "value": f"https://{account}.blob.core.windows.net/{name}",
        "authentication": {
            "type": "UserAssignedIdentity",
            "userAssignedIdentityResourceId": identity.id,
        },
    }
    version = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
    assert config["runtime"] == {"name": "python", "version": version}
