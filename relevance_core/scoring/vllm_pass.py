"""A scoring pass of vLLM's offline engine: a program for the Python of vLLM's environment that imports nothing of this package.

    python -P vllm_pass.py FOLDER

FOLDER has pass.json ({model, adapter or null, max_rank, dtype, longest, answers: [yes, no]}), ids.npy (int32: the token ids of all
prompts, concatenated) and lengths.npy (int64: tokens of each prompt). The program writes scores.npy: p(yes) of each, float64. Each
line of standard output is the number of prompts done.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

CHUNK: Final = 4096
_ON_CPU: Final = {
    # The default of 128 tokens is longer than a prompt's common prefix; 32 is the smallest.
    "block_size": 32,
    # Neither a C++ compiler nor a separate process for the only worker saves more time than it takes to start.
    "enforce_eager": True,
    "distributed_executor_backend": "uni",
}


def main(folder: Path) -> None:
    """Reads the pass from `folder`, scores it, and writes the scores."""
    gc.set_threshold(100_000)  # as processes.collect_rarely, which can't be imported here
    import torch

    on_gpu = torch.cuda.is_available()
    if not on_gpu:  # functions outside enforce_eager's reach would need a C++ compiler
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    job = json.loads((folder / "pass.json").read_text())
    options: dict[str, Any] = {} if on_gpu else _ON_CPU
    adapter = None
    if job["adapter"] is not None:
        adapter = LoRARequest("adapter", 1, job["adapter"])
        options = options | {"enable_lora": True, "max_lora_rank": job["max_rank"], "max_loras": 1}
    engine = LLM(
        model=job["model"], dtype=job["dtype"], max_model_len=job["longest"] + 1, enable_prefix_caching=True, seed=0, **options
    )
    ids = np.split(np.load(folder / "ids.npy"), np.cumsum(np.load(folder / "lengths.npy"))[:-1])
    asked = SamplingParams(max_tokens=1, temperature=0, logprobs=2, logprob_token_ids=job["answers"])
    margins: list[float] = []
    for at in range(0, len(ids), CHUNK):
        prompts = [{"prompt_token_ids": prompt.tolist()} for prompt in ids[at : at + CHUNK]]
        found = engine.generate(prompts, asked, lora_request=adapter, use_tqdm=False)
        margins += [margin(result.outputs[0].logprobs[0], *job["answers"]) for result in found]
        print(len(margins), flush=True)  # noqa: T201 - the parent process reads it
    np.save(folder / "scores.npy", 1 / (1 + np.exp(-np.array(margins))))


def margin(logprobs: Any, yes: int, no: int) -> float:
    """Returns l_yes − l_no from an answer's log-probabilities by token."""
    return float(logprobs[yes].logprob - logprobs[no].logprob)


if __name__ == "__main__":  # the engine's processes import this file anew
    main(Path(sys.argv[1]))
