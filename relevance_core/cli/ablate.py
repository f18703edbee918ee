"""`relevance ablate`: what each strategy adds on one's own rows."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from relevance_core import config
from relevance_core.cli.outputs import output_folder
from relevance_core.cli.parsing import at_least
from relevance_core.cli.results import Part, Result, tables_of
from relevance_core.config import Settings
from relevance_core.errors import SettingsError
from relevance_core.store import Store
from relevance_core.store.disk import writing
from relevance_core.tools.ablation.strategies import PUBLISHED, STRATEGIES, rows_of

log = logging.getLogger(__name__)


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `relevance ablate` beside those of the loop."""
    command.add_argument(
        "--strategies",
        default=",".join(PUBLISHED),
        metavar="NAMES",
        help=f"one row each, in this order, of {', '.join(STRATEGIES)} (default: %(default)s)",
    )
    command.add_argument(
        "--seeds", type=at_least(1), default=3, metavar="N", help="trainings of each row, from `seed` on (default: 3)"
    )
    command.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="NAME:KEY=VALUE[,KEY=VALUE]",
        help="a further row: the last one with these settings, compared with it; may be repeated",
    )
    command.add_argument(
        "--sources",
        default="",
        metavar="LANGUAGES",
        help="languages, separated by commas: a further row for each, translated from it alone; its gain tells whether to name the "
        "language in translate.sources",
    )
    command.add_argument(
        "--judge", default="", metavar="FILE", help="a labelled file that judges, instead of the split's judgement rows"
    )
    command.add_argument(
        "--out",
        type=output_folder,
        default="ablation",
        metavar="FOLDER",
        help="for ablation.json, .md and .html (default: %(default)s)",
    )


def run(options: argparse.Namespace, settings: Settings, store: Store) -> dict[str, Any]:
    """Makes or finds every cell and writes the tables. Returns the figures. Raises SettingsError for options that don't fit."""
    from relevance_core import reporting
    from relevance_core.tools.ablation import ablation
    from relevance_core.tools.ablation import report as written
    from relevance_core.tools.ablation.figures import figures as figures_of

    names = _names(options.strategies)
    rows = rows_of(names, dict(_further(text) for text in options.also), _names(options.sources))
    if options.sources and not settings.onboard:
        raise SettingsError("no language comes in that could be translated into", where="--sources", do="name one with --onboard")
    seeds = tuple(range(settings.seed, settings.seed + options.seeds))
    plan = ablation.Plan(settings, rows, seeds, options.judge)
    ablation.check(plan)
    figures = figures_of(plan, ablation.cells(plan, store))
    out = Path(options.out)
    texts = {
        "json": json.dumps(figures, indent=1) + "\n",
        "md": written.markdown(figures),
        "html": reporting.render(written.page(figures)),
    }
    for suffix, text in texts.items():
        with writing(path := out / f"ablation.{suffix}"):
            path.write_text(text, encoding="utf-8")
    log.info("written: %s, .md and .html", out / "ablation.json")
    return figures


def shown(figures: Result) -> Iterator[Part]:
    """The tables of ablation.md."""
    from relevance_core.tools.ablation import report as written

    yield from tables_of(written.markdown(dict(figures)))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _further(text: str) -> tuple[str, Mapping[str, Any]]:
    """A row of --also: its name, and the settings it changes."""
    name, found, changes = text.partition(":")
    if not found or not name.strip():
        raise SettingsError(f"{text!r} names no settings", where="--also", expected="NAME:KEY=VALUE, such as 'random:mine.top_k=5'")
    return name.strip(), config.nested(changes.split(","))
