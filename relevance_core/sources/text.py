"""The text of a file: decompressed to its end and decoded for certain, or Unreadable with the place."""

from __future__ import annotations

import codecs
import re
import zlib
from typing import Final

import pyarrow as pa

from relevance_core.sources.reading import Options, Unreadable

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
_STEP: Final = 1 << 10
_ARCHIVES: Final = {".gz": "gzip", ".zst": "zstd"}
_OTHER: Final = (
    (re.compile(rb"PK\x03\x04"), "a ZIP archive or an Excel workbook"),
    (re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "an old Excel workbook"),
    (re.compile(rb"PAR1.*PAR1\Z", re.DOTALL), "a Parquet file"),
    (re.compile(rb"BZh[1-9]\x31\x41\x59\x26\x53\x59"), "a bzip2 archive"),
    (re.compile(rb"\xfd7zXZ\x00"), "an xz archive"),
)
"""Formats that are no text, by how they begin."""

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order mark → encoding; UTF-32's comes before UTF-16's, with which it begins."""

_UNMARKED: Final = (
    (re.compile(rb"[^\0]\0\0\0([^\0]\0\0\0|\Z)", re.DOTALL), "utf-32-le"),
    (re.compile(rb"\0\0\0[^\0](\0\0\0[^\0]|\Z)", re.DOTALL), "utf-32-be"),
    (re.compile(rb"[^\0]\0([^\0]\0|\Z)", re.DOTALL), "utf-16-le"),
    (re.compile(rb"\0[^\0](\0[^\0]|\Z)", re.DOTALL), "utf-16-be"),
)
"""The first two characters of text in ASCII → encoding of text without a mark."""

ANOTHER: Final = 3
"""The undecodable lines from which on the file may have another encoding; fewer may be damaged."""

_NO_FILES: Final = ("undefined", "idna", "punycode", "unicode-escape", "raw-unicode-escape")
"""Python's encodings of other things than files."""

_MARK: Final = "\ufeff"
_NO_CHARACTER: Final = re.compile("[\ud800-\udfff\0]")
_NO_BYTE: Final = re.compile("[\udc80-\udcff]")
_DO: Final = "set source.encoding to the file's encoding, such as cp1252, or write the file in UTF-8"


def decompress(data: bytes, name: str) -> tuple[bytes, str]:
    """Returns a file's whole content and its compression (gzip, zstd or ""). Raises Unreadable for a cut or damaged archive.

    The content alone says that it is an archive: plain text whose name ends in .gz is read as it is.

    Args:
        data: the bytes of the file.
        name: its name; an archive by name whose content is neither that archive nor text is refused.
    """
    if data.startswith(_GZIP):
        return _gunzip(data), "gzip"
    if data.startswith(_ZSTD) or _ZSTD_SKIPPABLE.match(data):
        return _unzstd(data), "zstd"
    found = next((what for begin, what in _OTHER if begin.match(data)), "")
    if found and not name.lower().endswith(".parquet"):
        raise Unreadable(
            f"the content is {found}",
            expected="text, or text in a gzip or zstd archive",
            do="export the rows as text, or take the file out of the source",
        )
    kind = next((kind for ending, kind in _ARCHIVES.items() if name.lower().endswith(ending)), "")
    begins = data[:4]
    if kind and not (begins.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or _is_text(begins)):
        raise Unreadable(
            f"the name is that of a {kind} archive and the content is none" + ("" if data else ": it is empty"),
            byte=0,
            expected=f"a {kind} archive",
            do="write the file again",
        )
    return data, ""


def _is_text(begins: bytes) -> bool:
    return bool(begins) and not any(byte < 32 and byte not in b"\t\n\r" for byte in begins if byte)


def _gunzip(data: bytes) -> bytes:
    parts, rest, whole = [], data, True
    while rest.startswith(_GZIP):
        member = zlib.decompressobj(wbits=31)
        try:
            parts.append(member.decompress(rest))
        except zlib.error:
            raise _broken("gzip", "damaged", parts, _part(rest)) from None
        whole = member.eof
        rest = member.unused_data
    if not whole:
        raise _broken("gzip", "cut", parts[:-1], parts[-1])
    if rest.strip(b"\0"):  # gzip itself passes over zeros behind an archive
        raise _broken("gzip", "followed by bytes that are no archive", parts, b"")
    return b"".join(parts)


def _part(data: bytes) -> bytes:
    """Returns the content of a damaged gzip member up to the damage."""
    member, found = zlib.decompressobj(wbits=31), []
    try:
        for at in range(0, len(data), 256):
            found.append(member.decompress(data[at : at + 256]))
    except zlib.error:
        pass
    return b"".join(found)


def _unzstd(data: bytes) -> bytes:
    try:
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            return bytes(stream.read())
    except (OSError, pa.ArrowException) as error:
        how = "cut" if "runcated" in str(error) else "damaged"
    parts: list[bytes] = []
    try:
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            while part := stream.read(_STEP):
                parts.append(part)
    except (OSError, pa.ArrowException):
        pass
    raise _broken("zstd", how, parts, b"")


def _broken(kind: str, how: str, parts: list[bytes], last: bytes) -> Unreadable:
    read = b"".join((*parts, last))
    return Unreadable(
        f"the {kind} archive is {how}: {len(read):,} bytes of content, up to line {read.count(10) + 1:,}, can be read",
        line=read.count(10) + 1,
        byte=len(read),
        expected="a whole archive: nothing of this file is used",
        do="write or copy the file again",
    )


def decode(data: bytes, encoding: str) -> tuple[bytes, str]:
    """Returns the text as UTF-8 without a byte order mark, and the name of its encoding as found (`Form.encoding`).

    With `auto` a byte order mark says the encoding; without one it is UTF-16 or UTF-32 where the NUL bytes of the first two
    characters leave no doubt, else UTF-8. No other encoding is guessed. A named encoding is used strictly. A text with a NUL
    character or with half a surrogate pair is unreadable.

    Args:
        data: the decompressed content of a file.
        encoding: `source.encoding`: Python's name of an encoding, or auto.

    Raises:
        Unreadable: the encoding is unknown or does not fit; names the line, the byte's offset and its value.
    """
    name, mark = _encoding(data, encoding)
    found = f"{name}-sig" if mark else name
    body = data[mark:]
    if name == "utf-8" and body.isascii():
        text, plain = "", body
    else:
        text = _strict(body, name, mark, encoding)
        plain = body if name == "utf-8" else _encoded(text)
    while plain.startswith(codecs.BOM_UTF8):
        plain = plain[len(codecs.BOM_UTF8) :]
    if b"\0" in plain:
        raise _nul(body, plain, name, mark)
    return plain, found


def plain(data: bytes, name: str) -> bytes:
    """Returns the text of a file beside the logs, decompressed, in UTF-8 without a byte order mark.

    Such a file has no settings: it is in UTF-8, or in UTF-16 or UTF-32 as `decode` finds it. Raises Unreadable.
    """
    data, _ = decompress(data, name)
    try:
        return decode(data, "auto")[0]
    except Unreadable as error:
        error.do = "write the file in UTF-8; source.encoding is for the logs alone"
        raise


def decode_rows(data: bytes, options: Options) -> tuple[bytes, str, dict[int, str]]:
    """Decodes a text of rows. Raises Unreadable.

    Returns the text and its encoding as `decode` does, and the places that can't be decoded, as `decode_lines` does, where the
    rows in which they are go to quarantine.
    """
    try:
        return *decode(data, options.encoding), {}
    except Unreadable:
        if options.bad_rows == "stop":
            raise
        return decode_lines(data, options.encoding)


def decode_lines(data: bytes, encoding: str) -> tuple[bytes, str, dict[int, str]]:
    """Decodes a text whose bad bytes are to cost their lines alone.

    Returns what `decode` does, with U+FFFD for each byte that can't be decoded and each NUL, and, by its offset in the text's
    characters, why it is none. Raises Unreadable where the encoding as a whole does not fit: it is unknown, its bytes depend on
    those before, or, with `auto`, most of the lines with other characters than ASCII's can't be decoded, and ANOTHER or more of
    them.
    """
    name, mark = _encoding(data, encoding)
    body = data[mark:]
    if name == "utf-8" or _of_single_bytes(name):
        text = body.decode(name, errors="surrogateescape")
    elif name in ("utf-16-le", "utf-16-be"):
        whole = len(body) - len(body) % 2
        text = body[:whole].decode(name, errors="surrogatepass") + "\udcff" * (whole < len(body))
    else:
        return *decode(data, encoding), {}
    if encoding == "auto" and name == "utf-8" and not mark:
        _refuse_another_encoding(body, text)
    text = text.lstrip(_MARK)
    bad = {match.start(): _what(ord(match[0]), name) for match in _NO_CHARACTER.finditer(text)}
    return _NO_CHARACTER.sub("\ufffd", text).encode(), f"{name}-sig" if mark else name, bad


def _refuse_another_encoding(body: bytes, text: str) -> None:
    lines = [line for line in text.split(newline_of(text)) if not line.isascii()]
    bad = sum(bool(_NO_BYTE.search(line)) for line in lines)
    if bad >= ANOTHER and bad * 2 > len(lines):
        try:
            _strict(body, "utf-8", 0, "auto")
        except Unreadable as error:
            error.what += f"; {bad:,} of the {len(lines):,} lines with other characters than ASCII's can't be decoded"
            error.do += "; set source.encoding to utf-8 to leave such lines out"
            raise


def told(why: str) -> str:
    """Returns the reason why a row's bytes can't be decoded, with the setting that may settle it."""
    return f"{why}; set source.encoding if the file has another encoding"


def _what(character: int, name: str) -> str:
    if not character:
        return "a NUL character (0x00) is no text"
    return f"half a character is no {name}" if name.startswith("utf-16") else f"0x{character & 0xFF:02X} is no {name}"


def _of_single_bytes(name: str) -> bool:
    """Tells an encoding in which each byte is a character, ASCII as itself."""
    text = bytes(range(256)).decode(name, errors="replace")
    return len(text) == 256 and text[:128] == "".join(map(chr, range(128)))


def _encoding(data: bytes, wanted: str) -> tuple[str, int]:
    """Returns the encoding's name and the length of the byte order mark. Raises Unreadable."""
    marked, mark = next(((name, len(mark)) for mark, name in _MARKS if data.startswith(mark)), ("", 0))
    unmarked = next((name for begin, name in _UNMARKED if begin.match(data)), "utf-8")
    if wanted == "auto":
        return marked or unmarked, mark
    name = _python_name(wanted)
    general = name in ("utf-16", "utf-32")
    if general and (marked or unmarked).startswith(name):
        return marked or unmarked, mark
    if general:
        raise Unreadable(
            f"the text has no byte order mark that says which {name} it is",
            line=1,
            byte=0,
            expected=f"{wanted}, as source.encoding says",
            do=f"set source.encoding to {name}-le or {name}-be, or to auto",
        )
    if not marked:
        return name, 0
    if marked != name:
        raise Unreadable(
            f"the text begins with the byte order mark of {marked}",
            line=1,
            byte=0,
            expected=f"{wanted}, as source.encoding says",
            do="set source.encoding to auto, or write the file again",
        )
    return name, mark


def _python_name(wanted: str) -> str:
    try:
        found = codecs.lookup(wanted)
    except (LookupError, ValueError):
        found = None
    if found is None or found.name in _NO_FILES or not getattr(found, "_is_text_encoding", True):
        raise Unreadable(
            f"there is no encoding named {wanted[:40]!r}",
            expected="Python's name of an encoding, such as utf-8, cp1252 or shift_jis, or auto",
            do="correct source.encoding",
        )
    return "utf-8" if found.name == "utf-8-sig" else found.name


def _strict(body: bytes, name: str, mark: int, wanted: str) -> str:
    try:
        return body.decode(name)
    except UnicodeDecodeError as error:
        start, end, why = error.start, max(error.end, error.start + 1), error.reason
    except UnicodeError as error:
        start, end, why = 0, 1, str(error)
    newline = newline_of(body.decode(name, errors="replace"))
    line = body[:start].decode(name, errors="replace").count(newline) + 1
    shown = " ".join(f"0x{byte:02X}" for byte in body[start:end][:4]) or "the end of the file"
    raise Unreadable(
        f"{shown} is no {name}" + (f" ({why[:60]})" if why else ""),
        line=line,
        byte=mark + start,
        expected=f"{wanted}, as source.encoding says" if wanted != "auto" else "UTF-8, or UTF-16 with a byte order mark",
        do=_DO,
    )


def newline_of(text: str) -> str:
    """Returns the character by which a text's lines are counted: the carriage return where most lines end in it alone."""
    returns = text.count("\r")
    return "\r" if returns and returns - text.count("\r\n") > text.count("\n") else "\n"


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Unreadable(
            f"half a surrogate pair, U+{ord(text[error.start]):04X}, is no character",
            line=text.count(newline_of(text), 0, error.start) + 1,
            expected="whole characters",
            do=_DO,
        ) from None


def _nul(body: bytes, plain: bytes, name: str, mark: int) -> Unreadable:
    before = plain[: plain.index(0)]
    at = len(before.decode().encode(name)) if name.startswith("utf-") else body.index(0)
    return Unreadable(
        "a NUL character (0x00) is no text",
        line=before.count(newline_of(plain.decode()).encode()) + 1,
        byte=mark + at,
        expected="text; UTF-16 is found by its byte order mark",
        do="set source.encoding to the file's encoding, such as utf-16-le, or write the file again",
    )
