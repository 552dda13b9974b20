"""Checkov over the compiled template: every finding is fixed, or accepted here with its reason.

Checkov reads neither symbolic names nor nested deployments, and would find nothing in main.json as
it is. So it gets main.json's resources as one flat list, and beside it those of each snapshot, in
which the values are worked out. Part of `make check-template`; has an environment of its own, see
scripts/setup.sh.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
BICEP: Final = ROOT / "bicep"
CHECKOV: Final = ROOT / ".setup" / "checkov-env" / "bin"

ACCEPTED: Final = {
    "CKV_AZURE_17": "operators sign in with function keys; none of them has a client certificate",
    "CKV_AZURE_36": "no trusted service has business here; the app comes from its own network",
    "CKV_AZURE_41": "Lumen and Entra end the life of the two secrets; a second date would drift",
    "CKV_AZURE_43": "the name is an expression there; in the snapshots it passes",
    "CKV_AZURE_59": "without endpoints the account is public to one subnet, and to it alone",
    "CKV_AZURE_78": "Flex Consumption has no FTP and refuses ftpsState; the policy ftp forbids it",
    "CKV_AZURE_189": "without endpoints the vault is public to one subnet, and to it alone",
    "CKV_AZURE_206": "a region that is lost takes what is in flight along; docs/deploy.md says so",
    "CKV_AZURE_212": "Flex Consumption has no fixed number of instances; the queue keeps the work",
    "CKV_AZURE_213": "Flex Consumption does not route by health checks; a missing run alerts",
    "CKV_AZURE_222": "public access is off with privateInbound; else keys and ranges guard it",
    "CKV_AZURE_225": "zone redundancy is a parameter; it costs more and not every region has it",
}
"""Findings that stay, by check, each with the reason."""

OPTIONS: Final = ("--framework", "arm", "--output", "json", "--skip-download", "--quiet")

LEAST_PASSED: Final = 100
"""Checks that pass at least: fewer, and Checkov did not look."""


def main() -> int:
    """Run Checkov; 0 when every finding is accepted and every acceptance is needed."""
    with tempfile.TemporaryDirectory() as folder:
        for name, resources in lists():
            (Path(folder) / f"{name}.json").write_text(as_template(resources), encoding="utf-8")
        report = run(Path(folder))
    faults = list(judge(report))
    for fault in faults:
        print(f"checkov: {fault}", file=sys.stderr)  # noqa: T201
    if not faults:
        passed = report["summary"]["passed"]
        print(f"checkov: {passed} checks pass, {len(ACCEPTED)} findings are accepted")  # noqa: T201
    return 1 if faults else 0


def run(folder: Path) -> dict[str, Any]:
    """Return Checkov's report on a folder of templates."""
    done = subprocess.run(  # noqa: S603 - our own environment's Python, on a folder of our own
        # Through its Python: the script's first line cannot name one in a path with blanks.
        [str(CHECKOV / "python"), str(CHECKOV / "checkov"), "--directory", str(folder), *OPTIONS],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"checkov printed no report:\n{done.stderr[-2000:]}") from None
    return report


def judge(report: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong: a finding, an acceptance that nothing needs, a run that saw nothing."""
    results = report.get("results", {})
    found = set()
    for item in results.get("failed_checks", []):
        found.add(item["check_id"])
        if item["check_id"] not in ACCEPTED:
            where = f"{item['file_path'].lstrip('/')}: {item['resource']}"
            yield f"{item['check_id']} {item['check_name']} ({where})"
    for check in sorted(ACCEPTED.keys() - found):
        yield f"{check} is accepted and no longer found; strike it off"
    yield from (f"cannot read {path}" for path in results.get("parsing_errors", []))
    passed = report.get("summary", {}).get("passed", 0)
    if passed < LEAST_PASSED:
        yield f"only {passed} checks passed; it did not look"


def lists() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the resources of main.json, and of each snapshot, with a name."""
    template = json.loads((BICEP / "compiled" / "main.json").read_text(encoding="utf-8"))
    yield "main", list(flat(template))
    for path in sorted(BICEP.glob("examples/*.snapshot.json")):
        resources = json.loads(path.read_text(encoding="utf-8"))["predictedResources"]
        yield path.name.partition(".")[0], resources


def flat(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each resource of a template and of the deployments nested in it."""
    named = template["resources"]  # by symbolic name, or a list where no name is needed
    for resource in named.values() if isinstance(named, dict) else named:
        if resource["type"] == "Microsoft.Resources/deployments":
            yield from flat(resource["properties"]["template"])
        elif not resource.get("existing"):
            yield resource


def is_looked_at(resource: dict[str, Any]) -> bool:
    """Whether Checkov looks at a resource: it takes the settings of sign-in for the web server's.

    Its six checks of these ask for log levels, shares and .NET, which they cannot have.
    """
    is_sign_in = resource["name"].rstrip("')]").endswith("authsettingsV2")
    return not (resource["type"] == "Microsoft.Web/sites/config" and is_sign_in)


def as_template(resources: Iterable[dict[str, Any]]) -> str:
    """Return a template that holds these resources and nothing else."""
    schema = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
    return json.dumps(
        {
            "$schema": schema,
            "contentVersion": "1.0.0.0",
            "resources": list(filter(is_looked_at, resources)),
        }
    )


if __name__ == "__main__":
    sys.exit(main())
