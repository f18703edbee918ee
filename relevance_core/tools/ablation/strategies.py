"""The strategies that an ablation switches, and the rows of its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relevance_core import config
from relevance_core.errors import SettingsError
from relevance_core.languages import LANGUAGES

Values = Mapping[str, Any]

PLAIN: Final = "SFT"
"""The first row: supervised fine-tuning on the logged rows, decided at p(yes) = 0.5."""

THRESHOLD: Final = "threshold"
"""The strategy without a training of its own: the calibration rows' threshold instead of 0.5."""


@dataclass(frozen=True)
class Strategy:
    """A strategy, as the settings that leave it out and the settings that switch it on."""

    off: Values
    on: Values


STRATEGIES: Final[Mapping[str, Strategy]] = {
    # Languages are onboarded by translation alone; the clicks of a language that is not onboarded are not read either.
    "translation": Strategy({"onboard": (), "translate": {"enabled": False}}, {"translate": {"enabled": True}}),
    "hard-negatives": Strategy({"mine": {"enabled": False}}, {"mine": {"enabled": True}}),
    "filter": Strategy({"denoise": {"enabled": False}}, {"denoise": {"enabled": True}}),
    "english": Strategy({"prompt": {"translation": False}}, {"prompt": {"translation": True}}),
    "other-task-first": Strategy({"train": {"tapt": "off"}}, {"train": {"tapt": "other-task"}}),
    THRESHOLD: Strategy({}, {}),
}
PUBLISHED: Final = ("translation", "hard-negatives", "filter", THRESHOLD)
"""The rows of the published table, in its order."""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    settings: laid over the user's own. calibrated: True to decide at the calibrated threshold. beside: the row to compare it with.
    adds: the strategy that it switches on. source: the only language that it translates from.
    """

    name: str
    settings: Values
    calibrated: bool
    beside: str | None
    adds: str | None = None
    source: str | None = None


def rows_of(strategies: Sequence[str], further: Mapping[str, Values], sources: Sequence[str] = ()) -> tuple[Row, ...]:
    """Lists the rows of a table: none of `strategies` in the first, one more of them in each, then the `further` ones.

    Strategies that are not listed stay as the user's settings have them.

    Args:
        strategies: names of STRATEGIES.
        further: name → settings to lay over the last of these rows; each is compared with that row.
        sources: languages; for each there is a row of *translation* from that language alone.

    Raises:
        SettingsError: a name is unknown or repeated.
    """
    for name in strategies:
        if name not in STRATEGIES or strategies.count(name) > 1:
            raise SettingsError(
                f"no strategy {name!r} to add", where="--strategies", expected=f"each once: {', '.join(STRATEGIES)}"
            )
    settings: dict[str, Any] = {}
    for name in strategies:
        settings = config.merge(settings, STRATEGIES[name].off)
    rows = [Row(PLAIN, settings, False, None)]
    for name in strategies:
        # The onboarded languages are the user's own setting, so `on` does not set them.
        settings = {key: value for key, value in settings.items() if key not in STRATEGIES[name].off or key in STRATEGIES[name].on}
        settings = config.merge(settings, STRATEGIES[name].on)
        rows.append(Row(f"+ {name}", settings, rows[-1].calibrated or name == THRESHOLD, rows[-1].name, name))
    last = rows[-1]
    for name, changes in further.items():
        if name in {row.name for row in rows}:
            raise SettingsError(f"two rows are called {name!r}", where="--also", do="choose another name")
        rows.append(Row(name, config.merge(settings, changes), last.calibrated, last.name))
    return tuple(_with_sources(rows, sources) if sources else rows)


def _with_sources(rows: list[Row], sources: Sequence[str]) -> list[Row]:
    """Adds, after the row of *translation*, a row for each language to translate from.

    Raises SettingsError for languages that can't be compared.
    """
    place = next((place for place, row in enumerate(rows) if row.adds == "translation"), None)
    if place is None or len(set(sources)) < len(sources) or not set(sources) <= set(LANGUAGES):
        raise SettingsError(
            f"no source languages to compare: {', '.join(sources)}",
            where="--sources",
            expected="languages of docs/languages.md, each once, and translation among --strategies",
        )
    whole, only = rows[place], []
    for source in sources:
        settings = config.merge(whole.settings, {"translate": {"sources": [source]}})
        only.append(Row(f"from {source}", settings, False, whole.beside, source=source))
    return [*rows[: place + 1], *only, *rows[place + 1 :]]
