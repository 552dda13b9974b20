"""Tokens for storage by the Azure CLI: the sign-in of a person next to the storage."""

import os
from pathlib import Path

import pytest

from common import identity
from common.errors import CredentialError, UnavailableError
from common.identity import TIME_LIMIT, storage_credential
from common.settings import Secret, StorageSettings, StorageSignIn

SCOPE = "https://storage.azure.com/.default"
NOWHERE = "https://127.0.0.1:9"
BY_CLI = StorageSettings(
    queue_endpoint=NOWHERE, table_endpoint=NOWHERE, sign_in=StorageSignIn.AZURE_CLI
)


def ask(storage: StorageSettings) -> str:
    """Ask once, as the storage clients do."""
    credential = storage_credential(storage)
    assert credential is not None
    return credential.get_token(SCOPE).token


def test_the_time_limit_is_kept() -> None:
    """What one question to the CLI may take."""
    assert identity._CLI_TIMEOUT < TIME_LIMIT


def put_cli(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let `az` be this shell script, and no other."""
    az = folder / "az"
    az.write_text(f"#!/bin/sh\n{script}\n")
    az.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_an_operator_signs_in_by_the_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is what `az account get-access-token` says, asked for storage."""
    answer = '{"accessToken": "theirs", "expires_on": 4102444800}'
    put_cli(tmp_path, monkeypatch, f"echo \"$@\" > {tmp_path}/asked\necho '{answer}'")
    assert ask(BY_CLI) == "theirs"
    assert "get-access-token" in (tmp_path / "asked").read_text()
    assert "https://storage.azure.com" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    "script",
    [
        "echo \"Please run 'az login' to setup account.\" >&2; exit 1",
        "echo 'AADSTS50076: you must use multi-factor' >&2; exit 1",
        "echo no JSON",
        "exit 127",
    ],
    ids=["not signed in", "refused", "garbled", "missing"],
)
def test_a_cli_without_a_token_names_az_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """The remedy is the person's, and nothing of the CLI's own words is shown."""
    put_cli(tmp_path, monkeypatch, script)
    with pytest.raises(CredentialError, match="az login") as caught:
        ask(BY_CLI)
    assert "AADSTS" not in str(caught.value)


def test_a_cli_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot reach Entra, and says nothing."""
    monkeypatch.setattr(identity, "_CLI_TIMEOUT", 1)
    put_cli(tmp_path, monkeypatch, "exec tail -f /dev/null")
    with pytest.raises(UnavailableError, match="within 1 s"):
        ask(BY_CLI)


def test_a_connection_string_needs_no_sign_in() -> None:
    """Nor is one looked at."""
    storage = StorageSettings(connection_string=Secret("x"), sign_in=StorageSignIn.AZURE_CLI)
    assert storage_credential(storage) is None
