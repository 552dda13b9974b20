"""Chaos on this machine, from a seed, and then the question: is anything missing? `make chaos`.

For some minutes instances are killed and every other side fails in every way that it can, while
the timer fires all the time. Then it is calm: faults are lifted, instances run, and the pipeline
gets the time to settle. The exit status is 0 only when Sentinel holds the newest version of
everything.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from local.chaos.run import Options, run_chaos
from local.chaos.verdict import render_verdict
from local.functions_host.process import HostFailedError
from local.run_directory import fresh_directory
from local.services.azurite import Azurite, AzuriteUnavailableError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run chaos; return the exit status."""
    parsed = _parser().parse_args(arguments)
    options = Options(
        seed=parsed.seed,
        seconds=parsed.minutes * 60,
        indicators=parsed.indicators,
        hosts=parsed.hosts,
        outages=parsed.outages,
    )
    try:
        with Azurite() as azurite:
            verdict = run_chaos(options, azurite=azurite, directory=fresh_directory(), say=_say)
    except (AzuriteUnavailableError, HostFailedError, OSError) as error:
        _say(f"chaos: {error}")
        return 2
    except KeyboardInterrupt:
        _say("\nstopped")
        return 130
    _say("\n" + render_verdict(verdict))
    if parsed.json:
        _say(json.dumps(asdict(verdict)))
    return 0 if verdict.good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='make chaos ARGS="…"',
        description="Break everything at random; see that nothing is lost.",
    )
    parser.add_argument("--seed", type=int, required=True, help="all randomness comes from it")
    parser.add_argument("--minutes", type=float, default=1.0, help="of chaos (default 1)")
    parser.add_argument("--indicators", type=int, default=20_000, help="at Lumen (default 20,000)")
    parser.add_argument("--hosts", type=int, default=3, help="function hosts (default 3)")
    parser.add_argument(
        "--outages",
        type=int,
        default=0,
        help="storage is away so many times, each for 40 s, and hosts stand 24.8 s of it (default "
        "0: it is away for seconds, and hosts stand 2)",
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
