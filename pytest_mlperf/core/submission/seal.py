"""The seal of a submitter's folder: the SHA-256 of every file, as sha256sum writes it.

No checker asks for it. It is how a README cut in two, a lost source file and a changed
number are found, which no rule can see: ``sha256sum -c`` reads it too.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlperf.core.regular_file import open_regular

if TYPE_CHECKING:
    from pytest_mlperf.core.submission.check.listing import Listing

FILE = "documentation/sha256sums.txt"
"""Of the seal, below the submitter's folder; it does not list itself."""
LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")


def digest_files(listing: Listing, home: str) -> dict[str, str]:
    """Return path below a submitter's folder -> SHA-256, of every file but the seal.

    A link to a file outside the tree is not included. Raises ``OSError`` for a file
    that cannot be read.
    """
    found = {}
    for entry in listing.below(home):
        name = entry.path.removeprefix(f"{home}/")
        if listing.is_file(entry.path) and name != FILE:
            with listing.open(entry.path) as file:
                found[name] = digest_stream(file)
    return found


def digest_file(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits; ``OSError`` if unreadable."""
    with open_regular(path) as file:
        return digest_stream(file)


def digest_stream(file: BufferedReader) -> str:
    """Return the SHA-256 of an open file in hexadecimal digits."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def format_seal(found: Mapping[str, str]) -> str:
    """Return the seal of these digests; sha256sum takes the last line for a comment."""
    lines = [f"{found[name]}  {name}\n" for name in sorted(found)]
    return "".join([*lines, format_closing(len(lines)), "\n"])


def format_closing(count: int) -> str:
    """Return the last line; a seal without it is truncated."""
    return f"# {count} files"


def parse_seal(content: str) -> tuple[dict[str, str], int]:
    """Return path -> SHA-256, and the number of the first line that is wrong, or 0."""
    found: dict[str, str] = {}
    lines = content.splitlines()
    for number, line in enumerate(lines, 1):
        if number == len(lines) and line == format_closing(len(found)):
            return found, 0
        match = LINE.fullmatch(line)
        if match is None or match[2] in found:
            return found, number
        found[match[2]] = match[1]
    return found, max(len(lines), 1)


def write_seal(listing: Listing, home: str) -> Path:
    """Seal a submitter's folder as it was listed and return the seal's path.

    Raises ``OSError``, also for a link where the seal belongs: what it leads to would
    be overwritten.
    """
    content = format_seal(digest_files(listing, home))
    path = listing.root / home / FILE
    for place in (path.parent, path):
        if place.is_symlink():
            raise OSError(errno.ELOOP, "a link where the seal belongs", str(place))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path
