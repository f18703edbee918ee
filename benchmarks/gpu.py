"""How close scoring and training come to what the device can compute, with random weights of Qwen3-14B's shape.

    python benchmarks/gpu.py --size full --out benchmarks/out/gpu.json      on a GPU of 80 GB
    python benchmarks/gpu.py --size tiny --out benchmarks/out/gpu.json      a model of 0.6 M weights, on any machine

The model is made on the device from its configuration, in bfloat16 on a GPU, and goes through the project's own `Scorer` and
`train`, which load a base where this puts its own. Prompts are the instruction prompt of the simulated shop with the queries and
targets of three rows each, so that they have about 100 tokens of which two thirds are shared. They are cut by the shop's tokenizer,
whose ids a larger vocabulary has too.

What is counted is the work that is done: tokens that are shared count once, padding not at all. N are the weights of the blocks'
linear layers and L those of LoRA. A token costs 2N operations forward and, with frozen weights, which need no gradient, 2N
backward; LoRA costs 2L forward and 4L backward; attention costs 4 × layers × heads × head size for each token that a token looks
at, and twice that backward; the output head costs two rows a pair in scoring, and 2 × hidden × vocabulary forward and as much
backward in training. The last block's output projection and MLP count for one token a row. Norms, softmax and the optimiser are not
counted.

The limit is the speed of a square matrix product in the same precision, measured right before, or --tflops. It writes {device,
tflops, parameters, prompt: {tokens, shared}, scoring: {pairs_s, limit_pairs_s, share, peak_mb}, training: {examples_s, share,
peak_mb}}; the last two have `profile` too, the kernels (on a CPU the operators) that took longest: [{name, ms, share, calls}].
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, TrainerCallback, trainer

PROJECT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from benchmarks import shop  # noqa: E402 - a script's folder is not the project's
from relevance_core.config import EngineSettings, TrainSettings  # noqa: E402
from relevance_core.models import trainer as trainer_module  # noqa: E402
from relevance_core.models.base_ref import BaseRef  # noqa: E402
from relevance_core.models.lm import shared_start  # noqa: E402
from relevance_core.scoring import scorer as scorer_module  # noqa: E402

QWEN3_14B: Final = {
    "model_type": "qwen3", "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 8,
    "head_dim": 128, "intermediate_size": 17408, "vocab_size": 151936, "max_position_embeddings": 40960, "rope_theta": 1e6,
    "tie_word_embeddings": False,
}  # fmt: skip
TINY: Final = QWEN3_14B | {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 128, "vocab_size": 4096,
}  # fmt: skip
RANK: Final = 32
_WARM_STEPS: Final = 2
_PROFILED_STEPS: Final = 2
_TOP: Final = 15


@dataclass(frozen=True)
class Size:
    """What is measured: the model's configuration, pairs of a scoring pass, steps and batch of a training, width of a product."""

    config: dict[str, Any]
    pairs: int
    steps: int
    batch: int
    product: int


SIZES: Final = {
    "full": Size(QWEN3_14B, pairs=8192, steps=16, batch=TrainSettings().batch_size, product=8192),
    "tiny": Size(TINY, pairs=64, steps=8, batch=8, product=256),
}


def main() -> None:
    """Parses the arguments, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument("--tflops", type=float, help="what the device can do; default: measured")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    result = measure(SIZES[options.size], options.tflops)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    for name in ("scoring", "training"):
        figures = {key: value for key, value in result[name].items() if key != "profile"}
        print(name, json.dumps(figures))
        for kernel in result[name]["profile"]:
            print(f"  {kernel['share']:6.1%} {kernel['ms']:10.1f} ms {kernel['calls']:7} × {kernel['name'][:100]}")


def measure(size: Size, tflops: float | None) -> dict[str, Any]:
    """Everything of the result, scoring first: training changes the model."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    limit = tflops or product_tflops(size.product, device, dtype)
    torch.manual_seed(17)
    with device:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**size.config), dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(shop.base())
    for module in (scorer_module, trainer_module):
        vars(module)["load_base"] = lambda *_: (model, tokenizer)
    work = Work.of(model)
    rows = long_rows(max(size.pairs, size.steps * size.batch))
    prompts = shop.prompt().encode(tokenizer, rows.select("task", "query", "target", "english").iter_rows())
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "tflops": limit,
        "parameters": sum(p.numel() for p in model.parameters()),
        "prompt": {"tokens": sum(map(len, prompts)) / len(prompts), "shared": shared_start(prompts)},
        "scoring": scoring(work, prompts[: size.pairs], limit, device),
        "training": training(work, rows.head(size.steps * size.batch), prompts, size, limit, device),
    }


@dataclass(frozen=True)
class Work:
    """Operations of one token, by the docstring of this module.

    linear, last: weights of all blocks' linear layers, and of those of the last block that only its last token needs. lora,
    last_lora: LoRA's weights in them. looks: for each token that a token looks at. head: hidden × vocabulary.
    """

    linear: int
    last: int
    lora: int
    last_lora: int
    looks: int
    hidden: int
    head: int

    @staticmethod
    def of(model: Any) -> Work:
        """Of a Qwen3."""
        config = model.config
        layers = {name: part.weight.shape for name, part in model.model.layers.named_modules() if hasattr(part, "in_features")}
        late = f"{config.num_hidden_layers - 1}."
        last = [a * b for name, (a, b) in layers.items() if name.startswith(late) and ("mlp" in name or "o_proj" in name)]
        last_sides = [a + b for name, (a, b) in layers.items() if name.startswith(late) and ("mlp" in name or "o_proj" in name)]
        return Work(
            linear=sum(a * b for a, b in layers.values()),
            last=sum(last),
            lora=RANK * sum(a + b for a, b in layers.values()),
            last_lora=RANK * sum(last_sides),
            looks=4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim,
            hidden=config.hidden_size,
            head=config.hidden_size * config.vocab_size,
        )

    def forward(self, prompts: Sequence[Sequence[int]], starts: int) -> tuple[float, float, float]:
        """(linear, LoRA's, attention's) operations of the prompts whose shared start is computed `starts` times."""
        shared = shared_start(list(map(list, prompts)))
        own = sum(len(ids) - shared for ids in prompts)
        tokens = own + starts * shared
        looked = sum((len(ids) ** 2 - shared**2) / 2 for ids in prompts) + starts * shared**2 / 2
        ends = len(prompts) + starts
        linear = 2.0 * ((self.linear - self.last) * tokens + self.last * ends)
        lora = 2.0 * ((self.lora - self.last_lora) * tokens + self.last_lora * ends)
        return linear, lora, self.looks * looked

    def scored(self, prompts: Sequence[Sequence[int]]) -> float:
        """Operations of a scoring pass, the adapter merged."""
        linear, _, attention = self.forward(prompts, starts=1)
        return linear + attention + 2.0 * 2 * self.hidden * len(prompts)

    def trained(self, prompts: Sequence[Sequence[int]], steps: int) -> float:
        """Operations of an epoch of `steps` steps, without those that gradient checkpointing would repeat."""
        linear, lora, attention = self.forward(prompts, starts=steps)
        return 2 * linear + 3 * lora + 3 * attention + 4.0 * self.head * len(prompts)


def scoring(work: Work, prompts: list[list[int]], limit: float, device: torch.device) -> dict[str, Any]:
    """Pairs a second of `Scorer.score_ids`, after one pass that warms up."""
    from torch.profiler import profile

    scorer = scorer_module.Scorer("random", None, shop.prompt(), EngineSettings(device=device.type))

    def once() -> None:
        scorer.score_ids(prompts)

    once()
    reset_peak(device)
    begun = time.perf_counter()
    once()
    pairs_s = len(prompts) / (time.perf_counter() - begun)
    limit_pairs_s = limit * 1e12 * len(prompts) / work.scored(prompts)
    peak = peak_mb(device)
    figures = {"pairs_s": pairs_s, "limit_pairs_s": limit_pairs_s, "share": pairs_s / limit_pairs_s, "peak_mb": peak}
    with profile(activities=activities(device)) as profiler:
        once()
    return figures | {"profile": longest(profiler, device)}


def training(
    work: Work, rows: pl.DataFrame, prompts: list[list[int]], size: Size, limit: float, device: torch.device
) -> dict[str, Any]:
    """Examples a second of `train`, from the end of its second step to that of its last."""
    from torch.profiler import profile

    settings = TrainSettings(epochs=1, batch_size=size.batch, r=RANK, alpha=2 * RANK, save_steps=10_000)
    ends: list[float] = []
    profiler = profile(activities=activities(device))

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers ships no types that mypy is shown
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            synchronise(device)
            ends.append(time.perf_counter())
            if state.global_step == size.steps - _PROFILED_STEPS:
                profiler.start()
            elif state.global_step == size.steps:
                profiler.stop()

    trainer.DEFAULT_CALLBACKS.append(Clock)
    reset_peak(device)
    with tempfile.TemporaryDirectory() as name:
        base, engine, folder = BaseRef("random", "random"), EngineSettings(device=device.type), Path(name)
        job = trainer_module.Job(base, shop.prompt(), settings, engine, 17, folder / "work", folder / "out")
        trainer_module.train(rows.with_columns(weight=pl.lit(1.0, pl.Float32)), job)
    counted = size.steps - _WARM_STEPS - _PROFILED_STEPS
    examples_s = counted * size.batch / (ends[_WARM_STEPS + counted - 1] - ends[_WARM_STEPS - 1])
    # Steps differ in nothing but their rows' lengths, so those that are counted do the mean step's work.
    used = work.trained(prompts[: len(rows)], size.steps) / len(rows) * examples_s / 1e12
    figures = {"examples_s": examples_s, "share": used / limit, "peak_mb": peak_mb(device)}
    return figures | {"profile": longest(profiler, device)}


def long_rows(count: int) -> pl.DataFrame:
    """Rows of the shop with the queries and the targets of three rows each."""
    rows = shop.rows(3 * count)
    thirds = [rows.slice(number * count, count) for number in range(3)]
    joined = {
        name: pl.Series([sign.join(parts) for parts in zip(*(third[name] for third in thirds), strict=True)])
        for name, sign in (("query", " "), ("target", ","))
    }
    return thirds[0].with_columns(**joined)


def product_tflops(width: int, device: torch.device, dtype: torch.dtype) -> float:
    """10^12 operations a second of the product of two square matrices."""
    left, right = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    rounds = 50
    for number in range(rounds + 5):
        if number == 5:
            synchronise(device)
            begun = time.perf_counter()
        left @ right
    synchronise(device)
    return rounds * 2 * width**3 / (time.perf_counter() - begun) / 1e12


def activities(device: torch.device) -> list[Any]:
    """What a profiler records on the device."""
    from torch.profiler import ProfilerActivity

    return [ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU]


def longest(profiler: Any, device: torch.device) -> list[dict[str, Any]]:
    """The kernels (on a CPU the operators) that took longest, by themselves."""
    name = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, name))
    total = sum(getattr(event, name) for event in events)
    return [
        {
            "name": event.key,
            "ms": getattr(event, name) / 1000,
            "share": getattr(event, name) / total,
            "calls": event.count,
        }
        for event in events[:_TOP]
    ]


def synchronise(device: torch.device) -> None:
    """Waits for a GPU to finish."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def reset_peak(device: torch.device) -> None:
    """Forgets the GPU's largest memory so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_mb(device: torch.device) -> float:
    """The largest memory on the GPU since it was forgotten, or of this process, in MB (2^20 bytes)."""
    from benchmarks import turns

    return torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else turns.peak_mb()


if __name__ == "__main__":
    main()
