"""The registry of adapters: immutable versions, the log of releases that name the serving versions, signatures and golden pairs."""

from relevance_core.registry.manifest import AdapterMeta, BaseInfo, FileInfo, LoraInfo, Manifest, PromptInfo, Release
from relevance_core.registry.releases import Registry

__all__ = ["AdapterMeta", "BaseInfo", "FileInfo", "LoraInfo", "Manifest", "PromptInfo", "Registry", "Release"]
