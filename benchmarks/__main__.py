"""How fast it is, beside what a user would pick instead.

    python -m benchmarks --out benchmarks/out                 everything, three quarters of an hour
    python -m benchmarks scoring ui --out DIR                 some of it
    python -m benchmarks --size smoke --out DIR               a few rows each: only shows that it still runs

It writes `DIR/results.json`, a list of {name, unit, ours, peer, peer_name, ratio, ratios, spread, peak_mb, peer_peak_mb, wanted},
and `DIR/performance.md`, the same as a table with the machine that it was taken on. A ratio below what is wanted ends it with exit
code 1, after all of them have run. What the strategies are worth is another question: `benchmarks/quality.py`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

from benchmarks.turns import PROJECT, Benchmark, Size, in_turns, log_to_stderr, missed

log = logging.getLogger("benchmarks")

TURNS: Final = ("scoring", "training", "mining", "rows", "nights", "scheduling")
"""The modules of this folder that list `BENCHMARKS`."""

SCRIPTS: Final[Mapping[str, Mapping[Size, Sequence[str]]]] = {
    "serving": {"full": (), "smoke": ("--rounds", "2", "--pairs", "32", "--callers", "2", "--hidden", "64", "--layers", "1")},
    "ui": {
        "full": (),
        "smoke": ("--runs", "7", "--versions", "4", "--ledger", "300", "--cold", "1", "--warm", "2"),
    },
}
"""Those that measure in a way of their own, and their sizes. Each writes such a list."""


def main() -> int:
    """Parses the arguments, measures, writes the list and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*TURNS, *SCRIPTS])}; default: all")
    parser.add_argument("--size", choices=get_args(Size), default="full")
    parser.add_argument("--rounds", type=int, default=3, help="most rounds (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    log_to_stderr()
    if unknown := set(options.names) - {*TURNS, *SCRIPTS}:
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    for found in measured(options.names or [*TURNS, *SCRIPTS], options.rounds, options.size, options.out):
        results += found
        (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (options.out / "performance.md").write_text(f"{machine()}\n\n{table(results)}")
    print(table(results))
    below = missed(results) if options.size == "full" else []
    for line in below:
        log.warning("%s", line)
    return 1 if below else 0


def measured(names: Sequence[str], rounds: int, size: Size, out: Path) -> Iterator[list[dict[str, Any]]]:
    """The results of each module, as it ends."""
    for name in names:
        if name in SCRIPTS:
            script, into = PROJECT / "benchmarks" / f"{name}.py", out / f"{name}.json"
            subprocess.run([sys.executable, script, "--out", into, *SCRIPTS[name][size]], stdout=sys.stderr, check=True)
            yield json.loads(into.read_text())
        else:
            yield in_turns(benchmarks(name), rounds, size)


def benchmarks(name: str) -> list[Benchmark]:
    """The benchmarks of a module."""
    return list(importlib.import_module(f"benchmarks.{name}").BENCHMARKS)


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row a benchmark; what has no peer has its bound beside it."""
    lines = [
        "| benchmark | ours | instead | ratio (smallest to largest) | wanted | peak MB (ours / theirs) |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        unit, ratios, wanted = result.get("unit", ""), result.get("ratios"), result.get("wanted")
        instead = "–" if result["peer"] is None else f"{result['peer']:.4g} {unit}, {result['peer_name']}"
        ratio = "–" if result["ratio"] is None else f"{result['ratio']:.2f}"
        ratio += f" ({min(ratios):.2f} to {max(ratios):.2f})" if ratios and len(ratios) > 1 else ""
        bound = f"≤ {result['bound']:g}" if "bound" in result else "–" if wanted is None else f"≥ {wanted:g}"
        peak = " / ".join(_whole(result.get(side)) for side in ("peak_mb", "peer_peak_mb"))
        lines.append(f"| {result['name']} | {result['ours']:.4g} {unit} | {instead} | {ratio} | {bound} | {peak} |")
    return "\n".join(lines) + "\n"


def _whole(number: float | None) -> str:
    return "–" if number is None else f"{number:.0f}"


def machine() -> str:
    """The machine in a line."""
    about = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in about if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{names[0] if names else platform.machine()}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}."


if __name__ == "__main__":
    sys.exit(main())
