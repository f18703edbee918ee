"""Encoder-decoder translation models of transformers on this machine: NLLB, M2M100, MADLAD-400 and opus-mt."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self, cast, get_args

from relevance_core.errors import ModelError, SettingsError
from relevance_core.languages import LANGUAGES, TABLE, token_of
from relevance_core.models.folders import digest_of_folder, local_folder
from relevance_core.pairs import normalise
from relevance_core.translators.answers import read
from relevance_core.translators.protocol import HERE, Machine, Translated, require

Kind = Literal["nllb", "m2m100", "madlad", "opus-mt"]

_ALGORITHM: Final = "seq2seq-1"
_BATCH: Final = 32
_LONGEST: Final = 512
_ISO: Final = {language.flores[:3]: code for code, language in TABLE.items()} | {code: code for code in TABLE}
"""ISO 639-3 or 639-1 code → ISO 639-1 code."""


@dataclass(frozen=True)
class Seq2SeqTranslator:
    """Translates with an encoder-decoder model, greedily.

    Attributes:
        model: a Hugging Face id, or a folder's name.
        revision: the id's commit, or the digest of the folder's files.
        pair: source and target language of an opus-mt model, its only ones.
        source: the folder, or the id again.

    Known limits. Of opus-mt it supports models of a single pair, not those that choose the target with a token; their tokenizer
    normalises punctuation only where the package sacremoses is installed. Weights are float32 on every device, so that machines
    agree.
    """

    model: str
    revision: str
    kind: Kind
    pair: tuple[str, str] | None
    max_new_tokens: int
    source: str = field(compare=False)
    machine: Machine = field(default=HERE, compare=False)
    name: str = field(default="seq2seq", init=False)
    batch: ClassVar[int] = 256

    @classmethod
    def find(cls, model: str, revision: str, max_new_tokens: int, machine: Machine) -> Self:
        """Returns the translator of a model in a folder or in the local Hugging Face cache; its weights are not loaded.

        Args:
            model: a folder, or a Hugging Face id.
            revision: of the id.
            max_new_tokens: longest translation; a longer one is discarded.
            machine: device and threads.

        Raises:
            ModelError: the model is not on this machine.
            SettingsError: the model is of an unsupported family.
        """
        folder = local_folder(model, revision, "translate.translator")
        kind, pair = _kind(folder)
        own = Path(model).is_dir()
        name, commit = (folder.resolve().name, digest_of_folder(folder)) if own else (model, folder.name)
        return cls(name, commit, kind, pair, max_new_tokens, str(folder.absolute()) if own else model, machine)

    @cached_property
    def version(self) -> str:
        """12 hex digits over the model and the way it generates."""
        parts = [_ALGORITHM, self.model, self.revision, self.kind, self.pair, self.max_new_tokens]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    @property
    def languages(self) -> frozenset[str]:
        """The languages of the table, or the model's own pair."""
        return frozenset(self.pair or LANGUAGES)

    def can(self, source: str, target: str) -> bool:
        """Tells whether the model translates from `source` into `target`."""
        return (source, target) == self.pair if self.pair else source != target and {source, target} <= self.languages

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        """Returns one answer per text. Raises SettingsError for an unsupported pair, ModelError for a missing or changed model."""
        require(self, source, target)
        texts = [normalise(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        answers: dict[int, Translated] = {}
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            said = self._generate([texts[place] for place in places], source, target)
            for place, (output, whole) in zip(places, said, strict=True):
                answers[place] = read(output, texts[place], source, whole=whole)
        return [answers[place] for place in range(len(texts))]

    def _generate(self, texts: list[str], source: str, target: str) -> list[tuple[str, bool]]:
        """Returns the model's output for each text, and whether it ended before the length limit."""
        import torch

        model, tokenizer = self._loaded
        config = copy.deepcopy(model.generation_config)
        config.update(num_beams=1, do_sample=False, early_stopping=False, max_length=None, max_new_tokens=self.max_new_tokens)
        if self.kind == "madlad":
            texts = [f"{token_of(target, 'madlad')} {text}" for text in texts]
        elif self.kind != "opus-mt":
            tokenizer.src_lang = token_of(source, "nllb") if self.kind == "nllb" else source
            config.forced_bos_token_id = tokenizer.convert_tokens_to_ids(token_of(target, self.kind))
        encoded = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=_LONGEST).to(model.device)
        with torch.inference_mode():
            written = model.generate(
                input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"], generation_config=config
            )
        # the decoder's start token, then the language's, if any: neither is part of the text
        written = written[:, 1 if config.forced_bos_token_id is None else 2 :]
        ends = torch.tensor(config.eos_token_id, device=written.device).reshape(-1)
        whole = torch.isin(written, ends).any(dim=1).tolist()
        return list(zip(tokenizer.batch_decode(written, skip_special_tokens=True), whole, strict=True))

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The model and its tokenizer."""
        import torch
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        folder = local_folder(self.source, self.revision, "translate.translator")
        if Path(self.source).is_dir() and (found := digest_of_folder(folder)) != self.revision:
            raise ModelError(
                f"the files of the translation model have the digest {found}",
                where=self.source,
                expected=self.revision,
                do="restore the folder; changed weights are another translator",
            )
        engine = self.machine.engine
        torch.set_num_threads(engine.threads)
        device = engine.device if engine.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
        except (OSError, ValueError, ImportError) as error:
            raise ModelError(
                f"the translation model can't be loaded: {str(error).strip().splitlines()[0]}",
                where=str(folder),
                expected="a folder written by save_pretrained; M2M100 and opus-mt need the package sentencepiece",
            ) from error
        self._check_tokens(tokenizer)
        return model.to(device).eval(), tokenizer

    def _check_tokens(self, tokenizer: Any) -> None:
        """Raises ModelError for a tokenizer that lacks a language's token."""
        if self.kind == "opus-mt":
            return
        tokens = {token_of(language, self.kind) for language in self.languages}
        unknown = sorted(token for token in tokens if tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id))
        if unknown:
            raise ModelError(
                f"the tokenizer does not know the languages {', '.join(unknown)}",
                where=self.source,
                expected=f"a model of the family {self.kind}",
            )


def _kind(folder: Path) -> tuple[Kind, tuple[str, str] | None]:
    """Returns a model's family, judged by its files, and the languages of an opus-mt model. Raises SettingsError."""
    architecture = _json(folder / "config.json").get("model_type")
    tokenizer = _json(folder / "tokenizer_config.json")
    if architecture == "marian":
        languages = (tokenizer.get("source_lang"), tokenizer.get("target_lang"))
        source, target = (_ISO.get(str(language)) for language in languages)
        if source is None or target is None:
            raise SettingsError(
                f"the opus-mt model translates {languages[0]} into {languages[1]}",
                where=str(folder),
                expected=f"one pair of {', '.join(LANGUAGES)}",
            )
        return "opus-mt", (source, target)
    if architecture == "m2m_100":
        return "nllb" if str(tokenizer.get("tokenizer_class")).startswith("Nllb") else "m2m100", None
    if architecture == "t5":
        return "madlad", None
    raise SettingsError(
        f"a model of the architecture {architecture} is no translator that is known here",
        where=str(folder),
        expected=", ".join(get_args(Kind)),
        do="name another model in translate.translator, or serve this one and name it as vllm:…",
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ModelError(f"the translation model has no {path.name}: {error}", where=str(path.parent)) from error
