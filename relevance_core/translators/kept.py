"""Translators as named in settings, and as kept in the store."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

from relevance_core.config import TranslateSettings
from relevance_core.errors import DataError, NotFound, SettingsError
from relevance_core.store import Store
from relevance_core.translators.chain import Chain
from relevance_core.translators.endpoint import EndpointTranslator
from relevance_core.translators.glossary import GlossaryTranslator, read_brands, read_terms
from relevance_core.translators.protocol import HERE, Machine, Translator
from relevance_core.translators.seq2seq import Seq2SeqTranslator

_GLOSSARY = "glossary"
_ABOUT = "translator.json"


def translator_from(
    settings: TranslateSettings, glossary: GlossaryTranslator | None, brands: tuple[str, ...], machine: Machine
) -> Translator | None:
    """Builds the translator that `translate.translator` names, or a chain of several; None for the glossary where there is none.

    Args:
        settings: the names and limits.
        glossary: the source's glossary, if it has one.
        brands: names that the answers of a chain must keep.
        machine: servers and devices for models.

    Raises:
        ModelError: a model is not on this machine.
    """
    named = [glossary if entry == _GLOSSARY else _model(entry, settings.max_new_tokens, machine) for entry in settings.translator]
    parts = tuple(part for part in named if part is not None)
    return Chain(parts, settings.max_untranslated, brands) if len(parts) > 1 else next(iter(parts), None)


def _model(entry: str, max_new_tokens: int, machine: Machine) -> Translator:
    """Builds the translator of an entry such as `vllm:ByteDance-Seed/Seed-X-PPO-7B@main`."""
    kind, _, model = entry.partition(":")
    name, _, revision = model.partition("@")
    if kind == "vllm":
        return EndpointTranslator(name, revision or "main", max_new_tokens, machine)
    return Seq2SeqTranslator.find(name, revision or "main", max_new_tokens, machine)


def save(translator: Translator, store: Store) -> dict[str, str]:
    """Stores a translator and returns the reference that `open_translator` opens: `{name, version, key}`.

    Of a model only its identity is stored, not its weights. Raises SettingsError for a translator of an unknown kind.
    """
    found = reference(translator.name, translator.version)
    for file, data in _files(translator, store).items():
        store.create(f"{found['key']}/{file}", data)
    return found


def reference(name: str, version: str) -> dict[str, str]:
    """Returns the reference of a stored translator by its name and version: `{name, version, key}`."""
    return {"name": name, "version": version, "key": f"translators/{name}-{version}"}


def _files(translator: Translator, store: Store) -> dict[str, bytes]:
    """Returns the files to store for a translator; the file that completes it comes last."""
    match translator:
        case GlossaryTranslator():
            rows = "".join("\t".join(term) + "\n" for term in (("term_id", "language", "name"), *translator.terms))
            return {"brands.txt": _lines(translator.brands), "terms.tsv.gz": gzip.compress(rows.encode(), mtime=0)}
        case EndpointTranslator():
            about = _about(translator, "model", "revision", "max_new_tokens")
        case Seq2SeqTranslator():
            about = _about(translator, "model", "revision", "kind", "pair", "max_new_tokens", "source")
        case Chain():
            parts = [save(part, store) for part in translator.parts]
            about = {"parts": parts, "max_untranslated": translator.max_untranslated, "brands": translator.brands}
        case _:
            raise SettingsError(
                f"translator {translator.name} can't be kept in the store", expected="glossary, vllm, seq2seq or chain"
            )
    return {_ABOUT: json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False).encode()}


def _about(translator: Translator, *fields: str) -> dict[str, Any]:
    return {name: getattr(translator, name) for name in fields}


def _lines(texts: tuple[str, ...]) -> bytes:
    return "".join(text + "\n" for text in texts).encode()


def open_translator(ref: Mapping[str, str], store: Store, machine: Machine = HERE) -> Translator:
    """Opens the translator that `save` stored under `ref`; models load, and servers are asked, only when it translates.

    machine: servers and devices for its models. Raises NotFound, or DataError if the stored files give another version.
    """
    translator = _opened(ref, store, machine)
    if translator.version != ref["version"]:
        raise DataError(
            f"the translator's version is {translator.version}",
            where=store.uri_of(ref["key"]),
            expected=ref["version"],
            do="restore the folder, or use the release of this package that wrote it",
        )
    return translator


def _opened(ref: Mapping[str, str], store: Store, machine: Machine) -> Translator:
    key = ref["key"]
    if ref["name"] == _GLOSSARY:
        terms, brands = f"{key}/terms.tsv.gz", f"{key}/brands.txt"
        return GlossaryTranslator(
            read_terms(store.read(terms), store.uri_of(terms), kept=True), read_brands(store.read(brands), store.uri_of(brands))
        )
    if ref["name"] not in ("vllm", "seq2seq", "chain"):
        raise NotFound(f"no translator named {ref['name']!r}", expected="glossary, vllm, seq2seq or chain")
    about = json.loads(store.read(f"{key}/{_ABOUT}"))
    if ref["name"] == "vllm":
        return EndpointTranslator(**about, machine=machine)
    if ref["name"] == "seq2seq":
        return Seq2SeqTranslator(**about | {"pair": about["pair"] and tuple(about["pair"])}, machine=machine)
    parts = tuple(open_translator(part, store, machine) for part in about["parts"])
    return Chain(parts, about["max_untranslated"], tuple(about["brands"]))
