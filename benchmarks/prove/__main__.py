"""Runs long evidence and writes it down.

    python -m benchmarks.prove                       the list
    python -m benchmarks.prove house                 writes benchmarks/results/house.json; goes on where it broke off
    python -m benchmarks.prove house --out DIR       into another folder
    python -m benchmarks.prove house --again         every cell anew

Progress goes to stderr, the file's name to stdout. It ends with exit code 1 when a cell failed, 2 for a name that is none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from benchmarks.prove import door, house, mission
from benchmarks.prove.cells import Evidence, prove
from benchmarks.turns import PROJECT, log_to_stderr

EVIDENCE: Final[Mapping[str, Callable[[], Evidence]]] = {
    "door": door.evidence,
    "house": house.evidence,
    "mission": mission.evidence,
}


def main(words: list[str] | None = None) -> int:
    """Parses the arguments, and runs or lists."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prove", description="Runs long evidence and writes it down.")
    parser.add_argument("what", nargs="?", choices=sorted(EVIDENCE), help="default: the list")
    parser.add_argument("--out", type=Path, default=PROJECT / "benchmarks" / "results", help="folder (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="run the cells anew that the file has")
    options = parser.parse_args(words)
    if options.what is None:
        for name, evidence in sorted(EVIDENCE.items()):
            print(f"{name:10} {evidence().about}")
        return 0
    log_to_stderr()
    failed = prove(options.what, EVIDENCE[options.what](), options.out, again=options.again)
    print(options.out / f"{options.what}.json")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
