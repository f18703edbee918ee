"""What the client gets out of a vLLM server, beside plain transformers and peft on the same pairs in the same run.

    python benchmarks/serving.py --out benchmarks/out/serving.json

The base is an untrained Qwen3 of the builtin's architecture with a random adapter of rank 32, published in a store of its own, and
the pairs are a day of the simulated shop: speed does not depend on how good a model is. Server and peer take turns, round by round,
each round with pairs that neither has seen, so that what vLLM's cache finds is the prompt's common beginning and no whole prompt.
Scores that differ by more than 1e-3 end the run: what is compared is the same work.

It writes a list of {name, ours, peer, peer_name, ratio, spread, peak_mb}: the medians of the rounds, ours / peer, the rounds' range
as a share of our median, and the largest memory of the server's processes (peer: of the peer's) in MB.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import polars as pl

from relevance_core.config import ServingSettings
from relevance_core.machine import free_port, require_python
from relevance_core.prompts import VERSIONS, Prompt
from relevance_core.registry import AdapterMeta, BaseInfo, Manifest, PromptInfo, Registry
from relevance_core.serving import Pair, ScoringClient
from relevance_core.serving.prompts import open_prompts
from relevance_core.serving.server import LocalServer, spec_for
from relevance_core.store import Store, open_store

log = logging.getLogger(__name__)

BATCH = 32
"""Pairs of one of the peer's batches, and of one search request."""
RANK = 32


def main() -> None:
    """Parses the arguments, measures, writes the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=512, help="of a round (default: %(default)s)")
    parser.add_argument(
        "--callers", type=int, default=8, help="threads that ask for one search request each (default: %(default)s)"
    )
    parser.add_argument("--hidden", type=int, default=128, help="width of the base (default: %(default)s, the builtin's)")
    parser.add_argument("--layers", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--template", choices=list(VERSIONS), default="instruction")
    parser.add_argument("--threads", type=int, default=1, help="of the server and of the peer (default: %(default)s)")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    for logger in (log, logging.getLogger("relevance_core")):
        logger.setLevel(logging.INFO)
    # vLLM otherwise binds a thread to every core; OMP_NUM_THREADS then counts for the peer alone.
    os.environ |= {"OMP_NUM_THREADS": str(options.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, Path(folder))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    for result in results:
        print(json.dumps(result))


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Builds the shop, starts the server and the peer, and measures both in turns."""
    store, manifest, adapter, rounds = make_shop(folder, options)
    settings = ServingSettings(staleness_seconds=3600, timeout_seconds=600)
    spec = spec_for(store, [manifest], settings, port=free_port(), gpus=0, work=folder / "server")
    with (
        # A process of its own: the peer has neither this one's memory nor its threads.
        multiprocessing.get_context("spawn").Pool(1, load_peer, (manifest.base.uri, str(adapter))) as peer,
        LocalServer.start(spec, require_python(settings)) as server,
        ScoringClient(store, [server.url], settings) as client,
    ):
        server.wait()
        return in_turns(Ours(client, server, manifest, options.callers), Peer(peer, store, manifest), rounds)


@dataclass
class Figures:
    """Of one side, for each round: pairs/s, pairs per second of processor time, the 99th percentile of a request's milliseconds
    (alone and beside others).
    """

    speed: list[float] = field(default_factory=list)
    economy: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)


@dataclass
class Ours:
    """The client and its server."""

    client: ScoringClient
    server: LocalServer
    manifest: Manifest
    callers: int

    def bulk(self, pairs: Sequence[Pair]) -> npt.NDArray[np.float64]:
        """All pairs in one call."""
        return self.client.score("QC", pairs, version=self.manifest.version).p

    def requests(self, pairs: Sequence[Pair], callers: int = 1) -> list[float]:
        """Milliseconds of each search request of BATCH pairs, `callers` of them under way at a time."""

        def one(start: int) -> float:
            begun = time.perf_counter()
            self.bulk(pairs[start : start + BATCH])
            return 1000 * (time.perf_counter() - begun)

        with ThreadPoolExecutor(callers) as threads:
            return list(threads.map(one, range(0, len(pairs), BATCH)))

    def cache(self) -> tuple[float, float]:
        """Prompt tokens looked up in vLLM's prefix cache, and found there, since it started."""
        text = httpx.get(f"{self.server.url}/metrics", trust_env=False).text
        asked, found = (
            sum(float(value) for value in re.findall(rf"^vllm:prefix_cache_{name}_total{{.*}} (.*)$", text, re.MULTILINE))
            for name in ("queries", "hits")
        )
        return asked, found

    def cpu(self) -> float:
        """Seconds of processor time of the server's processes and of this one so far."""
        ticks = sum(int(ticks) for fields in self._group() for ticks in fields[11:13])
        return ticks / os.sysconf("SC_CLK_TCK") + time.process_time()

    def peak_mb(self) -> float:
        """Of all processes of the server, each at its largest."""
        return sum(peak_of(int(fields[-1])) for fields in self._group()) / 1024

    def _group(self) -> list[list[str]]:
        """Of each process of the server: the fields of its `stat` from the third on, and its id."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended since the list was read
                fields = [*path.read_text().rpartition(")")[2].split(), path.parent.name]
                found += [fields] if int(fields[2]) == self.server.pid else []
        return found


@dataclass
class Peer:
    """transformers and peft in a process of their own."""

    process: Any
    store: Store
    manifest: Manifest

    def __post_init__(self) -> None:
        self._opened = open_prompts(self.store, "QC", self.manifest.version, None)

    def bulk(self, pairs: Sequence[Pair]) -> npt.NDArray[np.float64]:
        """All pairs, in padded batches."""
        prompts = self._opened.encode(pairs)
        batches = [prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH)]
        scored, self._seconds = self.process.apply(score_peer, (batches, self._opened.answers))
        return np.asarray(scored)

    def requests(self, pairs: Sequence[Pair]) -> list[float]:
        """Milliseconds of each batch of BATCH pairs, one after the other."""
        self.bulk(pairs)
        return [1000 * seconds for seconds in self._seconds]

    def cpu(self) -> float:
        """Seconds of processor time of its process, and of this one, which makes the prompts, so far."""
        return float(self.process.apply(time.process_time)) + time.process_time()

    def peak_mb(self) -> float:
        """Of its process."""
        return float(self.process.apply(peer_peak)) / 1024


def in_turns(ours: Ours, peer: Peer, rounds: Sequence[tuple[list[Pair], list[Pair]]]) -> list[dict[str, Any]]:
    """The first round warms both up and is left out."""
    sides: tuple[Ours | Peer, ...] = (ours, peer)
    figures = (Figures(), Figures())
    cache = []
    for number, (bulk, requests) in enumerate(rounds):
        cache.append(ours.cache())
        scores = [one_round(side, figure, bulk, requests) for side, figure in zip(sides, figures, strict=True)]
        apart = float(np.abs(scores[0] - scores[1]).max())
        log.info("round %d: pairs/s %.1f, peer %.1f, scores %.1e apart", number, figures[0].speed[-1], figures[1].speed[-1], apart)
        if apart > 1e-3:
            raise SystemExit(f"the scores of server and peer differ by {apart:.2g}: this is not the same work")
    asked, found = (last - first for first, last in zip(cache[1], ours.cache(), strict=True))
    peak_mb = {"ours": round(ours.peak_mb()), "peer": round(peer.peak_mb())}
    names = ("speed", "economy", "alone", "beside")
    speed, economy, alone, beside = ([getattr(figure, name)[1:] for figure in figures] for name in names)
    return [
        entry("pairs/s, one call for all", speed, peak_mb),
        entry("pairs per second of processor time, client and server together", economy, peak_mb),
        entry(f"p99 ms of a request of {BATCH} pairs, one at a time", alone, peak_mb),
        entry(f"p99 ms of a request of {BATCH} pairs, {ours.callers} at a time", beside, peak_mb),
        {"name": "share of prompt tokens found in the prefix cache", "ours": found / asked}
        | dict.fromkeys(("peer", "peer_name", "ratio", "spread", "peak_mb")),
    ]


def one_round(side: Ours | Peer, figures: Figures, bulk: Sequence[Pair], requests: Sequence[Pair]) -> npt.NDArray[np.float64]:
    """Adds a round of one side to its figures; returns the scores of `bulk`."""
    begun, used = time.perf_counter(), side.cpu()
    scores = side.bulk(bulk)
    figures.speed.append(len(bulk) / (time.perf_counter() - begun))
    figures.economy.append(len(bulk) / (side.cpu() - used))
    half = len(requests) // 2
    figures.alone.append(float(np.quantile(side.requests(requests[:half]), 0.99)))
    if isinstance(side, Ours):
        figures.beside.append(float(np.quantile(side.requests(requests[half:], side.callers), 0.99)))
    return scores


def entry(name: str, values: Sequence[Sequence[float]], peak_mb: dict[str, int]) -> dict[str, Any]:
    """One figure of the list, of each round's values: ours and the peer's, which may have none."""
    ours, peer = (statistics.median(side) if side else None for side in values)
    if ours is None:
        raise SystemExit("one round only warms up: give --rounds 1 or more")
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "peer_name": f"transformers + peft, unmerged, padded batches of {BATCH}",
        "ratio": peer and ours / peer,
        "spread": (max(values[0]) - min(values[0])) / ours,
        "peak_mb": peak_mb,
    }


def make_shop(folder: Path, options: argparse.Namespace) -> tuple[Store, Manifest, Path, list[tuple[list[Pair], list[Pair]]]]:
    """A store with one version on an untrained base, its adapter's folder, and each round's pairs for one call and for requests."""
    import torch
    from peft import LoraConfig, get_peft_model

    from relevance_core.models import trainer
    from relevance_core.models.tiny import build as tiny
    from relevance_core.models.tiny.text import Corpus, train_tokenizer
    from relevance_core.sources import read_labelled
    from relevance_core.tools.simulator.market import Market, write

    torch.set_num_threads(options.threads)
    torch.manual_seed(17)
    days = 1 + 2 * options.pairs * (options.rounds + 1) // 1500
    write(Market(seed=17), date(2026, 10, 1), days, folder / "shop")
    rows = (
        read_labelled(str(folder / "shop"), task=None)
        .filter(task="QC")
        .unique(["language", "query", "target"], maintain_order=True)
    )
    pairs = [Pair(*row) for row in rows.select("language", "query", "target").iter_rows()]
    needed = 2 * options.pairs * (options.rounds + 1)
    if len(pairs) < needed:
        raise SystemExit(f"the simulated shop has {len(pairs)} distinct pairs; {needed} are needed: fewer --rounds or --pairs")
    prompt = Prompt(options.template, VERSIONS[options.template], translation=False, max_tokens=256)
    catalogue = rows.select("task", "target_id", "target").unique("target", maintain_order=True)
    tokenizer = train_tokenizer(Corpus(rows.with_columns(english=pl.lit(None, pl.String)), catalogue), prompt, 3072)
    model = tiny.new_model(tokenizer, tiny.Size(3072, options.hidden, options.layers, 0, 0, 0.0), prompt)
    tiny.save(model, tokenizer, folder / "base")
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules=list(trainer.PROJECTIONS), init_lora_weights=False
    )
    trainer.save_adapter(get_peft_model(model, lora), "random", folder / "adapter")
    store = open_store(str(folder / "store"))
    meta = AdapterMeta(
        base=BaseInfo(id="random", revision="benchmark", uri=str(folder / "base")),
        prompt=PromptInfo(name=prompt.template, version=str(prompt.version), max_tokens=prompt.max_tokens),
        threshold=0.5,
        languages=("en",),
        created="2026-10-01",
    )
    manifest = Registry(store).publish("QC", folder / "adapter", meta)
    size = options.pairs
    cut = [pairs[start : start + size] for start in range(0, needed, size)]
    return store, manifest, folder / "adapter", list(zip(cut[::2], cut[1::2], strict=True))


_PEER: Any = None


def load_peer(base: str, adapter: str) -> None:
    """Loads the peer's model, in its process."""
    global _PEER
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    _PEER = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()


def score_peer(batches: Sequence[Sequence[list[int]]], answers: tuple[int, int]) -> tuple[list[float], list[float]]:
    """p(yes) of each prompt, and the seconds of each batch: padded on the right, full logits, as a first script would do it."""
    import torch

    scores, seconds = list[float](), list[float]()
    for prompts in batches:
        begun = time.perf_counter()
        longest = max(len(ids) for ids in prompts)
        ids = torch.tensor([prompt + [0] * (longest - len(prompt)) for prompt in prompts])
        mask = torch.tensor([[1] * len(prompt) + [0] * (longest - len(prompt)) for prompt in prompts])
        with torch.inference_mode():
            logits = _PEER(input_ids=ids, attention_mask=mask).logits
        last = logits[torch.arange(len(prompts)), mask.sum(1) - 1][:, list(answers)]
        scores += torch.softmax(last.double(), 1)[:, 0].tolist()
        seconds.append(time.perf_counter() - begun)
    return scores, seconds


def peer_peak() -> int:
    """The largest memory of the process that asks, in KB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_of(process: int) -> int:
    """The largest memory of a process, in KB."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    main()
