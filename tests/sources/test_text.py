"""The text of a file: archives, encodings, and the place of what can't be read."""

from __future__ import annotations

import gzip

import pyarrow as pa
import pytest

from relevance_core.sources.reading import Unreadable
from relevance_core.sources.text import decode, decode_lines, decompress, newline_of

LINES = b"".join(b"row %d\n" % number for number in range(5000))
ZIPPED = gzip.compress(LINES, mtime=0)
ZSTD = bytes(pa.compress(LINES, codec="zstd", asbytes=True))


def refused(data: bytes, name: str) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        decompress(data, name)
    return caught.value


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv", "A.CSV.GZ"])
def test_an_archive_is_known_by_its_content(name: str) -> None:
    """gzip and zstd archives are read whatever the name, all of their members, and plain text is read under an archive's name."""
    assert decompress(ZIPPED, name) == (LINES, "gzip")
    assert decompress(ZIPPED + gzip.compress(b"end"), name) == (LINES + b"end", "gzip")
    assert decompress(ZIPPED + bytes(512), name) == (LINES, "gzip")
    assert decompress(ZSTD + ZSTD, name) == (2 * LINES, "zstd")
    assert decompress(LINES, name) == (LINES, "")
    assert decompress("ä".encode("utf-16"), name) == ("ä".encode("utf-16"), "")


@pytest.mark.parametrize(("archive", "kind"), [(ZIPPED, "gzip"), (ZSTD, "zstd")])
def test_a_cut_archive_is_read_in_no_part(archive: bytes, kind: str) -> None:
    """Wherever the end is missing, the archive is refused."""
    for end in (len(archive) - 1, len(archive) - 9, len(archive) // 2, 20):
        error = refused(archive[:end], "a")
        assert error.what.startswith(f"the {kind} archive is cut")
        assert error.do == "write or copy the file again"


def test_a_cut_archive_says_how_far_it_can_be_read() -> None:
    """Half of an archive of 5,000 lines is some of the lines, counted from the content that can be had."""
    error = refused(ZIPPED[: len(ZIPPED) // 2], "a")
    assert 1000 < error.line < 4000
    assert error.line == LINES[: error.byte].count(b"\n") + 1
    assert f"{error.byte:,} bytes of content, up to line {error.line:,}" in error.what


def test_a_damaged_archive_is_refused() -> None:
    """A changed byte, and bytes behind the archive, are found by its checksum and its end."""
    for at in range(10, len(ZIPPED), 97):
        damaged = ZIPPED[:at] + bytes([ZIPPED[at] ^ 0x55]) + ZIPPED[at + 1 :]
        assert "gzip archive is" in refused(damaged, "a").what
    assert "no archive" in refused(ZIPPED + b"x", "a").what
    assert "zstd archive is damaged" in refused(ZSTD + b"x", "a").what


@pytest.mark.parametrize(
    ("data", "name", "told"),
    [
        (b"", "a.csv.gz", "it is empty"),
        (b"\x1e\x8b\x08\x00", "a.csv.gz", "a gzip archive and the content is none"),
        (b"", "a.csv.ZST", "a zstd archive"),
        (b"PK\x03\x04\x14", "a.csv", "an Excel workbook"),
        (b"PAR1 columns PAR1", "a.csv", "a Parquet file"),
    ],
)
def test_content_that_is_no_text_is_named(data: bytes, name: str, told: str) -> None:
    """An archive by name alone, and other formats under a text's name, are refused for what they are."""
    assert told in refused(data, name).what


TEXT = "task,Wörter\nQC,鞋 🥾\n"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (TEXT.encode(), "utf-8"),
        (TEXT.encode("utf-8-sig"), "utf-8-sig"),
        ("\ufeff\ufeff".encode() + TEXT.encode(), "utf-8-sig"),
        (b"\xff\xfe" + TEXT.encode("utf-16-le"), "utf-16-le-sig"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "utf-16-be-sig"),
        (TEXT.encode("utf-16-le"), "utf-16-le"),
        (TEXT.encode("utf-16-be"), "utf-16-be"),
        (b"\xff\xfe\0\0" + TEXT.encode("utf-32-le"), "utf-32-le-sig"),
        (TEXT.encode("utf-32-be"), "utf-32-be"),
    ],
)
def test_unicode_is_found(data: bytes, found: str) -> None:
    """A mark, or the NUL bytes of the first characters, say the encoding; the mark is no part of the text."""
    assert decode(data, "auto") == (TEXT.encode(), found)


def test_a_named_encoding_is_used() -> None:
    """Any encoding of files that Python has, by any of its names; a mark of the same encoding is taken off."""
    assert decode("Töpfe".encode("cp1252"), "windows-1252") == ("Töpfe".encode(), "cp1252")
    assert decode("鍋\n".encode("shift_jis"), "Shift_JIS") == ("鍋\n".encode(), "shift_jis")
    assert decode(b"\xef\xbb\xbfa", "UTF8") == (b"a", "utf-8-sig")
    assert decode("a".encode("utf-16"), "utf-16") == (b"a", "utf-16-le-sig")


@pytest.mark.parametrize(
    ("data", "encoding", "line", "byte", "what"),
    [
        ("a\nTöpfe\n".encode("cp1252"), "auto", 2, 3, "0xF6 is no utf-8"),
        ("a\r\rTöpfe\r".encode("cp1252"), "auto", 3, 4, "0xF6 is no utf-8"),
        (b"a\n" + "鞋".encode()[:2], "auto", 2, 2, "0xE9 0x9E is no utf-8"),
        (b"a\nb\x81", "cp1252", 2, 3, "0x81 is no cp1252"),
        (b"a\nb\0\n", "auto", 2, 3, "a NUL character"),
        (b"\xff\xfe" + "a\nb\0".encode("utf-16-le"), "auto", 2, 8, "a NUL character"),
        (b"\xff\xfe" + "a\n".encode("utf-16-le") + b"\x00\xd8", "auto", 2, 6, "0x00 0xD8 is no utf-16-le"),
        (b"\xff\xfea\0b", "auto", 1, 4, "0x62 is no utf-16-le"),
        (b"\xed\xa0\x80", "auto", 1, 0, "0xED is no utf-8"),
        (b"a\n+2AA-", "utf-7", 2, -1, "half a surrogate pair, U+D800"),
        (b"\xef\xbb\xbfa", "cp1252", 1, 0, "the byte order mark of utf-8"),
        ("鞋".encode("utf-16-le"), "utf-16", 1, 0, "no byte order mark"),
        (b"a", "cp9999", 0, -1, "there is no encoding named 'cp9999'"),
        (b"a", "hex", 0, -1, "there is no encoding named 'hex'"),
        (b"a", "idna", 0, -1, "there is no encoding named 'idna'"),
    ],
)
def test_what_cannot_be_decoded_has_a_place(data: bytes, encoding: str, line: int, byte: int, what: str) -> None:
    """The line, the byte's offset and its value are named, and the setting that settles it; cp1252 is never guessed."""
    with pytest.raises(Unreadable) as caught:
        decode(data, encoding)
    assert (caught.value.line, caught.value.byte) == (line, byte)
    assert what in caught.value.what
    assert "source.encoding" in caught.value.do


def test_bad_bytes_are_named_one_by_one() -> None:
    """Each byte that can't be decoded, and each NUL, becomes U+FFFD, and its place in the text is named."""
    text, found, bad = decode_lines(b"a\nb\xfc\0\nc\n\xff", "auto")
    assert (text.decode(), found) == ("a\nb\ufffd\ufffd\nc\n\ufffd", "utf-8")
    assert bad == {3: "0xFC is no utf-8", 4: "a NUL character (0x00) is no text", 8: "0xFF is no utf-8"}
    assert decode_lines(b"\xe4\rb\x81\r", "cp1252")[2] == {3: "0x81 is no cp1252"}
    half = b"\xff\xfe" + "a\nb".encode("utf-16-le") + b"\x00\xd8" + "\nc".encode("utf-16-le") + b"x"
    assert decode_lines(half, "auto")[2] == {3: "half a character is no utf-16-le", 6: "half a character is no utf-16-le"}


def test_bytes_that_depend_on_others_cost_the_file() -> None:
    """In an encoding whose characters have several bytes, what follows a bad byte is not certain either."""
    with pytest.raises(Unreadable, match="shift_jis"):
        decode_lines("鍋\n".encode("shift_jis") + b"\x81", "shift_jis")


@pytest.mark.parametrize(
    ("text", "newline"), [("a\nb", "\n"), ("a\r\nb\r\n", "\n"), ("a\rb", "\r"), ("a\rb\rc\n", "\r"), ("", "\n")]
)
def test_lines_are_counted_by_their_usual_end(text: str, newline: str) -> None:
    """Carriage returns count where they stand alone more often than line feeds end a line."""
    assert newline_of(text) == newline
