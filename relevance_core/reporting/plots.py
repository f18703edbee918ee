"""The report's plots as plain plotly figures.

A colour that begins with "--" is the name of a CSS variable: the page inserts its value when it draws, so that one figure suits
light and dark screens. Labels hold names of stages, rules, reasons and languages, never text from a log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any, Final

Figure = dict[str, Any]
Values = Sequence[float | None]

FIRST, SECOND, THIRD, GOOD, BAD, INK, MUTED, LINE = "--new", "--old", "--yes", "--good", "--bad", "--ink", "--muted", "--line"
SERIES: Final = tuple(f"--line-{number}" for number in range(1, 9))
"""Colours for plots with many lines."""
_ROW: Final = 32
_LABEL: Final = 30
"""Characters per line of a label: longer lines leave no room for the bars on a phone."""


def stacked_bars(labels: Sequence[str], series: Mapping[str, tuple[str, Values]], notes: Sequence[str], unit: str) -> Figure:
    """Draws horizontal stacked bars, one per label from the top.

    Args:
        labels: names of the bars.
        series: name → colour, values.
        notes: texts at the bars' ends.
        unit: title of the value axis.
    """
    labels = ["<br>".join(wrap(label, _LABEL)) for label in labels]
    totals = [sum(values[n] or 0 for _, values in series.values()) for n in range(len(labels))]
    bars: list[Figure] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": list(labels),
            "x": list(values),
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}}: %{{x:,}} {name}<extra></extra>",
        }
        for name, (colour, values) in series.items()
    ]
    bars.append(_notes(labels, totals, notes))
    layout = _layout(len(labels), title=unit)
    # Room at the right for the notes, which stand outside the bars.
    room = 1.15 + 0.02 * max(map(len, notes), default=0)
    layout["xaxis"] |= {"range": [0, room * max([*totals, 1])], "tickformat": "~s"}
    return {"data": bars, "layout": layout | {"barmode": "stack"}}


def _notes(labels: Sequence[str], at: Values, notes: Sequence[str]) -> Figure:
    return {
        "type": "scatter",
        "mode": "text",
        "x": list(at),
        "y": list(labels),
        "text": ["  " + note for note in notes],
        "textposition": "middle right",
        "textfont": {"color": MUTED, "size": 12},
        "hoverinfo": "skip",
        "cliponaxis": False,
    }


def scores_by_language(
    labels: Sequence[str], new: Values, intervals: Sequence[tuple[float, float]], old: Values | None, always_yes: Values
) -> Figure:
    """Draws F1 of each language, one row per language from the top.

    Args:
        labels: names of the rows.
        new: F1 of the new version.
        intervals: its bootstrap intervals (low, high).
        old: F1 of the champion; None where there is none.
        always_yes: F1 of answering always yes.
    """
    rows = list(labels)
    above = [high - value for value, (_, high) in zip(new, intervals, strict=True) if value is not None]
    below = [value - low for value, (low, _) in zip(new, intervals, strict=True) if value is not None]
    data: list[Figure] = [
        _dots("always yes", rows, always_yes, {"symbol": "line-ns", "size": 15, "line": {"width": 2.5, "color": THIRD}}),
    ]
    if old is not None:
        data += [
            _links(rows, old, new),
            _dots("champion", rows, old, {"symbol": "circle-open", "size": 11, "color": SECOND, "line": {"width": 2.5}}),
        ]
    dots = _dots("new version", rows, new, {"symbol": "circle", "size": 11, "color": FIRST})
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": FIRST, "thickness": 1.5, "width": 5}
    data.append(dots | {"error_x": bars})
    layout = _layout(len(rows), title="F1 of the relevant pairs")
    layout["yaxis"] |= {"range": [len(rows) - 0.4, -0.6], "autorange": False}
    return {"data": data, "layout": layout}


def gains(labels: Sequence[str], values: Values, intervals: Sequence[tuple[float, float]]) -> Figure:
    """Draws differences with their intervals, one row per label from the top, beside a line at 0."""
    dots = _dots("gain", labels, values, {"symbol": "circle", "size": 11, "color": FIRST})
    above = [high - value for value, (_, high) in zip(values, intervals, strict=True) if value is not None]
    below = [value - low for value, (low, _) in zip(values, intervals, strict=True) if value is not None]
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": FIRST, "thickness": 1.5, "width": 5}
    layout = _layout(len(labels), title="gain in F1")
    layout["yaxis"] |= {"range": [len(labels) - 0.4, -0.6], "autorange": False}
    layout["shapes"] = [
        {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": INK, "width": 1, "dash": "dot"}}
    ]
    return {"data": [dots | {"error_x": bars}], "layout": layout}


def _dots(name: str, rows: Sequence[str], values: Values, marker: Mapping[str, Any]) -> Figure:
    hover = f"%{{y}}: %{{x:.4f}} {name}<extra></extra>"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "y": list(rows),
        "x": list(values),
        "marker": dict(marker),
        "hovertemplate": hover,
    }


def _links(rows: Sequence[str], old: Values, new: Values) -> Figure:
    """Draws a line from the champion's dot to the new version's in each row; None separates the lines."""
    x = [value for pair in zip(old, new, strict=True) for value in (*pair, None)]
    y = [place for row in rows for place in (row, row, None)]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "line": {"color": LINE, "width": 4},
        "hoverinfo": "skip",
    }


def threshold(calibration: Mapping[str, Values], judgement: Mapping[str, Values], chosen: float) -> Figure:
    """Draws F1 over the threshold on both parts of dev, and the threshold chosen on the calibration part."""
    layout = _curve_layout("threshold on p(yes)", "F1")
    layout["shapes"] = [
        {
            "type": "line",
            "x0": chosen,
            "x1": chosen,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "line": {"color": INK, "width": 1, "dash": "dot"},
        }
    ]
    right = chosen > 0.6
    layout["annotations"] = [
        {
            "x": chosen,
            "y": 0.02,
            "yref": "paper",
            "yanchor": "bottom",
            "xanchor": "right" if right else "left",
            "text": f" {chosen:.3f} ",
            "showarrow": False,
            "font": {"color": INK, "size": 13},
        }
    ]
    lines = [
        _line("calibration (chose it)", calibration["threshold"], calibration["f1"], SECOND),
        _line("judgement (judges it)", judgement["threshold"], judgement["f1"], FIRST),
    ]
    return {"data": lines, "layout": layout}


def over_versions(labels: Sequence[str], lines: Mapping[str, Values], served: Sequence[bool]) -> Figure:
    """Draws F1 over versions, oldest first.

    Args:
        labels: names of the versions.
        lines: name → F1; the first line is the main one and has a dot for each version, a full dot for those that served.
        served: whether each version served.
    """
    layout = _curve_layout("", "F1")
    steps = sorted({round(n * (len(labels) - 1) / 3) for n in range(4)}) if labels else []
    layout["xaxis"] |= {"tickvals": steps, "ticktext": [labels[n][:10] for n in steps], "range": [-0.5, max(len(labels), 4) - 0.5]}
    first, *others = lines
    data = [_over(first, labels, lines[first], None), *(_over(name, labels, lines[name], n) for n, name in enumerate(others))]
    for name, symbol, wanted in (("served", "circle", True), ("never served", "circle-open", False)):
        at = [n for n, did in enumerate(served) if did == wanted]
        marker = {"symbol": symbol, "size": 9, "color": FIRST, "line": {"width": 2, "color": FIRST}}
        dots: Figure = {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": at,
            "y": [lines[first][n] for n in at],
            "zorder": 2,
        }
        if at:
            data.append(dots | {"marker": marker, "hoverinfo": "skip"})
    return {"data": data, "layout": layout | {"hovermode": "closest"}}


def _over(name: str, labels: Sequence[str], values: Values, place: int | None) -> Figure:
    """Draws a line over versions: the main one, or one of many in a colour of its own, dashed when the colours run out."""
    count = len(SERIES)
    line: Figure = {"color": FIRST, "width": 3}
    if place is not None:
        line = {"color": SERIES[place % count], "width": 1.6, "dash": ("solid", "dot", "dash")[place // count % 3]}
    around = zip([None, *values], values, [*values[1:], None], strict=False)
    alone = any(value is not None and before is None and after is None for before, value, after in around)
    return {
        "type": "scatter",
        # A value without neighbours would draw no line.
        "mode": "lines+markers" if alone else "lines",
        "zorder": 1 if place is None else 0,
        "name": name,
        "x": list(range(len(labels))),
        "y": list(values),
        "text": list(labels),
        "line": line,
        "hovertemplate": f"%{{text}}<br>{name}: %{{y:.4f}}<extra></extra>",
    }


def precision_recall(new: Mapping[str, Values], old: Mapping[str, Values] | None, point: tuple[float, float]) -> Figure:
    """Draws precision over recall on the judgement rows.

    Args:
        new: the curve of the new version.
        old: the curve of the champion; None where there is none.
        point: (recall, precision) at the threshold in force.
    """
    lines = [_line("champion", old["recall"], old["precision"], SECOND)] if old else []
    lines.append(_line("new version", new["recall"], new["precision"], FIRST))
    at = {"type": "scatter", "mode": "markers", "name": "at its threshold", "x": [point[0]], "y": [point[1]]}
    lines.append(
        at | {"marker": {"color": FIRST, "size": 11}, "hovertemplate": "recall %{x:.3f}, precision %{y:.3f}<extra></extra>"}
    )
    layout = _curve_layout("recall", "precision")
    layout["xaxis"]["range"] = [0, 1.02]
    return {"data": lines, "layout": layout}


def loss(steps: Values, values: Values) -> Figure:
    """Draws the training loss over the optimiser's steps."""
    layout = _curve_layout("step", "loss")
    layout["yaxis"]["rangemode"] = "tozero"
    return {"data": [_line("loss", steps, values, FIRST)], "layout": layout}


def rates(labels: Sequence[str], series: Mapping[str, tuple[str, Values]], title: str) -> Figure:
    """Draws shares as dots, one row per label, for several series (name → colour, values)."""
    symbols = ("circle", "diamond")
    data = [
        _dots(name, labels, values, {"symbol": symbols[n % 2], "size": 11, "color": colour})
        for n, (name, (colour, values)) in enumerate(series.items())
    ]
    layout = _layout(len(labels), title=title)
    most = max([value for _, values in series.values() for value in values if value is not None] + [0.05])
    # A little room at both ends: a dot at 0 shows whole.
    layout["xaxis"] |= {"range": [-0.03 * most, 1.08 * most], "tickformat": ".1~%"}
    layout["yaxis"] |= {"range": [len(labels) - 0.4, -0.6], "autorange": False}
    return {"data": data, "layout": layout}


def with_band(figure: Figure, bounds: Sequence[float]) -> Figure:
    """Returns a figure of shares from 0 to 1 with the values outside `bounds` (lowest, highest) shaded."""
    shade = {
        "type": "rect",
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "fillcolor": BAD,
        "opacity": 0.12,
        "line": {"width": 0},
        "layer": "below",
    }
    layout = figure["layout"] | {"shapes": [shade | {"x0": 0, "x1": bounds[0]}, shade | {"x0": bounds[1], "x1": 1}]}
    layout["xaxis"] = layout["xaxis"] | {"range": [0, 1]}
    return {"data": figure["data"], "layout": layout}


def _line(name: str, x: Values, y: Values, colour: str) -> Figure:
    line = {"color": colour, "width": 2.5}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": line,
        "hovertemplate": f"%{{x:.3~f}}: %{{y:.4f}} {name}<extra></extra>",
    }


def _layout(rows: int, title: str) -> Figure:
    """Returns the layout of rows of labels: as high as they need, the first row on top."""
    return _base(_ROW * rows + 62) | {
        "yaxis": {
            "autorange": "reversed",
            "automargin": True,
            "ticksuffix": "  ",
            "tickfont": {"color": INK},
            "fixedrange": True,
            "showgrid": False,
        },
        "xaxis": _axis(title),
        "bargap": 0.35,
    }


def _curve_layout(x: str, y: str) -> Figure:
    return _base(280) | {"xaxis": _axis(x), "yaxis": _axis(y)}


def _axis(title: str) -> Figure:
    font = {"color": MUTED, "size": 12}
    return {
        "title": {"text": title, "font": font, "standoff": 8},
        "tickfont": font,
        "gridcolor": LINE,
        "linecolor": LINE,
        "zeroline": False,
        "automargin": True,
        "fixedrange": True,
    }


def _base(height: int) -> Figure:
    return {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "inherit", "size": 13, "color": INK},
        "hoverlabel": {"bgcolor": "--card", "bordercolor": LINE, "font": {"color": INK}},
        "showlegend": False,
    }
