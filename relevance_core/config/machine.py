"""Settings of the machine: processes, devices and servers. No part of what a run is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relevance_core.config.types import Address, Part


class EngineSettings(Part):
    """The machine."""

    workers: int = Field(0, ge=0, description="processes of the parallel parts; 0: one a core")
    threads: int = Field(1, ge=1, description="torch threads of a process")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus: int = Field(1, ge=1, description="GPUs that a training takes, a process each; on a CPU: processes")
    scorer: Literal["transformers", "vllm"] = Field(
        "transformers", description="what scores in *denoise* and *evaluate*; vllm: the offline engine of serving.python, for GPUs"
    )


class ServingSettings(Part):
    """vLLM servers, and what a version must show on them before it serves. No part of what a run is."""

    endpoints: tuple[str, ...] = Field(
        (), description="the vLLM servers, e.g. http://10.0.0.5:8000; none: a version is proved on one of its own"
    )
    python: str = Field(
        "auto", description="Python of the environment that has vLLM; auto: this one, else .venv-serving beside it; '' none"
    )
    tolerance: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="largest |p(yes)| difference to the golden pairs; default: 1e-3, or 3e-2 if server or version is in bfloat16",
    )
    max_rank: int = Field(32, ge=1, description="largest LoRA rank that the servers take")
    slots: int = Field(4, ge=2, description="adapters that a server computes with at a time")
    cached: int = Field(8, ge=2, description="adapters that a server keeps in memory and on disk")
    verify_key: str = Field(
        "", description="file of the key that manifests must be signed with: Ed25519 public (PEM) or HMAC (text)"
    )
    sign_key: str = Field(
        "", description="file of the key that *publish* signs manifests with: Ed25519 private (PEM) or HMAC (text)"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the servers; auto: that of the versions which a server is started for (float32 where they differ)",
    )
    start_servers: int = Field(
        0, ge=0, description="servers that a rollout starts on its machine for a base that none runs; 0: it stops and says so"
    )
    start_seconds: float = Field(600, gt=0, description="longest wait for a server that starts")
    drain_seconds: float = Field(10, ge=0, description="wait between the alias's move and the unloading of what served before")
    staleness_seconds: float = Field(5, ge=0, description="longest time that a client goes on with an alias that has moved")
    timeout_seconds: float = Field(30, gt=0, description="longest wait for one answer of a server")
    translators: tuple[Address, ...] = Field(
        (), description="servers of translation models (vllm: in translate.translator), e.g. http://10.0.0.7:8000"
    )
    translator_key: str = Field("", description="file of the key (a bearer token) that these servers ask for")
    mixed_bases: bool = Field(False, description="let the tasks serve on different bases, each with servers of its own")
