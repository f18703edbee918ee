"""Rows of a shop's log, with the texts that break readers."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

DAY: Final = datetime(2026, 10, 14, tzinfo=UTC)
"""The window's only day."""

Fits = Callable[[str], bool]
"""Tells a text that a form of file can hold."""

PHRASES: Final[dict[str, tuple[str, ...]]] = {
    "en": ("red shoe", "casserole pan", "men's jacket", "usb cable 2 m", "garden hose", "t-shirt & shorts", "size 42½ boots"),
    "de": ("Größe 38 Stiefel", "Übergangsjacke", "Töpfe für Induktion", "Fußball", "Mädchenkleid", "Küchenmaschine weiß"),
    "fr": ("casserole émail", "chaussure d'été", "poêle à crêpes", "forêt noire", "lampe à pétrole", "façade"),
    "es": ("zapatos de niño", "señora vestido", "batería cocina", "pantalón corto", "¿dónde está?"),
    "pt": ("calção de praia", "sapato de salto", "relógio João", "panela de pressão"),
    "pl": ("buty zimowe żółte", "łóżko dziecięce", "garnek ćwiartka"),
    "ar": ("حذاء أحمر", "قدر طبخ", "سماعات لاسلكية", "هاتف ٥ بوصة"),
    "th": ("รองเท้าผู้ชาย", "หม้อหุงข้าว น้ำดื่ม", "กระเป๋าสะพาย"),
    "ja": ("赤い靴", "フライパン 26cm", "ソーセージ", "表示用シート", "ﾊﾝｶｸ文字", "予算10²"),
    "zh": ("红色鞋子", "不锈钢锅", "手机壳 苹果", "儿童服装"),
    "ko": ("빨간 신발", "냄비 세트", "ㄱㄴㄷ 블록", "이어폰"),
}
LATIN: Final = ("en", "de", "fr", "es", "pt")

ODD: Final = (
    "pan, steel, 2 l", "pan; steel", "pan | steel", "a,b;c|d", "tab\there", "two\nlines", "two\r\nlines", "old\rmac",
    "three\n\nlines", '12" pan', '7" x 9" frame', '"quoted"', 'the "best" pan', '"', '""', 'ends in "',
    '"starts and, goes on', "it's", "'single'", "back\\slash", "C:\\temp\\", "\\", "\\\\", '\\"', 'a \\" b', "\\N", "\\n",
    "=1+1", "+49 30", "-5", "@home", "NULL", "None", "null", "nan", "NaN", "N/A", "NA", "true", "1", "007", "1e5", "1,5",
    " lead", "trail ", "  both  ", "\tindent", "a  b", "#hash", "%20", "<b>&amp;</b>", "emoji 👟", "family 👨‍👩‍👧",
    "cafe\u0301", "e\u0301\u0323", "\u200bzero width", "no\u00a0break", "line\u2028sep", "next\u0085line", "form\x0cfeed",
    "file\x1cseparator", "vertical\x0btab", "bom\ufeffinside", "rtl \u202babc\u202c", "{}", "[]", '{"a": 1}', "[1, 2]",
    "${x}", "%s", "--", "/*", "//", "?", "*", "[a-z]", "sep=;", "task,language", "query", "½ ² ﬁ Ⅷ", "ＡＢＣ", "\U0002000b rare",
    "𝒇ancy", "\ufffd",
)  # fmt: skip
"""Texts that some writer or reader somewhere gets wrong."""


@dataclass(frozen=True)
class Row:
    """A labelled row as a shop has it; `target` holds the category of QC and the item's title of QI."""

    task: str
    language: str
    query: str | None
    target: str | None
    label: int
    target_id: str | None
    time: datetime
    number: int

    def values(self, *, time: bool, target_id: bool) -> dict[str, Any]:
        """Returns what a reader should say; a time or an id that is not written can't be compared."""
        told: dict[str, Any] = {name: getattr(self, name) for name in ("task", "language", "query", "target", "label")}
        return (
            told
            | ({"event_time": self.time} if time else {})
            | ({"target_id": self.target_id} if target_id and self.target_id else {})
        )


def make_rows(rng: Random, count: int, tasks: tuple[str, ...], languages: tuple[str, ...], fits: Fits, *, long: bool) -> list[Row]:
    """Returns rows of which no two are the same pair; a query or a target may be null or empty, never both of a row.

    Args:
        rng: draws everything.
        count: rows.
        tasks: QC, QI or both.
        languages: codes of PHRASES.
        fits: texts that the file can hold.
        long: makes a text of some ten thousand characters.
    """
    ids = rng.choice(["", "whole", "zeros", "text"])
    rows = []
    for number in range(count):
        language = rng.choice(languages)
        query: str | None = (
            f"{_text(rng, language, fits)} q{number}" if rng.random() < 0.6 else f"q{number} {_text(rng, language, fits)}"
        )
        target: str | None = (
            f"{_text(rng, language, fits)} t{number}" if rng.random() < 0.6 else f"t{number}, {_text(rng, language, fits)}"
        )
        if long and number == count // 2:
            query = f"{query} {'very long ' * rng.choice([900, 6000])}end"
        if number and rng.random() < 0.08:  # a column that is null in every row is a missing column
            query, target = rng.choice([(None, target), ("", target), (query, None), (query, "")])
        query, target = (
            text if text is None or fits(text) else f"plain {name}{number}" for name, text in (("q", query), ("t", target))
        )
        time = DAY + timedelta(seconds=rng.randrange(86400) if rng.random() < 0.8 else rng.choice([0, 3600, 86399]))
        rows.append(Row(rng.choice(tasks), language, query, target, rng.randrange(2), _id(rng, ids, number), time, number))
    return rows


def _text(rng: Random, language: str, fits: Fits) -> str:
    text = rng.choice(PHRASES[language]) if rng.random() < 0.55 else rng.choice(ODD)
    if rng.random() < 0.1:
        text = unicodedata.normalize("NFD", text)
    if rng.random() < 0.15:
        text = f"{text} {rng.choice(ODD)}"
    return text if fits(text) else rng.choice([word for word in PHRASES["en"] if word.isascii()])


def _id(rng: Random, kind: str, number: int) -> str | None:
    if not kind or rng.random() < 0.1:
        return None
    return {"whole": str(1001 + number), "zeros": f"{number:06d}", "text": f"B0{number:04X}"}[kind]
