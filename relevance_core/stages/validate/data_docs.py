"""Data Docs of Great Expectations that open without a network and are the same for the same result.

The library's own pages load style sheets, scripts and pictures from other hosts and carry the time and random ids. This module
renders its sections with the library's renderer into a page of our own with a small style sheet.
"""

from __future__ import annotations

import copy
import html
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

_STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 }
th, td { border: 1px solid #8886; padding: .3rem .6rem; text-align: left; vertical-align: top }
td { overflow-wrap: anywhere }
section { border-top: 2px solid #8886; margin-top: 1.5rem; padding-top: .5rem }
h5, h6, .h6 { font-size: 1rem; font-weight: 600; margin: .3rem 0 }
.badge { border: 1px solid #8886; border-radius: .3rem; padding: 0 .3rem }
.text-success { color: #188038 } .text-danger { color: #d93025 } .text-warning { color: #b06000 }
.fa-check-circle::before { content: "✓" } .fa-times::before { content: "✗" } .fa-exclamation-triangle::before { content: "!" }
.collapse { display: none }
"""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TOGGLE = re.compile(r'<p class="m-0">\s*<a data-toggle="collapse".*?</p>', re.DOTALL)
_LINK = re.compile(r"<a\s[^>]*>(.*?)</a>", re.DOTALL)


def write_data_docs(
    results: Mapping[str, ExpectationSuiteValidationResult], rules: Sequence[Mapping[str, Any]], folder: Path, title: str
) -> None:
    """Writes `index.html` and one page a suite into `folder`.

    Args:
        results: suite name → its result.
        rules: the content of `rules.json`; the index lists it, the broken rules first.
        folder: where the pages go.
        title: of the index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    suites = []
    for name, result in results.items():
        held, total = result.statistics["successful_expectations"], result.statistics["evaluated_expectations"]
        suites.append(
            f'<li>{_mark(bool(result.success))} <a href="{name}.html">{name}</a>: {held} of {total} expectations hold</li>'
        )
        (folder / f"{name}.html").write_text(_page(f"{title}: {name}", _sections(result)), encoding="utf-8")
    index = f"<ul>{''.join(suites)}</ul>{_rules_table(rules)}"
    (folder / "index.html").write_text(_page(title, index), encoding="utf-8")


def _rules_table(rules: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for rule in sorted(rules, key=lambda rule: bool(rule["passed"])):
        figure = "not judged" if rule["figure"] is None else f"{rule['figure']:g}"
        cells = (rule["kind"], rule["rule"], rule["scope"], figure, rule["bound"], rule["rows"])
        rows.append(f"<tr><td>{_mark(rule['passed'])}</td>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in cells)}</tr>")
    return (
        "<table><tr><th></th><th>kind</th><th>rule</th><th>scope</th><th>figure</th><th>bound</th><th>rows</th></tr>"
        f"{''.join(rows)}</table>"
    )


def _mark(passed: bool) -> str:
    return f'<i class="{"text-success fa-check-circle" if passed else "text-danger fa-times"}"></i>'


def _sections(result: ExpectationSuiteValidationResult) -> str:
    """Renders the result's sections with the library, without links, toggles and random ids."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaSectionView

    document = ValidationResultsPageRenderer().render(_presentable(result)).to_json_dict()
    parts = []
    for number, section in enumerate(document["sections"], 1):
        text = DefaultJinjaSectionView().render({"section": section, "section_loop": {"index": number}})
        plain = _LINK.sub(r"\1", _TOGGLE.sub("", text))
        parts.append(f"<section>{plain}</section>")
    ids: dict[str, str] = {}
    counter = itertools.count(1)
    return _UUID.sub(lambda match: ids.setdefault(match[0], str(next(counter))), "\n".join(parts))


def _presentable(result: ExpectationSuiteValidationResult) -> ExpectationSuiteValidationResult:
    """Copies the result with its values escaped, without positions, load times and a batch's memory address."""
    shown = copy.deepcopy(result)
    shown.meta = {"great_expectations_version": result.meta["great_expectations_version"]}
    for outcome in shown.results:
        found = outcome.result
        for name in ("unexpected_index_query", "unexpected_index_list", "partial_unexpected_index_list", "unexpected_list"):
            found.pop(name, None)
        for name in ("partial_unexpected_list", "partial_unexpected_counts"):
            if name in found:
                found[name] = _escaped(found[name])
    return shown


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )
