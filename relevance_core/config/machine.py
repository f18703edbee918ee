"""Settings of the machine: processes, devices and servers. They are no part of a run's identity."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relevance_core.config.types import Address, Part


class EngineSettings(Part):
    """Processes, devices and the scoring engine of this machine. A run may continue on a machine with others."""

    workers: int = Field(0, ge=0, description="processes that parallel work may use; 0: one per core")
    threads: int = Field(1, ge=1, description="torch threads per process")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device that trains and scores; auto: a GPU if there is one")
    gpus: int = Field(1, ge=1, description="GPUs per training, each with a process of its own; on a CPU: processes per training")
    scorer: Literal["transformers", "vllm"] = Field(
        "transformers",
        description="engine that scores in *denoise* and *evaluate*; vllm: vLLM's offline engine in serving.python, for GPUs",
    )


class ServingSettings(Part):
    """vLLM servers, their limits, and the checks a version must pass before it serves. A run may continue with others."""

    endpoints: tuple[Address, ...] = Field(
        (),
        description="the vLLM servers, e.g. http://10.0.0.5:8000; none: *rollout* tries a version on a temporary server",
    )
    python: str = Field(
        "auto", description="Python of the environment that has vLLM; auto: this one, else .venv-serving beside it; '': none"
    )
    tolerance: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="largest difference in p(yes) from the golden pairs; default: 1e-3, 3e-2 with a server or version in bfloat16",
    )
    max_rank: int = Field(32, ge=1, description="largest LoRA rank that the servers accept")
    slots: int = Field(4, ge=2, description="adapters in one batch of a server")
    cached: int = Field(8, ge=2, description="adapters that a server keeps loaded and on disk")
    verify_key: str = Field(
        "",
        description="file of the key that verifies manifests: Ed25519 public (PEM) or HMAC (text); '': unsigned ones are accepted",
    )
    sign_key: str = Field(
        "",
        description="file of the key that *publish* signs manifests with: Ed25519 private (PEM) or HMAC (text); '': no signature",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="dtype of the servers; auto: the dtype of the versions a server starts with, float32 where they differ",
    )
    start_servers: int = Field(
        0,
        ge=0,
        description="servers that *rollout* starts on its machine for a base that no server runs; 0: it stops with an error",
    )
    start_seconds: float = Field(600, gt=0, description="longest wait for a server to start, in seconds")
    drain_seconds: float = Field(
        10, ge=0, description="seconds between the alias's move and the unloading of the version that served before"
    )
    staleness_seconds: float = Field(
        5, ge=0, description="longest time that a client still uses the previous release after the alias moved, in seconds"
    )
    timeout_seconds: float = Field(30, gt=0, description="longest wait for a server's answer, in seconds")
    translators: tuple[Address, ...] = Field(
        (), description="addresses of the servers of translation models (vllm:… in translate.translator), e.g. http://10.0.0.7:8000"
    )
    translator_key: str = Field("", description="file of the bearer token for serving.translators; '': none is sent")
    mixed_bases: bool = Field(False, description="tasks may serve on different bases, each with servers of its own")
