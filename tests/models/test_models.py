"""The base model and the scorer: what is loaded, that shortcuts change nothing, and that misfits are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PhiConfig, PhiForCausalLM

from relevance_core.config import EngineSettings
from relevance_core.errors import ModelError
from relevance_core.models.base_ref import answer_ids
from relevance_core.models.lm import last_hidden, load_base, pad, prepare, shared_start
from relevance_core.models.trainer import PROJECTIONS, save_adapter
from relevance_core.prompts import PairText, Prompt
from relevance_core.scoring.scorer import Scorer, with_adapter
from tests.support.models_fixture import make_model, make_tokenizer, save_base

ENGINE = EngineSettings(device="cpu")
COMPACT = Prompt("compact", 1, True, 128)
INSTRUCTION = Prompt("instruction", 1, True, 400)
ROWS: list[PairText] = [
    ("QC", "red running shoes", "Sports > Shoes", None),
    ("QC", "blauer mantel", "Clothing > Coats", "blue coat"),
    ("QC", "phone case", "Electronics", None),
    ("QC", "steel water bottle 750 ml for the shop of a shopper", "Sports > Steel > Bottle", "x"),
    ("QC", "a", "b", None),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter whose every matrix is random, so that it changes all scores."""
    model, _ = load_base(base)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=list(PROJECTIONS)))
    torch.manual_seed(3)
    for name, tensor in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(tensor, std=0.2)
    folder = tmp_path_factory.mktemp("adapter")
    save_adapter(adapted, "a base", folder)
    return folder


def plain_scores(base: Path, adapter: Path | None, prompt: Prompt) -> np.ndarray[Any, Any]:
    """p(yes) the plain way: one row at a time, unmerged, full logits, softmax over the two answers."""
    model, tokenizer = load_base(base)
    if adapter:
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
    yes, no = answer_ids(tokenizer)
    scores = []
    for ids in prompt.encode(tokenizer, ROWS):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        scores.append(torch.softmax(logits[[yes, no]], 0)[0].item())
    return np.array(scores)


@pytest.mark.parametrize("prompt", [COMPACT, INSTRUCTION])
@pytest.mark.parametrize("adapted", [False, True])
def test_scores_are_those_of_the_plain_path(prompt: Prompt, adapted: bool, base: Path, adapter: Path) -> None:
    """Sorting, padding, merging, two answer rows and a shared start change no score by more than 1e-5."""
    folder = adapter if adapted else None
    scores = Scorer(base, folder, prompt, ENGINE).score(ROWS)
    assert np.abs(scores - plain_scores(base, folder, prompt)).max() < 1e-5
    assert scores.std() > 1e-3


def test_the_adapter_matters(base: Path, adapter: Path) -> None:
    """The scores with an adapter are not those of the base alone."""
    assert np.abs(plain_scores(base, adapter, COMPACT) - plain_scores(base, None, COMPACT)).max() > 0.01


def test_scoring_nothing_gives_nothing(base: Path) -> None:
    """No rows are no error."""
    assert Scorer(base, None, COMPACT, ENGINE).score([]).shape == (0,)


def test_an_adapter_of_another_shape_is_refused(adapter: Path, tmp_path: Path) -> None:
    """An adapter with tensors for two layers does not go on a base with one."""
    config = make_model(450).config
    config.num_hidden_layers, config.layer_types = 1, config.layer_types[:1]
    small = type(make_model(450))(config)
    with pytest.raises(ModelError, match="the adapter has 14 tensors too many and 0 too few"):
        with_adapter(small, adapter)
    with pytest.raises(ModelError, match="the adapter can't be loaded"):
        with_adapter(make_model(450), tmp_path)


def test_a_base_that_is_not_there_says_how_to_get_it() -> None:
    """A Hugging Face id that is not in the local cache is an error that names the command which fetches it."""
    with pytest.raises(ModelError, match=r"what to do: .*hf download no-one/no-model --revision main"):
        load_base("no-one/no-model")


def test_answers_must_be_single_tokens() -> None:
    """A tokenizer that cuts " yes" in two is refused."""
    tokenizer = make_tokenizer()
    assert answer_ids(tokenizer) == (tokenizer.convert_tokens_to_ids("Ġyes"), tokenizer.convert_tokens_to_ids("Ġno"))
    tokenizer.backend_tokenizer.model.dropout = 1.0
    with pytest.raises(ModelError, match=r"expected: one token each"):
        answer_ids(tokenizer)


def test_a_model_that_scales_its_logits_is_refused(tmp_path: Path) -> None:
    """Two rows of the head are not the logits of a model with a soft cap, so it is not loaded."""
    folder = save_base(tmp_path)
    config = folder / "config.json"
    config.write_text(config.read_text().replace("{", '{"final_logit_softcapping": 30.0,', 1))
    with pytest.raises(ModelError, match=r"final_logit_softcapping = 30\.0"):
        load_base(folder)


def test_a_head_with_a_bias_is_refused(tmp_path: Path) -> None:
    """Phi's output head has a bias, which the difference of two rows would miss."""
    tokenizer = make_tokenizer()
    config = PhiConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    PhiForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="output head has a bias"):
        load_base(tmp_path)


def test_a_missing_gpu_is_an_error() -> None:
    """engine.device = cuda on a machine without one is refused, not silently changed."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ModelError, match=r"engine\.device"):
        prepare(EngineSettings(device="cuda"), 1)


def test_prepare_makes_random_numbers_repeat() -> None:
    """The same seed gives the same numbers, another seed others."""
    drawn = []
    for seed in (5, 5, 6):
        prepare(ENGINE, seed)
        drawn.append((torch.rand(1).item(), float(np.random.rand())))
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.are_deterministic_algorithms_enabled()


def test_the_shared_start_is_what_all_rows_begin_with() -> None:
    """17 common tokens are shared, 15 are not worth it, and each row keeps a token of its own."""
    assert shared_start([[*range(17), 50], [*range(17), 60, 70]]) == 17
    assert shared_start([[*range(15), 50], [*range(15), 60, 70]]) == 0
    assert shared_start([list(range(20)), list(range(20))]) == 19
    assert shared_start([]) == 0


def test_a_shared_start_has_the_same_states_and_gradients() -> None:
    """Computing the start once gives every row's state and every gradient of computing it for each row."""
    model = make_model(450).eval()
    start = list(range(30, 50))
    ids, lengths = pad([[*start, 7], [*start, 9, 8, 7, 6], [*start, 1, 2]])
    states, gradients = [], []
    for shared in (0, 20):
        model.zero_grad()
        states.append(last_hidden(model, ids, lengths, shared))
        states[-1].pow(2).sum().backward()
        gradients.append(torch.cat([tensor.grad.flatten() for tensor in model.parameters() if tensor.grad is not None]))
    assert torch.allclose(states[0], states[1], atol=1e-5)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-3 * gradients[0].abs().max().item())
