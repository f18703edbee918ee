"""Scores by vLLM's offline engine, which caches the keys and values of every prefix that prompts share, not only the template's.

vLLM pins its own torch, so each pass is a process of vLLM's environment (`vllm_pass`), which loads the base, applies the adapter
unmerged, and ends. It uses one GPU and takes half a minute or more to start, so it pays off for long passes.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoTokenizer

from relevance_core.errors import ModelError
from relevance_core.machine import VLLM_ON_CPU, lora_limit
from relevance_core.models.base_ref import BaseRef, answer_ids
from relevance_core.processes import PartLogger, Progress, open_progress
from relevance_core.prompts import PairText, Prompt
from relevance_core.scoring import vllm_pass

log = PartLogger(logging.getLogger(__name__))

_ENVIRONMENT: Final[Mapping[str, str]] = {
    **VLLM_ON_CPU,
    "VLLM_NO_USAGE_STATS": "1",
    # The engine lives in the pass's own process, so that nothing outlives it.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_PLUGINS": "",
}
_LAST_CHARACTERS: Final = 2000


class VllmScorer:
    """Scores pairs like `Scorer`, with vLLM. python: the interpreter of the environment that has vLLM.

    Raises ModelError when the base's tokenizer does not have yes and no as single tokens.
    """

    def __init__(self, base: BaseRef, adapter: Path | None, prompt: Prompt, python: Path) -> None:
        self._base, self._adapter, self._prompt, self._python = base, adapter, prompt, python
        self._tokenizer = AutoTokenizer.from_pretrained(base.source, revision=base.revision)
        self.answers = answer_ids(self._tokenizer)
        half = base.dtype == "bfloat16" or (base.dtype == "auto" and torch.cuda.is_available())
        self.dtype = "bfloat16" if half else "float32"

    def encode(self, rows: Iterable[PairText]) -> list[list[int]]:
        """Returns the token ids of each row's prompt."""
        return self._prompt.encode(self._tokenizer, rows)

    def score(self, rows: Iterable[PairText]) -> npt.NDArray[np.float64]:
        """p(yes) of each (task, query, target, english), in the rows' order."""
        return self.score_ids(self.encode(rows))

    def score_ids(self, prompts: Sequence[list[int]]) -> npt.NDArray[np.float64]:
        """p(yes) of each prompt, given as token ids, in their order. Raises ModelError, with vLLM's last words, when it fails."""
        if not prompts:
            return np.empty(0)
        gc.collect()
        torch.cuda.empty_cache()  # frees memory that a training in this process still holds, for vLLM
        with tempfile.TemporaryDirectory(prefix="relevance-pass-") as name:
            folder = Path(name)
            self._write(folder, prompts)
            log.info("vLLM starts, to score %d prompts", len(prompts))
            with open_progress("scored", len(prompts)) as progress:
                self._run(folder, progress)
            return np.asarray(np.load(folder / "scores.npy"))

    def _write(self, folder: Path, prompts: Sequence[list[int]]) -> None:
        np.save(folder / "ids.npy", np.concatenate([np.array(ids, dtype=np.int32) for ids in prompts]))
        np.save(folder / "lengths.npy", np.array([len(ids) for ids in prompts]))
        rank = json.loads((self._adapter / "adapter_config.json").read_text())["r"] if self._adapter else 0
        job = {
            "model": self._base.source,
            "adapter": str(self._adapter.absolute()) if self._adapter else None,
            "max_rank": lora_limit(rank),
            "dtype": self.dtype,
            "longest": max(map(len, prompts)),
            "answers": self.answers,
        }
        (folder / "pass.json").write_text(json.dumps(job))

    def _run(self, folder: Path, progress: Progress) -> None:
        log = folder / "log"
        # vLLM builds kernels at run time with programs of its own environment.
        path = os.pathsep.join([str(self._python.parent), os.environ.get("PATH", os.defpath)])
        # -P: keeps the program's folder off sys.path, since its modules could shadow vLLM's imports.
        command = [str(self._python), "-P", vllm_pass.__file__, str(folder)]
        environment = _ENVIRONMENT | os.environ | {"PATH": path}
        with (
            log.open("wb") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
        ):
            try:
                for line in process.stdout or ():
                    if line.strip().isdigit():
                        progress.at(int(line))
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise ModelError(
                f"vLLM ended with code {process.returncode}",
                where=self._base.id,
                expected=f"scores; it wrote: {log.read_text(errors='replace')[-_LAST_CHARACTERS:]}",
                do="score with engine.scorer=transformers, or mend what it says",
            )
