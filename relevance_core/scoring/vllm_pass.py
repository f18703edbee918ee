"""A scoring pass of vLLM's offline engine: a program for the Python of vLLM's environment, which knows nothing of this package.

    python -P vllm_pass.py FOLDER

FOLDER has pass.json ({model, adapter or null, max_rank, dtype, longest, answers: [yes, no]}), ids.npy (int32: the token ids of all
prompts, one after another) and lengths.npy (int64: tokens of each prompt). It gets scores.npy: p(yes) of each, float64. Lines of
standard output say how many prompts are done.
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
    # The default of 128 tokens is longer than a prompt's start; 32 is the smallest.
    "block_size": 32,
    # Neither a C++ compiler nor a process of its own for the one worker earns back what it costs to start.
    "enforce_eager": True,
    "distributed_executor_backend": "uni",
}


def main(folder: Path) -> None:
    """Reads the pass, scores it, writes the scores."""
    gc.set_threshold(100_000)  # engine.collect_rarely, which is not to be had here
    import torch

    on_gpu = torch.cuda.is_available()
    if not on_gpu:  # likewise, for what enforce_eager leaves out
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
        print(len(margins), flush=True)  # noqa: T201 - what the starter reads
    np.save(folder / "scores.npy", 1 / (1 + np.exp(-np.array(margins))))


def margin(logprobs: Any, yes: int, no: int) -> float:
    """l_yes − l_no of an answer's log-probabilities by token."""
    return float(logprobs[yes].logprob - logprobs[no].logprob)


if __name__ == "__main__":  # the engine's processes import this file anew
    main(Path(sys.argv[1]))
