"""Replays a seed, runs many, or prints the tables."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from pathlib import Path

from tests.support.fuzzing.sources import Source
from tests.support.fuzzing.tally import ASKS, kinds, merged, run, tables, total
from tests.support.fuzzing.verdict import OUTCOMES, judge


def main() -> int:
    """Parses the arguments. `replay` ends with exit code 1 for a source that is not read as it should be."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.fuzzing", description="Random sources, and what becomes of them."
    )
    commands = parser.add_subparsers(dest="what", required=True)
    replay = commands.add_parser("replay", help="writes a seed's source into a folder, describes and judges it")
    replay.add_argument("seed", type=int)
    replay.add_argument("--into", type=Path, help="folder (default: a new temporary one)")
    many = commands.add_parser("run", help="prints a line of JSON for each seed")
    many.add_argument("seeds", type=_seeds, nargs="+", help="a seed, or FIRST:END")
    for command in (replay, many):
        command.add_argument("--command", action="store_true", help="through `relevance stage`, not in this process")
    table = commands.add_parser(
        "table", help="prints the tables of a file of results: lines of `run`, or benchmarks/results/door.json"
    )
    table.add_argument("file", type=Path)
    options = parser.parse_args()
    if options.what == "table":
        _print(_tables(options.file))
        return 0
    ask = "command" if options.command else "in-process"
    if options.what == "run":
        for seed in itertools.chain.from_iterable(options.seeds):
            _print(json.dumps(run(seed, ask), ensure_ascii=False))
        return 0
    source = Source(options.seed)
    _print(source.describe())
    folder = options.into or Path(tempfile.mkdtemp(prefix=f"relevance-fuzz-{options.seed}-"))
    address = source.write(folder)
    _print(f"written to {address!r}")
    verdict = judge(source, address, ASKS[ask])
    _print(f"{verdict.outcome} ({OUTCOMES[verdict.outcome]}): {verdict.detail}")
    return 0 if verdict.right(source) else 1


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _seeds(text: str) -> range:
    first, _, end = text.partition(":")
    return range(int(first), int(end or int(first) + 1))


def _tables(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        cells = json.loads(text)["cells"]
        parts = {ask: [cell["result"] for name, cell in cells.items() if name.startswith(ask)] for ask in ASKS}
        return "\n".join(f"{ask}: {json.dumps(total(some))}\n\n{tables(merged(some))}" for ask, some in parts.items())
    return tables(kinds([json.loads(line) for line in text.splitlines()]))


if __name__ == "__main__":
    sys.exit(main())
