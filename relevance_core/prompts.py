"""The prompt of a pair: its templates, its tokens, and the rules that make a log's text safe inside it.

Two templates, versioned. `compact` is for the small builtin base, `instruction` (Alpaca-style, the constant part first, so that
its keys and values can be computed once) for large bases:

    query: laufschuhe = running shoes category: Sports > Shoes ?| yes

    item: Acme leather shoes query: laufschuhe = running shoes ?| yes

    …### Input:⏎Query: laufschuhe⏎English: running shoes⏎Category: Sports > Shoes⏎⏎### Response:| yes

Four rules keep a field in its place. Every field and every piece of the template is tokenised separately and the ids are joined, so
that no merge crosses a border. A field is one line of visible characters. The template's markers are removed from it
(`Prompt.clean`). Names of special tokens are plain text in it, and ids of any other added token are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from relevance_core.config import Settings
from relevance_core.errors import ModelError, SettingsError
from relevance_core.pairs import TEXT_RULE, normalise

Template = Literal["compact", "instruction"]
PairText = tuple[str, str, str, str | None]
"""task, query, target and the query's English translation, if it has one."""

ANSWERS: Final = (" yes", " no")
VERSIONS: Final[Mapping[str, int]] = {"compact": 1, "instruction": 1}
"""The version of each template: raised with every change of a character in it or of a rule for its fields."""

_NOUNS: Final = {"QC": "category", "QI": "item"}
_INSTRUCTION: Final = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n"
    "Judge whether a shop's {what} is relevant to the search query of a shopper, who may write in any language. "
    "Answer yes or no.\n\n"
    "### Input:\nQuery:"
)
_WHAT: Final = {"QC": "product category", "QI": "item for sale"}
_LABELS: Final = re.compile(r"(query|english|category|item|instruction|input|response)[\s:﹕]*[:﹕]", re.IGNORECASE)
_SIGNS: Final[Mapping[str, re.Pattern[str]]] = {"compact": re.compile(r"[=?﹦﹖⁇⁈⁉]"), "instruction": re.compile(r"[#﹟]{2,}")}
"""What a text must not hold, and the forms of it that text rule 2 leaves as they are; rule 1 had turned these into the sign."""
_LEAST_ROOM: Final = 8


@dataclass(frozen=True)
class Prompt:
    """The recipe that turns a pair into tokens; recorded in every base's and adapter's manifest.

    Attributes:
        template: the form of the text around the fields.
        version: of the template.
        translation: puts the query's English translation beside it.
        max_tokens: longest prompt, in tokens.
        text_rule: the rule by which its fields are normalised (pairs.TEXT_RULE); 1 where a record names none.
    """

    template: Template
    version: int
    translation: bool
    max_tokens: int
    text_rule: int = TEXT_RULE

    def __post_init__(self) -> None:
        if VERSIONS.get(self.template) != self.version:
            known = ", ".join(f"{name} {version}" for name, version in VERSIONS.items())
            raise ModelError(
                f"no prompt template {self.template} {self.version}",
                expected=known,
                do="score with the release of this package that trained it, or train again",
            )
        if not 1 <= self.text_rule <= TEXT_RULE:
            raise ModelError(
                f"no text rule {self.text_rule}",
                expected=f"1 to {TEXT_RULE}",
                do="upgrade relevance-loop on this machine: a newer release trained it",
            )

    @property
    def answers(self) -> tuple[str, str]:
        """The texts of yes and no; each must be one token of the base model."""
        return ANSWERS

    def clean(self, text: str) -> str:
        """Returns `text` as a field may hold it: one normalised line without the template's markers.

        The colon after a label's word goes, so do `=` and `?` (compact) and runs of `#` (instruction).
        """
        text = _SIGNS[self.template].sub(" ", normalise(text, self.text_rule))
        return " ".join(_LABELS.sub(r"\1 ", text).split())

    def text(self, task: str, query: str, target: str, english: str | None = None) -> str:
        """Returns the prompt as text, uncut; the answer is not part of it.

        Args:
            task: QC or QI.
            query: the query.
            target: the category path or item title.
            english: the query's English translation, if it has one.
        """
        start, middle, before_target, end = self._pieces(task)
        asked = [start, self._field(query)]
        if self.translation and english is not None:
            asked += [middle, self._field(english)]
        shown = [before_target, self._field(target)]
        return "".join([*shown, *asked, end] if self.target_first(task) else [*asked, *shown, end])

    def target_first(self, task: str) -> bool:
        """Tells whether the target comes before the query.

        An item is relevant when it matches every word of the query, so a small model reads the item first: each word of the query
        can then look up its match. A category comes last and is read level by level.
        """
        return self.template == "compact" and task == "QI"

    def encode(self, tokenizer: Any, rows: Iterable[PairText]) -> list[list[int]]:
        """Returns the token ids of each row's prompt, which end right before the answer's token.

        tokenizer: a fast tokenizer of transformers. A prompt longer than `max_tokens` is cut: the query keeps at most half
        of the tokens that the template leaves (query and translation a quarter each), the target the rest. Raises
        SettingsError when the template leaves no room.
        """
        rows = list(rows)
        fields = self._tokenise(tokenizer, (text for row in rows for text in row[1:] if text is not None))
        start = _begin(tokenizer)
        pieces = {task: [start, *_ids(tokenizer, self._pieces(task))] for task in sorted({row[0] for row in rows})}
        return [self._join(pieces[row[0]], row, fields) for row in rows]

    def as_json(self) -> dict[str, Any]:
        """Returns the form that a manifest records."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Prompt:
        """Returns the prompt that a manifest records. Raises ModelError for a template unknown to this release."""
        rule = values.get("text_rule", 1)
        return Prompt(values["template"], values["version"], values["translation"], values["max_tokens"], rule)

    def _field(self, text: str) -> str:
        """Returns a field with the space before it; "" for an empty field."""
        cleaned = self.clean(text)
        return f" {cleaned}" if cleaned else ""

    def _pieces(self, task: str) -> tuple[str, str, str, str]:
        """Returns the template's text before the query, its translation and the target, and at the end."""
        noun = _NOUNS[task]
        if self.template == "compact":
            return (" query:", " =", f"{noun}:", " ?") if self.target_first(task) else ("query:", " =", f" {noun}:", " ?")
        return _INSTRUCTION.format(what=_WHAT[task]), "\nEnglish:", f"\n{noun.capitalize()}:", "\n\n### Response:"

    def _tokenise(self, tokenizer: Any, texts: Iterable[str]) -> dict[str, list[int]]:
        """Returns the ids of every distinct text as a field."""
        texts = list(dict.fromkeys(texts))
        added = frozenset(tokenizer.get_added_vocab().values())
        encoded = _ids(tokenizer, [self._field(text) for text in texts])
        plain = (ids if added.isdisjoint(ids) else [i for i in ids if i not in added] for ids in encoded)
        return dict(zip(texts, plain, strict=True))

    def _join(self, pieces: Sequence[list[int]], row: PairText, fields: Mapping[str, list[int]]) -> list[int]:
        begin, start, middle, before_target, end = pieces
        _, query, target, english = row
        translation = fields[english] if self.translation and english is not None else None
        fixed = len(begin) + len(start) + len(before_target) + len(end) + (0 if translation is None else len(middle))
        room = self.max_tokens - fixed
        if room < _LEAST_ROOM:
            raise SettingsError(
                f"the {self.template} template leaves {room} tokens for query and target",
                where="prompt.max_tokens",
                expected=f"at least {fixed + _LEAST_ROOM}",
            )
        if translation is None:
            source, used = fields[query][: room // 2], 0
        else:
            source, used = fields[query][: room // 4] + middle + translation[: room // 4], len(middle)
        left = room - len(source) + used
        asked, shown = start + source, before_target + fields[target][:left]
        return begin + (shown + asked if self.target_first(row[0]) else asked + shown) + end


def prompt_from(settings: Settings) -> Prompt:
    """Returns the prompt that the settings ask for."""
    template = settings.template()
    return Prompt(template, VERSIONS[template], settings.prompt.translation, settings.prompt.max_tokens)


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of each text alone, with names of special tokens as plain text."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, truncation=False
    )
    return list(encoded["input_ids"])


def _begin(tokenizer: Any) -> list[int]:
    """Returns the begin-of-text token, for a tokenizer that puts it before a text; else nothing."""
    ids = tokenizer("", add_special_tokens=True)["input_ids"]
    return ids[:1] if ids and ids[0] == tokenizer.bos_token_id else []
