"""How fast the pages answer over a store with a long history.

    python benchmarks/ui.py --out benchmarks/out/ui.json

A night of a small simulated shop runs through the real loop. Its run is then repeated under other names and with other figures
until the store has 200 runs, 50 versions with their releases, and a filter's ledger of 100,000 rows; every object is written by
the store and the registry themselves. The pages are served by uvicorn on loopback from a process of their own and asked for over
HTTP. Cold is the first answer of a process that has only served its style sheet; warm are the answers after it.

It writes a list of {name, ours, p95, max, bound, processor_ms, peer, peer_name, ratio, spread, peak_mb}: milliseconds, the median
as `ours`, the bound that the page is held to, the server's processor time for a warm answer (which other work on the machine does
not lengthen), the range as a share of the median, and the largest memory of the server's process in MB. There is no peer: nothing
else shows these pages.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
from starlette.types import Scope

from relevance_core.config import Settings
from relevance_core.machine import free_port
from relevance_core.pairs import TASKS, Task, digest
from relevance_core.registry import AdapterMeta, BaseInfo, PromptInfo, Registry, Release
from relevance_core.runs.artifacts import Artifact, Output, Report, open_artifact
from relevance_core.runs.stage import Inputs, stage
from relevance_core.stages.denoise.stage import LEDGER
from relevance_core.store import Store, open_store
from relevance_core.ui.access import Right, User
from relevance_core.ui.app import create_app

NIGHT = date(2026, 10, 5)
SMALL = (
    "base.builtin.documents=400",
    "base.builtin.contrastive_steps=20",
    "base.builtin.hidden=64",
    "base.builtin.layers=1",
    "base.builtin.vocabulary=1024",
    "train.epochs=1",
    "denoise.enabled=true",
    "denoise.epochs=1",
    "denoise.action=review",
    "translate.rows.QC=200",
    "translate.rows.QI=200",
    "gate.min_f1=0.3",
    "gate.min_over_always_yes=-1",
    "serving.python=",
    "engine.workers=1",
)
"""Settings under which a night takes seconds: its figures are repeated, and what they are is no matter."""


def main() -> None:
    """Parses the arguments, makes the store, measures, writes the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--versions", type=int, default=50, help="of both tasks together (default: %(default)s)")
    parser.add_argument("--ledger", type=int, default=100_000, help="rows of a filter's ledger (default: %(default)s)")
    parser.add_argument("--cold", type=int, default=5, help="new processes a page (default: %(default)s)")
    parser.add_argument("--warm", type=int, default=50, help="further requests a page (default: %(default)s)")
    parser.add_argument(
        "--store", help="where to make the store (default: a temporary folder); one that has runs is taken as it is"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uri = options.store or str(Path(folder) / "store")
        store = open_store(uri)
        if not store.list("runs/"):
            night(uri, Path(folder))
            fill(store, options.runs, options.versions, options.ledger, Path(folder))
        results = measure(uri, options.cold, options.warm)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    for result in results:
        print(json.dumps(result))


def night(uri: str, folder: Path) -> None:
    """One night of a small shop through the loop."""
    from relevance_core.tools.simulator.market import Market, write

    write(Market(pairs_per_day=400, clicks_per_day=400, items=400), NIGHT - timedelta(days=4), 4, folder / "shop")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    command = [sys.executable, "-m", "relevance_core", "retrain", "--store", uri, "--source", str(folder / "shop")]
    subprocess.run(
        [*command, "--window-end", f"{NIGHT}", "--onboard", "de", "--json", *settings], check=True, stdout=subprocess.DEVNULL
    )


def fill(store: Store, runs: int, versions: int, ledger: int, folder: Path) -> None:
    """Repeats the only run of a store until it has `runs` runs and `versions` versions, each run with a ledger of `ledger` rows."""
    (origin,) = store.folders("runs/")
    records = {name: json.loads(store.read(f"runs/{origin}/{name}.json")) for name in _names(store, origin)}
    for task in TASKS:
        denoise = open_artifact(store, records[f"denoise-{task.lower()}"]["address"])
        assert denoise is not None  # noqa: S101 - the loop has just made it
        records[f"denoise-{task.lower()}"] |= long_ledger(store, task, denoise, ledger)
    history = History(store, records, random.Random(17), make_adapter(folder / "adapter"))  # noqa: S311 - figures of a benchmark
    published = {round(n * (runs - 2) / max(1, versions // 2)) for n in range(versions // 2)}
    for number in range(runs - 2):
        history.add(NIGHT - timedelta(days=runs - 2 - number), number in published)
    history.last(NIGHT + timedelta(days=1))


def _names(store: Store, run_id: str) -> list[str]:
    return [entry.key.rpartition("/")[2].removesuffix(".json") for entry in store.list(f"runs/{run_id}/")]


def long_ledger(store: Store, task: Task, denoise: Artifact, rows: int) -> dict[str, Any]:
    """The record of an output like `denoise`, with a ledger of `rows` rows of the same words."""

    @stage("denoise", uses=(), version=1000 + rows)
    def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
        train = denoise.table("train")
        drawn = train.sample(rows, with_replacement=True, seed=17)
        noise = np.random.default_rng(17)
        words = pl.Series([f"{text} {number}" for number, text in enumerate(drawn["query"])])
        found = drawn.with_columns(
            query=words,
            pair_id=pl.Series([digest("pair", task, text) for text in words]),
            score=pl.Series(noise.uniform(0, 1, rows)),
            reason=pl.lit("contradicted"),
            action=pl.lit("review"),
            model=pl.lit("fold-0:000000000000"),
        )
        out.table("ledger", found.select(pl.col(name).cast(kind) for name, kind in LEDGER.items()).sort("pair_id"))
        out.table("train", train)
        if "scores.parquet" in denoise.files:
            out.table("scores", denoise.table("scores"))
        return Report(denoise.report.rows, {**denoise.report.figures, "enabled": True, "action": "review", "acted": rows})

    return run(Settings(), Inputs({"rows": denoise}, task), store).as_json()


def make_adapter(folder: Path) -> Path:
    """A LoRA adapter of rank 2 and one layer."""
    from safetensors.numpy import save_file

    folder.mkdir()
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    shapes = {"lora_A": (2, 4), "lora_B": (4, 2)}
    save_file(
        {f"{layer}.{side}.weight": np.ones(shape, np.float32) for side, shape in shapes.items()},
        folder / "adapter_model.safetensors",
    )
    settings = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "builtin:tiny",
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"bias": "none", "modules_to_save": None}))
    return folder


@dataclass
class History:
    """A store that gets runs after the pattern of one. records: that run's, by name."""

    store: Store
    records: Mapping[str, dict[str, Any]]
    chance: random.Random
    adapter: Path
    nights: int = 0

    def add(self, day: date, publishes: bool) -> None:
        """A finished run, whose versions serve or are held."""
        run_id = self._begin(day)
        release = self._publish(day, run_id) if publishes else None
        for task in TASKS:
            verdict = {"verdict": "publish" if publishes else "hold", "failed": [] if publishes else ["better than the champion"]}
            self._write(run_id, f"gate-{task.lower()}", verdict)
        tasks = (
            {task: {"version": release.versions[task], "promoted": True, "number": release.number} for task in TASKS}
            if release
            else {}
        )
        self._write(run_id, "rollout", {"tasks": tasks})
        self._write(run_id, "report", {})

    def last(self, day: date) -> None:
        """The newest run: QC is held, and QI waits for an approval."""
        run_id = self._begin(day)
        self._write(run_id, "gate-qc", {"verdict": "hold", "failed": ["better than the champion"]})
        self._write(run_id, "gate-qi", {"verdict": "needs-approval", "failed": ["evidence in de"]})

    def _begin(self, day: date) -> str:
        self.nights += 1
        run_id = f"{day}-{hashlib.sha256(str(day).encode()).hexdigest()[:8]}"
        about = self.records["run"]
        settings = about["settings"] | {"window": about["settings"]["window"] | {"end": f"{day}"}}
        record = about | {"settings": settings, "dag_run": f"scheduled__{day}T02:30:00+00:00"}
        self.store.write(f"runs/{run_id}/run.json", json.dumps(record).encode())
        for name in self.records:
            if name.startswith("evaluate-"):
                self._write(run_id, name, self._figures(name))
            elif name not in ("run", "rollout", "report") and not name.startswith("gate-"):
                self._write(run_id, name, {})
        return run_id

    def _write(self, run_id: str, name: str, figures: Mapping[str, Any]) -> None:
        record = self.records[name]
        if "figures" in record:
            record = record | {"figures": record["figures"] | dict(figures)}
        self.store.write(f"runs/{run_id}/{name}.json", json.dumps(record, sort_keys=True).encode())

    def _figures(self, name: str) -> dict[str, Any]:
        """The figures of the pattern, better from night to night, up and down a little."""

        def moved(f1: float) -> float:
            return min(0.99, f1 + 0.0005 * self.nights + self.chance.gauss(0, 0.004))

        figures = self.records[name]["figures"]
        languages = {language: of | {"f1": moved(of["f1"])} for language, of in figures["per_language"].items()}
        champion = {language: of | {"f1": of["f1"] - 0.004 + self.chance.gauss(0, 0.004)} for language, of in languages.items()}
        old = {**figures, "per_language": champion, "version": "0" * 16, "languages": [name for name in champion if name != "de"]}
        return {"f1": moved(figures["f1"]), "per_language": languages, "champion": old}

    def _publish(self, day: date, run_id: str) -> Release:
        registry, versions = Registry(self.store), {}
        for task in TASKS:
            figures = json.loads(self.store.read(f"runs/{run_id}/evaluate-{task.lower()}.json"))["figures"]
            meta = AdapterMeta(
                base=BaseInfo(id="builtin:tiny", digest="benchmark"),
                prompt=PromptInfo(name="compact", version="1"),
                threshold=figures["threshold"],
                languages=tuple(figures["per_language"]),
                onboarded=("de",) if self.nights > 80 else (),
                data={"train": run_id},
                metrics=figures,
                run_id=run_id,
                created=f"{day}T00:00:00+00:00",
            )
            versions[task] = registry.publish(task, self.adapter, meta).version
        why = "; ".join(f"{task} better than the champion on the same rows" for task in TASKS)
        return registry.promote(versions, who="gate", why=why, run_id=run_id)


class Anyone:
    """Lets everybody in."""

    async def user(self, scope: Scope) -> User:
        """The one user there is."""
        return User("benchmark")

    def may(self, user: User, right: Right) -> bool:
        """Everything."""
        return True


def serve(uri: str, port: int) -> None:
    """Serves the pages of a store until the process is ended."""
    import uvicorn

    store = open_store(uri)
    uvicorn.run(create_app(lambda: store, Anyone()), host="127.0.0.1", port=port, log_level="warning")


@contextmanager
def server(uri: str) -> Iterator[tuple[httpx.Client, int]]:
    """A process that serves a store and has answered once; a client of it, and its process id."""
    port = free_port()
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import ui; ui.serve({uri!r}, {port})",
    ]
    with subprocess.Popen(command) as process, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        try:
            end = time.monotonic() + 120
            while True:
                try:
                    client.get("/static/report.css").raise_for_status()
                    break
                except httpx.TransportError:
                    if time.monotonic() > end or process.poll() is not None:
                        raise
                    time.sleep(0.1)
            yield client, process.pid
        finally:
            process.terminate()


def addresses(uri: str) -> dict[str, tuple[str, float]]:
    """The pages by name: address, and the milliseconds that they are held to."""
    newest = open_store(uri).folders("runs/")[-1]
    run = f"/run/{newest}"
    return {
        "overview": ("/", 300),
        "run": (run, 300),
        "ledger, the last page": (f"{run}/ledger?task=QC&page=2000", 1000),
        "ledger, a search": (f"{run}/ledger?task=QC&q=99", 1000),
        "review queue": ("/review", 1000),
        "review queue, the last page": ("/review?task=QC&page=2000", 1000),
    }


def measure(uri: str, cold: int, warm: int) -> list[dict[str, Any]]:
    """Every page, from new processes and from one that has answered before."""
    results = []
    for name, (address, bound) in addresses(uri).items():
        first, later, memory, used = [], [], 0.0, 0.0
        for number in range(cold):
            with server(uri) as (client, process):
                first.append(milliseconds(client, address))
                before = processor_ms(process)
                later += [milliseconds(client, address) for _ in range(warm if number == 0 else 0)]
                used += processor_ms(process) - before
                memory = max(memory, peak_mb(process))
        results += [
            entry(f"{name}, cold", first, bound, memory, None),
            entry(f"{name}, warm", later, bound, memory, used / warm),
        ]
        print(
            f"{name}: cold {statistics.median(first):.0f} ms, warm {statistics.median(later):.0f} ms", file=sys.stderr, flush=True
        )
    return results


def milliseconds(client: httpx.Client, address: str) -> float:
    """How long a page takes."""
    begun = time.perf_counter()
    client.get(address).raise_for_status()
    return 1000 * (time.perf_counter() - begun)


def processor_ms(process: int) -> float:
    """The processor time that a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(process: int) -> float:
    """The largest memory of a process so far."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def entry(name: str, values: list[float], bound: float, memory: float, processor: float | None) -> dict[str, Any]:
    """One figure of the list."""
    ours = statistics.median(values)
    figures = {"ours": ours, "p95": float(np.quantile(values, 0.95)), "max": max(values), "bound": bound, "processor_ms": processor}
    rest = dict.fromkeys(("peer", "peer_name", "ratio"))
    return {"name": f"ms of {name}"} | figures | rest | {"spread": (max(values) - min(values)) / ours, "peak_mb": round(memory)}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
