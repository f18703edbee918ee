"""Training: examples per second of the project's trainer, and of what a user would pick instead.

All sides train the same LoRA (rank 32, alpha 64, dropout 0.1, all seven projections) on the same Qwen3 shape in float32, with the
instruction prompt and batches of 32, on rows of the same simulated shop. They save and evaluate nothing. What counts is the time
between the end of the second step and that of the last one, so neither loading nor tokenising is in it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks import shop
from benchmarks.turns import Benchmark, Size

BATCH: Final = 32
_WARM: Final = 2
_STEPS: Final[Mapping[str, Mapping[Size, int]]] = {
    "ours": {"full": 96, "smoke": 4},
    "unshared": {"full": 24, "smoke": 4},
    "others": {"full": 14, "smoke": 4},
}

BENCHMARKS: Final = (
    Benchmark(
        "training, against all logits",
        "examples/s",
        "benchmarks.training:ours",
        "benchmarks.training:plain",
        "transformers Trainer + peft, padded to the longest, full-vocabulary loss",
        wanted=4,
    ),
    Benchmark(
        "training, the shared start",
        "examples/s",
        "benchmarks.training:ours",
        "benchmarks.training:unshared",
        "the same trainer, every row's start computed for itself",
        wanted=2,
    ),
    Benchmark(
        "training, against TRL",
        "examples/s",
        "benchmarks.training:ours",
        "benchmarks.training:sft",
        "TRL SFTTrainer, completion-only loss",
        wanted=2,
    ),
    Benchmark(
        "training, against a classifier",
        "examples/s",
        "benchmarks.training:ours",
        "benchmarks.training:classifier",
        "AutoModelForSequenceClassification + peft Trainer, padded per batch",
        wanted=2,
    ),
)


def ours(size: Size) -> float:
    """`models.trainer.train` as the stage *train* calls it."""
    return _train(_STEPS["ours"][size])


def unshared(size: Size) -> float:
    """The same with no start long enough to be shared."""
    from relevance_core.models import lm

    vars(lm)["LEAST_SHARED"] = 10_000
    return _train(_STEPS["unshared"][size])


def plain(size: Size) -> float:
    """The model's own loss over all logits; every prompt padded to the longest, only the answer labelled."""
    from transformers import AutoModelForCausalLM, Trainer, default_data_collator

    _prepare()
    steps = _STEPS["others"][size]
    prompts, answers, tokenizer = _tokens(steps)
    longest = max(map(len, prompts)) + 1
    data = []
    for ids, answer in zip(prompts, answers, strict=True):
        padding = longest - len(ids) - 1
        data.append(
            {
                "input_ids": [*ids, answer] + [tokenizer.pad_token_id] * padding,
                "attention_mask": [1] * (len(ids) + 1) + [0] * padding,
                "labels": [-100] * len(ids) + [answer] + [-100] * padding,
            }
        )
    model = _adapted(AutoModelForCausalLM.from_pretrained(shop.base(), dtype="float32"), "CAUSAL_LM")

    def work(folder: Path) -> None:
        from transformers import TrainingArguments

        arguments = TrainingArguments(**_options(folder, steps))
        Trainer(model=model, args=arguments, train_dataset=data, data_collator=default_data_collator).train()

    return _examples_per_second(work)


def sft(size: Size) -> float:
    """TRL on the same token ids, the answer alone in the loss. Its defaults, but in float32 and without gradient checkpointing."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    _prepare()
    steps = _STEPS["others"][size]
    prompts, answers, tokenizer = _tokens(steps)
    rows = [
        {"input_ids": [*ids, answer], "completion_mask": [0] * len(ids) + [1]} for ids, answer in zip(prompts, answers, strict=True)
    ]
    model = AutoModelForCausalLM.from_pretrained(shop.base(), dtype="float32")

    def work(folder: Path) -> None:
        arguments = SFTConfig(**_options(folder, steps), completion_only_loss=True, gradient_checkpointing=False, bf16=False)
        SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=_lora("CAUSAL_LM"),
        ).train()

    return _examples_per_second(work)


def classifier(size: Size) -> float:
    """A head of two classes on the last token, prompts padded to the longest of their batch."""
    from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

    _prepare()
    steps = _STEPS["others"][size]
    prompts, answers, tokenizer = _tokens(steps)
    data = [{"input_ids": ids, "labels": int(answer == max(answers))} for ids, answer in zip(prompts, answers, strict=True)]
    model = AutoModelForSequenceClassification.from_pretrained(shop.base(), num_labels=2, dtype="float32")
    adapted = _adapted(model, "SEQ_CLS")

    def work(folder: Path) -> None:
        arguments = TrainingArguments(**_options(folder, steps))
        Trainer(model=adapted, args=arguments, train_dataset=data, data_collator=DataCollatorWithPadding(tokenizer)).train()

    return _examples_per_second(work)


def _train(steps: int) -> float:
    import polars as pl

    from relevance_core.config import EngineSettings, TrainSettings
    from relevance_core.models.base_ref import BaseRef
    from relevance_core.models.trainer import Job, train

    rows = shop.rows(BATCH * steps).with_columns(weight=pl.lit(1.0, pl.Float32))
    settings = TrainSettings(epochs=1, batch_size=BATCH, save_steps=10_000)

    def work(folder: Path) -> None:
        base = BaseRef("random", str(shop.base()))
        job = Job(base, shop.prompt(), settings, EngineSettings(device="cpu"), 17, folder / "work", folder / "out")
        train(rows, job)

    return _examples_per_second(work)


def _examples_per_second(work: Callable[[Path], None]) -> float:
    """Examples per second of the one training that `work` does in a folder. Every Trainer takes up the default callbacks."""
    from transformers import TrainerCallback, trainer

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers ships no types that mypy is shown
        ends: Final[list[float]] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.ends.append(time.perf_counter())

    trainer.DEFAULT_CALLBACKS.append(Clock)
    with tempfile.TemporaryDirectory() as folder:
        work(Path(folder))
    seconds = Clock.ends[-1] - Clock.ends[_WARM - 1]
    return BATCH * (len(Clock.ends) - _WARM) / seconds


def _prepare() -> None:
    import torch
    from transformers import set_seed

    torch.set_num_threads(1)
    set_seed(17)


def _tokens(steps: int) -> tuple[list[list[int]], list[int], Any]:
    """The prompts of as many rows as the steps take, the ids of their answers, and the tokenizer."""
    from transformers import AutoTokenizer

    from relevance_core.models.base_ref import answer_ids

    rows = shop.rows(BATCH * steps)
    tokenizer = AutoTokenizer.from_pretrained(shop.base())
    yes, no = answer_ids(tokenizer)
    prompts = shop.prompt().encode(tokenizer, rows.select("task", "query", "target", "english").iter_rows())
    return prompts, [yes if label else no for label in rows["label"]], tokenizer


def _lora(task: str) -> Any:
    from peft import LoraConfig

    from relevance_core.models.trainer import PROJECTIONS

    return LoraConfig(task_type=task, r=32, lora_alpha=64, lora_dropout=0.1, target_modules=list(PROJECTIONS))


def _adapted(model: Any, task: str) -> Any:
    from peft import get_peft_model

    return get_peft_model(model, _lora(task))


def _options(folder: Path, steps: int) -> dict[str, Any]:
    """What the other sides' training arguments have in common with ours."""
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": BATCH,
        "max_steps": steps,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "linear",
        "use_cpu": True,
        "seed": 17,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
