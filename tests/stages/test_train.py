"""Training: what is learned, from which rows, in which order, and that a killed training ends with the same bytes."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from relevance_core import config
from relevance_core.config import EngineSettings, TrainSettings
from relevance_core.errors import DataError, ModelError
from relevance_core.models.base_ref import BaseRef, answer_ids
from relevance_core.models.lm import load_base, pad, shared_start
from relevance_core.models.ranks import Rank
from relevance_core.models.trainer import (
    PROJECTIONS,
    Example,
    Job,
    _collate,
    _part,
    answer_loss,
    last_checkpoint,
    plan_batches,
    train,
)
from relevance_core.processes import forked, take_on
from relevance_core.prompts import Prompt, Template, prompt_from
from relevance_core.runs.artifacts import Report, Rows, open_artifact
from relevance_core.runs.stage import Inputs, stage
from relevance_core.scoring.scorer import Scorer
from relevance_core.sources import read_labelled
from relevance_core.stages.train import stage as train_stage
from relevance_core.stages.train.tapt import first_training
from relevance_core.store import Store
from tests.support.loop import environment
from tests.support.models_fixture import make_tokenizer, save_base, signal_rows
from tests.support.places import REAL_TERMS
from tests.support.stage_cases import artifact, by_role

PROMPT = Prompt("compact", 1, False, 64)
ENGINE = EngineSettings(device="cpu")
ROWS = signal_rows(160)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def make_job(base: Path, tmp_path: Path) -> Callable[..., Job]:
    def make(name: str = "job", prompt: Prompt = PROMPT, **settings: Any) -> Job:
        values = TrainSettings(**{"epochs": 1, "batch_size": 16, "r": 4, "alpha": 8, **settings})
        return Job(BaseRef("tiny-base", str(base)), prompt, values, ENGINE, 1, tmp_path / name / "work", tmp_path / name / "out")

    return make


def sha256(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_rule_of_the_rows_is_learned(make_job: Callable[..., Job], base: Path) -> None:
    """After three epochs every relevant pair scores above 0.8 and every other one below 0.2, with dropout off when scoring."""
    rows, job = signal_rows(400), make_job(epochs=3, r=32, alpha=64)
    result = train(rows, job)
    scorer = Scorer(base, job.out, PROMPT, ENGINE)
    p = scorer.score(rows.select("task", "query", "target", "english").iter_rows())
    relevant = rows["label"].to_numpy() == 1
    assert p[relevant].min() > 0.8
    assert p[~relevant].max() < 0.2
    assert result["steps"] == 75
    assert result["rows"] == 400
    assert result["loss"][-1]["step"] == 75
    assert result["final_loss"] == result["loss"][-1]["loss"] < result["loss"][0]["loss"]


def test_the_adapter_is_plain_lora_and_names_no_machine(make_job: Callable[..., Job]) -> None:
    """A and B for the seven projections of both layers, nothing else; the configuration holds the base's id and no path."""
    job = make_job()
    result = train(ROWS, job)
    assert sorted(sha256(job.out)) == ["adapter_config.json", "adapter_model.safetensors"]
    tensors = load_file(job.out / "adapter_model.safetensors")
    assert len(tensors) == 2 * 7 * 2
    assert all(any(f".{name}.lora_" in tensor for name in PROJECTIONS) for tensor in tensors)
    assert result["parameters"] == sum(tensor.numel() for tensor in tensors.values())
    values = json.loads((job.out / "adapter_config.json").read_text())
    assert values["base_model_name_or_path"] == "tiny-base"
    assert values["target_modules"] == sorted(PROJECTIONS)
    assert (values["r"], values["lora_alpha"], values["lora_dropout"], values["modules_to_save"]) == (4, 8, 0.1, None)
    assert str(job.out.parent) not in json.dumps(values)


def test_the_same_rows_give_the_same_bytes(make_job: Callable[..., Job]) -> None:
    """Two trainings agree in every byte and in every logged loss; another seed does not."""
    one, two = make_job("one"), make_job("two")
    assert train(ROWS, one) == train(ROWS, two)
    assert sha256(one.out) == sha256(two.out)
    other = Job(one.base, PROMPT, one.settings, ENGINE, 2, one.work.parent / "w2", one.work.parent / "o2")
    train(ROWS, other)
    assert sha256(other.out) != sha256(one.out)


def test_the_loss_is_that_of_the_answer_alone(base: Path, tmp_path: Path) -> None:
    """It is the mean of weight × −log p(answer) over full logits of each row by itself: half of 1.5 and 0.5 times two losses."""
    model, tokenizer = load_base(base)
    yes, no = answer_ids(tokenizer)
    prompts = PROMPT.encode(tokenizer, [("QC", "red shoes", "Shoes", None), ("QC", "a", "b", None)])
    wanted = 0.0
    for ids, answer, weight in zip(prompts, (yes, no), (1.5, 0.5), strict=True):
        wanted += weight * -torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1], 0)[answer].item() / 2
    batch = _collate([[Example(prompts[0], yes, 1.5), Example(prompts[1], no, 0.5)]])
    assert answer_loss(model, 0, **batch).item() == pytest.approx(wanted, rel=1e-5)


def test_a_row_counts_by_its_weight(make_job: Callable[..., Job], base: Path) -> None:
    """Of two labels of a pair, weighing 9 and 1, the heavier one is learned; rows of weight 0 are left out."""
    rows = signal_rows(200)
    weighed = pl.concat(
        [
            rows.with_columns(weight=pl.lit(9.0, pl.Float32)),
            rows.with_columns(label=(1 - pl.col("label")).cast(pl.Int8), weight=pl.lit(1.0, pl.Float32)),
            rows.with_columns(label=(1 - pl.col("label")).cast(pl.Int8), weight=pl.lit(0.0, pl.Float32)),
        ]
    )
    job = make_job(epochs=4, r=32, alpha=64)
    assert train(weighed, job)["rows"] == 400
    p = Scorer(base, job.out, PROMPT, ENGINE).score(rows.select("task", "query", "target", "english").iter_rows())
    assert ((p > 0.5) == (rows["label"].to_numpy() == 1)).all()


@pytest.mark.parametrize(("rows", "what"), [(ROWS.clear(), "no rows"), (ROWS.filter(pl.col("label") == 1), r"the label \[1\]")])
def test_rows_that_teach_nothing_are_an_error(rows: pl.DataFrame, what: str, make_job: Callable[..., Job]) -> None:
    """No rows, or rows of one label, end with what to do about it and leave no adapter."""
    job = make_job()
    with pytest.raises(DataError, match=rf"{what}.*what to do: widen the window"):
        train(rows, job)
    assert not job.out.exists()


def test_a_base_of_another_architecture_is_refused(tmp_path: Path) -> None:
    """GPT-2 fuses q, k and v into one layer of another name: adapting what is left would not be this method."""
    tokenizer = make_tokenizer()
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    job = Job(BaseRef("gpt2", str(tmp_path / "base")), PROMPT, TrainSettings(), ENGINE, 1, tmp_path / "work", tmp_path / "out")
    with pytest.raises(ModelError, match="no layers named q_proj, k_proj, v_proj"):
        train(ROWS, job)


def test_a_plan_takes_each_row_once_an_epoch() -> None:
    """10 rows in batches of 4 are 3 batches an epoch; two and a third epochs are 7 batches, the last 1 of a third order."""
    lengths = [5, 1, 9, 3, 3, 7, 2, 8, 6, 4]
    plan = plan_batches(lengths, 4, 7 / 3, 1)
    assert sorted(map(len, plan[:3])) == sorted(map(len, plan[3:6])) == [2, 4, 4]
    assert sorted(chain(*plan[:3])) == sorted(chain(*plan[3:6])) == list(range(10))
    assert len(plan) == 7
    assert plan[:3] != plan[3:6]
    assert plan == plan_batches(lengths, 4, 7 / 3, 1) != plan_batches(lengths, 4, 7 / 3, 2)


def test_a_plan_puts_like_lengths_together() -> None:
    """Rows of lengths 1 … 400 in batches of 8 are padded by less than 2 % when one stretch holds them all."""
    lengths = np.random.default_rng(1).permutation(np.arange(1, 401)).tolist()
    plan = plan_batches(lengths, 8, 1, 1)
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in plan)
    assert sum(lengths) <= padded < 1.02 * sum(lengths)
    assert [max(lengths[i] for i in batch) for batch in plan] != sorted(max(lengths[i] for i in batch) for batch in plan)


def wasted(lengths: list[int], plan: list[list[int]]) -> float:
    """The share of padding in all tokens that are computed."""
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in plan)
    return 1 - sum(lengths[i] for batch in plan for i in batch) / padded


def test_a_plan_of_two_lengths_pads_one_batch_of_a_stretch() -> None:
    """Of 7 rows of length 1 and 5 of length 3 in batches of 4, the one mixed batch has 3 × 2 padded tokens of 7 + 15 + 6."""
    assert wasted([1, 3] * 5 + [1, 1], plan_batches([1, 3] * 5 + [1, 1], 4, 1, 1)) == pytest.approx(6 / 28)


def test_little_is_padded_at_the_default_batch_size() -> None:
    """Lengths spread like those of prompts, 8 to 60 with most around 24, leave less than 5 % of padding."""
    spread = np.random.default_rng(1).lognormal(np.log(24), 0.4, 20_000)
    lengths = np.clip(spread.round(), 8, 60).astype(int).tolist()
    assert wasted(lengths, plan_batches(lengths, TrainSettings().batch_size, 1, 1)) < 0.05


@pytest.mark.real_terms
@pytest.mark.skipif(not REAL_TERMS.is_dir(), reason="needs the multilingual terms beside the checkout")
@pytest.mark.parametrize("template", ["compact", "instruction"])
def test_little_is_padded_on_real_terms(template: Template) -> None:
    """The real terms' prompts, less the start that they share, leave less than 5 % of padding at the default batch size."""
    rows = read_labelled(str(REAL_TERMS / "qc_dev.jsonl.gz"))
    texts = rows.select("task", "query", "target", english=pl.lit(None, pl.String))
    prompts = Prompt(template, 1, False, 400).encode(make_tokenizer(), texts.iter_rows())
    shared = shared_start(prompts)
    lengths = [len(ids) - shared for ids in prompts]
    assert wasted(lengths, plan_batches(lengths, TrainSettings().batch_size, 1, 1)) < 0.05


def test_the_gradient_is_that_of_the_plain_path(base: Path) -> None:
    """Without dropout, the start computed once and one position's logits give the gradients of the model's own loss over all
    logits of the padded batch, to 1e-5 of their norm.
    """
    model, tokenizer = load_base(base)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=list(PROJECTIONS))).train()
    torch.manual_seed(3)
    trained = [tensor for tensor in adapted.parameters() if tensor.requires_grad]
    for tensor in trained:
        torch.nn.init.normal_(tensor, std=0.2)
    yes, no = answer_ids(tokenizer)
    texts = [("QC", "red shoes", "Sports > Shoes", None), ("QC", "a", "b", None), ("QC", "blauer mantel", "Steel > Bottle", None)]
    prompts = Prompt("instruction", 1, False, 400).encode(tokenizer, texts)
    examples = [Example(ids, answer, 1.0) for ids, answer in zip(prompts, (yes, no, no), strict=True)]
    assert len({len(ids) for ids in prompts}) == 3
    shared = shared_start(prompts)
    assert shared > 50

    ours = answer_loss(adapted.get_base_model(), shared, **_collate([examples]))
    gradients = torch.autograd.grad(ours, trained)

    ids, lengths = pad([[*example.ids, example.answer] for example in examples])
    places = torch.arange(ids.shape[1])[None]
    labels = torch.where(places == lengths[:, None] - 1, ids, -100)
    plain = adapted(input_ids=ids, attention_mask=(places < lengths[:, None]).long(), labels=labels).loss
    wanted = torch.autograd.grad(plain, trained)

    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    difference = torch.cat([(a - b).flatten() for a, b in zip(gradients, wanted, strict=True)])
    assert difference.norm() < 1e-5 * torch.cat([tensor.flatten() for tensor in wanted]).norm()


def test_the_shared_start_changes_nothing_that_matters(make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """The instruction template's losses with its start computed once are those with it computed for every row, up to rounding."""
    prompt = Prompt("instruction", 1, False, 400)
    shared = train(ROWS[:64], make_job("shared", prompt, dropout=0))
    monkeypatch.setattr("relevance_core.models.lm.LEAST_SHARED", 10_000)
    plain = train(ROWS[:64], make_job("plain", prompt, dropout=0))
    assert [log["loss"] for log in shared["loss"]] == pytest.approx([log["loss"] for log in plain["loss"]], rel=1e-3)


def test_what_is_computed_again_is_the_same(make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dropout, the losses of a training with gradient checkpointing are those without it, the shared start in both."""
    prompt = Prompt("instruction", 1, False, 400)
    plain = train(ROWS[:64], make_job("plain", prompt, dropout=0))
    monkeypatch.setattr("relevance_core.models.trainer._checkpoints", lambda *_: True)
    again = train(ROWS[:64], make_job("again", prompt, dropout=0))
    assert [log["loss"] for log in again["loss"]] == pytest.approx([log["loss"] for log in plain["loss"]], rel=1e-4)


def test_processes_share_a_batch_without_changing_its_mean() -> None:
    """Of 3 rows weighing 1, 2 and 6 the first of two processes has 1 and 6, the other 2: the mean of their means is 3. A process
    without a row has one that does not count.
    """
    batch = [Example([number], 0, weight) for number, weight in enumerate((1.0, 2.0, 6.0))]
    parts = [_part(Rank(number, 2), batch) for number in range(2)]
    assert [[example.ids[0] for example in part] for part in parts] == [[0, 2], [1]]
    means = [sum(example.weight for example in part) / len(part) for part in parts]
    assert sum(means) / 2 == pytest.approx(3)
    assert [example.weight for example in _part(Rank(1, 2), batch[:1])] == [0]
    assert _part(Rank(), batch) is batch


@pytest.mark.slow
def test_two_processes_learn_what_one_does(make_job: Callable[..., Job]) -> None:
    """Without dropout two processes with half of each batch end with the adapter of one, to 1e-4, and with its losses."""
    prompt = Prompt("instruction", 1, False, 400)
    one, two = make_job("one", prompt, dropout=0), make_job("two", prompt, dropout=0)
    result = train(ROWS[:72], one)
    shared = train(ROWS[:72], replace(two, engine=EngineSettings(device="cpu", gpus=2)))
    assert (shared["steps"], shared["rows"], shared["parameters"]) == (5, 72, result["parameters"])
    assert [log["loss"] for log in shared["loss"]] == pytest.approx([log["loss"] for log in result["loss"]], rel=1e-4)
    wanted, found = (load_file(job.out / "adapter_model.safetensors") for job in (one, two))
    assert max((found[name] - tensor).abs().max().item() for name, tensor in wanted.items()) < 1e-4


@pytest.mark.slow
def test_an_error_in_a_process_is_told(make_job: Callable[..., Job]) -> None:
    """What one of the processes raises is the error of the training, with the setting that made them."""
    job = make_job("none")
    job = replace(job, base=BaseRef("none", str(job.work / "none")), engine=EngineSettings(device="cpu", gpus=2))
    with pytest.raises(ModelError, match=r"a process of the training failed: .*can't be loaded.*engine\.gpus = 2"):
        train(ROWS, job)


def test_an_unfinished_checkpoint_is_not_used(tmp_path: Path) -> None:
    """Of the checkpoints 9, 10 and 20, the last without its marker, 10 is the one to go on from."""
    for step in (9, 10, 20):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert last_checkpoint(tmp_path) is None
    (tmp_path / "checkpoint-9" / "complete").touch()
    (tmp_path / "checkpoint-10" / "complete").touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_a_training_that_died_after_its_last_step_is_not_repeated(
    make_job: Callable[..., Job], caplog: pytest.LogCaptureFixture
) -> None:
    """Started again with all its checkpoints, a training takes no step more and writes the same adapter and losses."""
    job = make_job()
    result, files = train(ROWS, job), sha256(job.out)
    shutil.rmtree(job.out)
    caplog.set_level("INFO", "relevance_core")
    assert train(ROWS, job) == result
    assert caplog.messages == ["training on 160 rows in 10 steps", "training goes on from step 10 of 10"]
    assert sha256(job.out) == files


def train_there(variables: dict[str, str], base: Path, folder: Path) -> None:
    """A training of some seconds in a process of its own; its log is the file `said`."""
    take_on(variables)
    settings = TrainSettings(epochs=8, batch_size=4, r=4, save_steps=10)
    ref, prompt = BaseRef("b", str(base)), Prompt("compact", 1, False, 64)
    job = Job(ref, prompt, settings, EngineSettings(device="cpu"), 1, folder / "work", folder / "out")
    logger = logging.getLogger("relevance_core")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.FileHandler(folder / "said", mode="w"))
    result = train(ROWS, job)
    (folder / "out" / "result.json").write_text(str(result))


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_bytes(base: Path, tmp_path: Path) -> None:
    """SIGKILL after a checkpoint and a second try from there give the adapter and the losses of an undisturbed training."""

    def start(name: str) -> ForkServerProcess:
        (tmp_path / name).mkdir(exist_ok=True)
        process = forked().Process(target=train_there, args=(environment(), base, tmp_path / name))
        process.start()
        return process

    whole = start("whole")
    whole.join(300)
    assert whole.exitcode == 0
    killed = start("killed")
    deadline = time.monotonic() + 300
    while last_checkpoint(tmp_path / "killed/work") is None and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.kill()
    killed.join(10)
    assert killed.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed/out").exists()
    again = start("killed")
    again.join(300)
    assert again.exitcode == 0
    assert "training goes on from step" in (tmp_path / "killed/said").read_text()
    assert sha256(tmp_path / "killed/out") == sha256(tmp_path / "whole/out")


SETTINGS = config.build({"train": {"epochs": 1, "r": 4}, "engine": {"device": "cpu"}})


def stage_inputs(base: Path, store: Store, **more: Any) -> Inputs:
    """The outputs of *base* and *denoise* that the stage reads, and what the run pinned."""

    @stage("base", uses=())
    def make_base(settings: Any, inputs: Any, out: Any) -> Report:
        out.folder("model", base)
        about = {"id": "b@1", "model": "builtin:tiny", "revision": "main", "address": out.address, "folds": 0}
        out.json("base", about)
        return Report(Rows())

    @stage("denoise", uses=())
    def make_rows(settings: Any, inputs: Any, out: Any) -> Report:
        out.table("train", ROWS)
        return Report(Rows())

    made = {"base": make_base(SETTINGS, Inputs(), store), "denoise": make_rows(SETTINGS, Inputs(task="QC"), store)}
    artifacts = {name: open_artifact(store, report.address) for name, report in made.items()}
    return Inputs(by_role("train", {name: artifact for name, artifact in artifacts.items() if artifact}), "QC", **more)


def test_the_stage_leaves_an_adapter(base: Path, store: Store) -> None:
    """Run on the rows of *denoise*, the stage leaves the adapter, its losses and figures, and finds them again the second time."""

    settings, inputs = SETTINGS, stage_inputs(base, store)
    report = train_stage.run(settings, inputs, store)
    assert report.rows.as_json() == {"in": 160, "made": 0, "kept": 160, "quarantined": 0, "dropped": 0, "reasons": {}}
    assert report.figures["steps"] == 3
    assert report.figures["base"] == "b@1"
    artifact = open_artifact(store, report.address)
    assert artifact is not None
    assert sorted(artifact.files) == [
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "adapter/golden.json",
        "training.json",
    ]
    assert artifact.json("training")["loss"][-1]["step"] == 3
    golden = artifact.json("adapter/golden")
    scorer = Scorer(base, artifact.folder("adapter"), prompt_from(settings), settings.engine)
    scores = scorer.score_ids([row["ids"] for row in golden["rows"]])
    assert scores == pytest.approx([row["p"] for row in golden["rows"]])
    assert train_stage.run(settings, inputs, store).found
    store.delete(f"{report.address}/manifest.json")
    again = train_stage.run(settings, inputs, store)
    assert (again.found, again.digest) == (False, report.digest)


def adapter_of(store: Store, report: Report) -> dict[str, torch.Tensor]:
    artifact = open_artifact(store, report.address)
    assert artifact is not None
    tensors: dict[str, torch.Tensor] = load_file(artifact.path("adapter/adapter_model.safetensors"))
    return tensors


def test_weights_of_another_shape_are_not_begun_with(make_job: Callable[..., Job]) -> None:
    """An adapter of rank 4 is no beginning for one of rank 8: the error says so before the training begins."""
    one, other = make_job("one"), make_job("other", r=8)
    train(ROWS, one)
    with pytest.raises(ModelError, match="the adapter to begin with differs in"):
        train(ROWS, replace(other, start=one.out))


def with_translate(inputs: Inputs, store: Store, rows: pl.DataFrame) -> Inputs:
    """Those inputs, and *translate* with the training rows of both tasks."""
    return replace(inputs, artifacts={**inputs.artifacts, "other_rows": artifact(store, "translate", {"train": rows})})


OTHER_ROWS = signal_rows(48).with_columns(task=pl.lit("QI"), label=(1 - pl.col("label")).cast(pl.Int8))


def test_a_first_training_is_where_the_task_begins(base: Path, store: Store) -> None:
    """48 rows of QI once, in batches of 16, are 3 steps; the report counts QC's rows alone."""
    values = {"epochs": 1, "r": 4, "batch_size": 16, "tapt": "other-task", "tapt_epochs": 1.0}
    settings = config.build({"train": values, "engine": {"device": "cpu"}})
    both = pl.concat([ROWS, OTHER_ROWS])
    report = train_stage.run(settings, with_translate(stage_inputs(base, store), store, both), store)
    tapt = report.figures["tapt"]
    assert (tapt["kind"], tapt["rows"], tapt["steps"]) == ("other-task", 48, 3)
    assert report.rows.as_json()["in"] == report.rows.as_json()["kept"] == 160


def test_the_weights_of_the_first_training_are_begun_with(make_job: Callable[..., Job], store: Store) -> None:
    """What `first_training` leaves is an adapter of QI's rows alone: the same bytes as a training on them, of its own epochs."""
    job = make_job("task", epochs=2)
    settings = config.build({"train": job.settings.model_dump() | {"tapt": "other-task", "tapt_epochs": 1}})
    rows = pl.concat([ROWS, OTHER_ROWS])
    folder, told = first_training(settings, "QC", artifact(store, "translate", {"train": rows}), job)
    assert folder is not None
    alone = make_job("alone", epochs=1)
    result = train(OTHER_ROWS, alone)
    assert sha256(folder) == sha256(alone.out)
    assert told == {"kind": "other-task"} | {name: result[name] for name in ("rows", "steps", "final_loss")}
    begun, cold = (replace(job, settings=job.settings.model_copy(update={"learning_rate": 1e-12}), out=job.out / n) for n in "ab")
    train(ROWS, replace(begun, start=folder, work=job.work / "a"))
    train(ROWS, replace(cold, work=job.work / "b"))
    first, second, nothing = (load_file(path / "adapter_model.safetensors") for path in (folder, begun.out, cold.out))
    assert all(torch.allclose(second[name], tensor, atol=1e-6) for name, tensor in first.items())
    assert any(not torch.allclose(nothing[name], tensor, atol=1e-4) for name, tensor in first.items())


def test_without_rows_there_is_no_first_training(base: Path, store: Store) -> None:
    """Where the other task has one label alone, the task begins from nothing, with the bytes of a plain training, and says why."""
    values = SETTINGS.train.model_dump() | {"tapt": "other-task"}
    settings = config.build({"train": values, "engine": {"device": "cpu"}})
    inputs = with_translate(stage_inputs(base, store), store, pl.concat([ROWS, OTHER_ROWS.filter(label=1)]))
    report, plain = train_stage.run(settings, inputs, store), train_stage.run(SETTINGS, stage_inputs(base, store), store)
    assert report.figures["tapt"] == {"kind": "other-task", "skipped": "QI has no training rows of both labels"}
    assert all(torch.equal(adapter_of(store, plain)[name], tensor) for name, tensor in adapter_of(store, report).items())
