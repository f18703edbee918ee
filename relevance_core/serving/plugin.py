"""The vLLM plugin `relevance` (entry-point group `vllm.general_plugins`): resolves adapters by their immutable names.

vLLM asks a resolver for every model name that it does not know, and never again for one that it does. The server's settings come in
the environment's RELEVANCE_SERVING, one JSON object (`PluginSettings`); without it the plugin does nothing.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relevance_core.errors import SettingsError
from relevance_core.registry import BaseInfo, names
from relevance_core.registry.signing import Key
from relevance_core.serving.checks import ServedBase
from relevance_core.serving.resolver import Log, Resolver
from relevance_core.store import open_store

ENVIRONMENT = "RELEVANCE_SERVING"
NAME = "relevance"
#: Fetches at a time; a store that does not answer blocks these threads and no other part of the server.
_THREADS = 4
_registered: tuple[Resolver, str] | None = None


class PluginSettings(BaseModel):
    """The settings in RELEVANCE_SERVING.

    store: the registry's address. base: the base as manifests name it. base_folder: the server's --model. cache: a folder of this
    server's own for adapters. dtype: the dtype that the server computes in. max_rank, cached: as in `ServingSettings`. verify_key:
    file of a key, or empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str
    base: BaseInfo
    base_folder: Path
    cache: Path
    dtype: str
    max_rank: int = Field(ge=1)
    cached: int = Field(ge=1)
    verify_key: str = ""

    @classmethod
    def read(cls, text: str) -> PluginSettings:
        """Parses the environment's text. Raises SettingsError that names the invalid values."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'text'}: {e['msg']}" for e in error.errors())
            raise SettingsError(problems, where=ENVIRONMENT, do="start the server with `relevance serve`") from error

    def resolver(self, log: Log) -> Resolver:
        """Makes the resolver of a server with these settings, without asking the store.

        Raises SettingsError for a bad address or key.
        """
        key = Key.load(self.verify_key) if self.verify_key else None
        served = ServedBase(self.base.label, self.base_folder, self.base.digest)
        return Resolver(
            open_store(self.store), served, self.cache, max_rank=self.max_rank, cached=self.cached, key=key, log=log
        )  # fmt: skip


class AdapterResolver:
    """vLLM's `LoRAResolver` interface, for the base in `folder` only."""

    def __init__(self, resolver: Resolver, folder: Path, log: Log) -> None:
        self._resolver, self._folder, self._log = resolver, folder, log
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="relevance-resolver")

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
        """Returns a `LoRARequest` for the adapter, or None; never raises."""
        if Path(base_model_name) != self._folder:
            self._log(f"refused {lora_name[:80]!r}: the server's model is {base_model_name!r}, not {str(self._folder)!r}")
            return None
        folder = await asyncio.get_running_loop().run_in_executor(self._pool, self._resolver.resolve, lora_name)
        return _request(lora_name, folder) if folder else None


def _request(name: str, folder: Path) -> Any:
    from vllm.lora.request import LoRARequest

    _, version = names.parse(name) or ("", "0")
    # vLLM numbers adapters itself; this number only has to be positive and the same in every process.
    return LoRARequest(lora_name=name, lora_int_id=int(version[:7], 16) + 1, lora_path=str(folder))


def register() -> None:
    """Registers the resolver: vLLM's entry point. Raises SettingsError, which ends the server's start."""
    global _registered
    from vllm.logger import init_logger
    from vllm.lora.resolver import LoRAResolverRegistry

    # vLLM sets up the loggers below its own name only.
    logger = init_logger("vllm.relevance")
    text = os.environ.get(ENVIRONMENT, "")
    if not text:
        logger.warning("the plugin %s does nothing: %s is not set; start the server with `relevance serve`", NAME, ENVIRONMENT)
        return
    settings = PluginSettings.read(text)
    resolver = settings.resolver(logger.warning)
    _registered = resolver, settings.dtype
    LoRAResolverRegistry.register_resolver(NAME, AdapterResolver(resolver, settings.base_folder, logger.warning))


def registered() -> Resolver | None:
    """Returns the resolver of this process's server; None where the plugin is not registered."""
    return _registered[0] if _registered else None


def dtype() -> str | None:
    """Returns the dtype that this process's server computes in; None where the plugin is not registered."""
    return _registered[1] if _registered else None
