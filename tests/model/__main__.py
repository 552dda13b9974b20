"""Plays many histories: `make model ARGS="--histories 100000"`, or `--rules` to take each rule out.

Without `--rules` the exit status is 0 when every history ends well. With it, when each missing rule
makes some history end wrong.
"""

import argparse
import multiprocessing
import sys
import time
from collections import Counter

from tests.model.judging import AT_ONCE, judge_some, notices
from tests.model.mutations import RULES

PROCESSES = 2


def main() -> int:
    """Play what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--histories", type=int, default=10_000, help="how many (for each rule)")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--rules", action="store_true", help="take each rule out in turn")
    options = parser.parse_args()
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        if options.rules:
            missed = 0
            tasks = [(rule, options.first, options.histories) for rule in RULES]
            for rule, seed in pool.imap_unordered(notices, tasks):
                missed += seed is None
                print(f"{rule}: {'NOT NOTICED' if seed is None else f'seed {seed}'}", flush=True)
            return int(missed > 0)
        wrong: dict[int, list[str]] = {}
        used: Counter[str] = Counter()
        starts = range(options.first, options.first + options.histories, AT_ONCE)
        for some, limits in pool.imap_unordered(judge_some, starts):
            wrong |= some
            used += limits
            for seed, faults in some.items():
                print(f"seed {seed}:", *faults, sep="\n  ", flush=True)
    print(
        f"{len(wrong)} of {options.histories} histories ended wrong, from seed {options.first}, "
        f"in {time.monotonic() - began:.0f} s; known limits used: {dict(used)}"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
