"""Untrusted text files, line by line; what is wrong with one is a ``LogError``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO
from typing import Any

from pytest_mlperf.core.regular_file import open_regular

BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
LONGEST_LINE = 1 << 24
"""Bytes; the longest honest line lists the loaded samples: about 6 MB for R-GAT."""
NAMES = (
    b"SUT name : ",
    b':::MLLOG {"key": "sut_name",',
    b':::MLLOG {"key": "qsl_name",',
)
"""How lines begin that have a name in C, which may bring the zero at its end."""
END_OF_NAME = re.compile(rb'\0(?="|\s*$)')
LONG_LINE = 1 << 20
"""Bytes from where on a line has to be a plain list, because JSON of many small
values takes thirty times its size in memory."""


class LogError(Exception):
    """A file that cannot be trusted: what was found, what it should be, what to do."""

    def __init__(
        self, file: Path | str, line: int, found: str, required: str, remedy: str = ""
    ) -> None:
        self.file = str(file)
        self.line = line
        self.found = found
        self.required = required
        self.remedy = remedy or "repeat the run; this one proves nothing"
        super().__init__(file, line, found, required, remedy)

    @property
    def where(self) -> str:
        """``mlperf_log_detail.txt:123``; the file alone where no line is to blame."""
        name = Path(self.file).name
        return f"{name}:{self.line}" if self.line else name

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        text = f"{place}: found {self.found}, should be {self.required}"
        return f"{text}: {self.remedy}"


def open_log(path: Path, root: Path | None = None) -> BufferedReader:
    """Open a regular file for reading; ``LogError`` for anything else.

    Links are followed inside ``root`` only, where one is given.
    """
    try:
        return open_regular(path, root)
    except OSError as error:
        found = f"{error.strerror or error}".lower()
    except ValueError as error:
        found = str(error)
    raise LogError(path, 0, found, "a file that LoadGen wrote")


def read_lines(
    path: Path, longest: int = LONGEST_LINE, root: Path | None = None
) -> Iterator[tuple[int, str]]:
    """Yield number and text of every line that is not blank, streaming.

    Blanks around a line are not part of it. Raises ``LogError`` for a missing, empty
    or undecodable file, a byte-order mark, a NUL and a line of ``longest`` bytes.
    """
    number = 0
    with open_log(path, root) as file:
        while raw := _line(file, path, longest):
            number += 1
            if number == 1 and raw.startswith(BOMS):
                raise LogError(path, 1, "a byte-order mark", "plain UTF-8")
            if raw.startswith(NAMES):
                raw = END_OF_NAME.sub(b"", raw, 1)
            if b"\0" in raw:
                raise LogError(path, number, "a NUL byte", "plain UTF-8")
            if len(raw) == longest:
                raise LogError(path, number, "an endless line", "LoadGen's lines")
            if len(raw) > LONG_LINE and not raw.isascii():
                found = f"{len(raw):,} bytes that are not all ASCII"
                raise LogError(path, number, found, "LoadGen's lines")
            try:
                text = raw.strip().decode()
            except UnicodeDecodeError:
                found = "bytes that are not UTF-8"
                raise LogError(path, number, found, "plain UTF-8") from None
            if text:
                yield number, text
    if not number:
        raise LogError(path, 0, "an empty file", "a file that LoadGen wrote")


def _line(file: IO[bytes], path: Path, longest: int) -> bytes:
    try:
        return file.readline(longest)
    except OSError as error:
        found = f"{error.strerror or error}".lower()
        raise LogError(path, 0, found, "a file that can be read") from None


def parse_json(path: Path, number: int, text: str) -> Any:
    """Return the JSON value of a line; ``LogError`` for anything that is not JSON."""
    plain = len(text) <= LONG_LINE or (
        text.isascii() and sum(map(text.count, '"[{')) <= 1000
    )
    if not plain:
        found = f"a record of {len(text):,} characters that is no plain list"
        raise LogError(path, number, found, "LoadGen's lines")
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        found = f"{text[-40:]!r} ({str(error)[:60]})"
    else:
        if end == len(text):
            return value
        found = f"{text[end : end + 40]!r} after the record"
    raise LogError(path, number, found, "a whole JSON record")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a name twice in one record")
    return record


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
