"""Every benchmark, beside what a user would pick instead.

    python -m benchmarks --out benchmarks/out                 all of them
    python -m benchmarks scoring training --out DIR           some
    python -m benchmarks --size smoke --out DIR               a few rows each: only shows that they still run

It writes `DIR/results.json`, a list of {name, unit, ours, peer, peer_name, ratio, spread, peak_mb, peer_peak_mb, wanted, rounds},
and `DIR/performance.md`, the same as a table with the machine that they were taken on. A ratio below what is wanted ends it with
exit code 1, after all of them have run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from benchmarks.turns import Benchmark, Size, in_turns, missed

MODULES = ("scoring", "training", "mining", "rows", "nights", "scheduling")
"""The modules of this folder that list `BENCHMARKS`."""


def main() -> int:
    """Parses the arguments, measures, writes the list and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", choices=[*MODULES, []], help="default: all")
    parser.add_argument("--size", choices=get_args(Size), default="full")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    for benchmark in benchmarks(options.modules or MODULES):
        results.append(in_turns(benchmark, options.size, lambda text: print(text, file=sys.stderr, flush=True)))
        (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "performance.md").write_text(table(results))
    print(table(results))
    below = missed(results) if options.size == "full" else []
    for line in below:
        print(line, file=sys.stderr)
    return 1 if below else 0


def benchmarks(modules: Iterable[str]) -> list[Benchmark]:
    """The benchmarks of those modules, in their order."""
    return [benchmark for module in modules for benchmark in importlib.import_module(f"benchmarks.{module}").BENCHMARKS]


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: the machine, then a row a benchmark."""
    lines = [machine(), "", "| benchmark | ours | instead | | ratio | smallest to largest | wanted | peak MB (ours / theirs) |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for result in results:
        low, high = result["spread"]
        wanted = "–" if result["wanted"] is None else f"≥ {result['wanted']:g}"
        figures = f"{result['ours']:.4g} {result['unit']} | {result['peer']:.4g} {result['unit']} | {result['peer_name']}"
        peak = f"{result['peak_mb']:.0f} / {result['peer_peak_mb']:.0f}"
        lines.append(f"| {result['name']} | {figures} | {result['ratio']:.2f} | {low:.2f} to {high:.2f} | {wanted} | {peak} |")
    return "\n".join(lines) + "\n"


def machine() -> str:
    """The machine in a line."""
    names = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{names[0] if names else platform.machine()}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}."


if __name__ == "__main__":
    sys.exit(main())
