"""The registry of adapters: immutable versions, the releases that say which of them serve, signatures and golden pairs."""

from relevance_core.registry.manifest import AdapterMeta, BaseInfo, FileInfo, LoraInfo, Manifest, PromptInfo, Release
from relevance_core.registry.releases import Registry

__all__ = ["AdapterMeta", "BaseInfo", "FileInfo", "LoraInfo", "Manifest", "PromptInfo", "Registry", "Release"]
