"""A tree as it is on disk, listed once: names, kinds and sizes; read without trust."""

from __future__ import annotations

import enum
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from io import BufferedReader
from pathlib import Path
from typing import Any

from pytest_mlperf.core.regular_file import Identity
from pytest_mlperf.core.regular_file import identify_file
from pytest_mlperf.core.regular_file import open_regular
from pytest_mlperf.core.submission.check.problem import Problem

MOST = 1_000_000
"""Entries; the official results of v5.1 have 50,000."""
LARGEST_TEXT = 1 << 22
"""Bytes of a description or a note that are read; honest ones have some thousand."""


class EntryKind(enum.Enum):
    """What an entry of a folder is."""

    FILE = "a file"
    FOLDER = "a folder"
    BROKEN = "a link to nothing"
    OUTSIDE = "a link that leaves the tree"
    CYCLE = "a link to a folder that holds it"
    SPECIAL = "no regular file"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One name below the root; a link counts as what it leads to."""

    path: str
    kind: EntryKind
    size: int = 0
    link: str = ""
    """Where it points to, if it is a link."""
    why: str = ""
    """Why it is unreadable."""
    identity: Identity | None = None
    """Of a regular file."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Listing:
    """Every entry below a root, by its path with forward slashes."""

    root: Path
    entries: dict[str, TreeEntry] = field(default_factory=dict)
    inside: dict[str, list[str]] = field(default_factory=dict)
    """Folder -> names in it, sorted; the root is the empty path."""

    @classmethod
    def of(cls, root: Path) -> Listing:
        """List a tree; what cannot be read is an entry that says so."""
        listing = cls(root)
        real = os.path.realpath(root)
        stack: list[tuple[str, tuple[str, ...]]] = [("", (real,))]
        while stack and len(listing.entries) < MOST:
            folder, above = stack.pop()
            for entry, target in listing._scan(folder, above):
                listing.entries[entry.path] = entry
                listing.inside[folder].append(entry.name)
                if entry.kind is EntryKind.FOLDER:
                    stack.append((entry.path, (*above, target)))
        if stack:
            why = f"more than {MOST:,} files"
            listing.entries[""] = TreeEntry("", EntryKind.UNREADABLE, why=why)
        return listing

    def _scan(
        self, folder: str, above: tuple[str, ...]
    ) -> Iterator[tuple[TreeEntry, str]]:
        self.inside[folder] = []
        try:
            with os.scandir(self.root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            why = f"{error.strerror or error}".lower()
            self.entries[folder] = TreeEntry(folder, EntryKind.UNREADABLE, why=why)
            return
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            yield classify(entry, path, above)

    def is_file(self, path: str) -> bool:
        """True for a regular file inside the tree."""
        entry = self.entries.get(path)
        return entry is not None and entry.kind is EntryKind.FILE

    def open(self, path: str) -> BufferedReader:
        """Open a file of the tree as it was listed.

        ``OSError`` for one that changed since, for a link that leaves the tree, and for
        whatever is no regular file.
        """
        entry = self.entries.get(path)
        listed = entry.identity if entry else None
        return open_regular(self.root / path, self.root, listed=listed)

    def is_folder(self, path: str) -> bool:
        return path in self.inside

    def files(self, folder: str) -> list[str]:
        """Return the names of everything in a folder that is no folder."""
        return [n for n in self.inside.get(folder, ()) if not self._folder(folder, n)]

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder; none when it is not there."""
        return [n for n in self.inside.get(folder, ()) if self._folder(folder, n)]

    def _folder(self, folder: str, name: str) -> bool:
        return (f"{folder}/{name}" if folder else name) in self.inside

    def below(self, folder: str) -> Iterator[TreeEntry]:
        """Yield every entry below a folder."""
        stack = [folder]
        while stack:
            here = stack.pop()
            for name in self.inside.get(here, ()):
                path = f"{here}/{name}" if here else name
                yield self.entries[path]
                if path in self.inside:
                    stack.append(path)

    def text(self, path: str, rule: str) -> str | Problem:
        """Return a text file's content, or the problem that keeps it from being read.

        Empty files and such that are no UTF-8 text are problems too.
        """
        entry = self.entries.get(path)
        if entry is None:
            return Problem(path, rule, "no such file", "a text file", "add it")
        if entry.kind is not EntryKind.FILE:
            found, remedy = entry.kind.value, "put a regular file there"
            return Problem(path, rule, found, "a text file", remedy)
        try:
            with self.open(path) as file:
                raw = file.read(LARGEST_TEXT + 1)
            text = raw.decode()
        except OSError as error:
            why = f"{error.strerror or error}".lower()
            return Problem(path, rule, why, "a readable file", "make it readable")
        except UnicodeDecodeError:
            found, remedy = "bytes that are not UTF-8", "restore or rewrite the file"
            return Problem(path, rule, found, "a text file", remedy)
        if len(raw) > LARGEST_TEXT:
            found = f"{entry.size:,} bytes"
            required = f"at most {LARGEST_TEXT:,}"
            return Problem(path, rule, found, required, "write the right file there")
        if not text.strip():
            return Problem(path, rule, "an empty file", "a text file", "write it")
        if "\0" in text:
            found, remedy = "a NUL byte", "restore or rewrite the file"
            return Problem(path, rule, found, "a text file", remedy)
        return text

    def record(self, path: str, rule: str) -> dict[str, Any] | Problem:
        """Return the JSON object in a file, or the problem that there is none."""
        text = self.text(path, rule)
        if isinstance(text, Problem):
            return text
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            line = getattr(error, "lineno", 0)
            why, remedy = f"no JSON ({str(error)[:80]})", "correct or restore the file"
            return Problem(path, rule, why, "one JSON object", remedy, line)
        if not isinstance(found, dict):
            why = f"a JSON {type(found).__name__}"
            remedy = "write one object of names and values"
            return Problem(path, rule, why, "one JSON object", remedy)
        return found


def classify(
    entry: os.DirEntry[str], path: str, above: tuple[str, ...]
) -> tuple[TreeEntry, str]:
    """Return an entry of a folder, and where its content really is.

    ``above`` are the real paths of the folders that hold it, the root's first.
    """
    target = f"{above[-1]}/{entry.name}"
    link = ""
    try:
        if entry.is_symlink():
            link = str(Path(entry.path).readlink())
            # A link to itself raises; so does one that nobody may follow.
            target = os.path.realpath(entry.path, strict=True)
            if target != above[0] and not target.startswith(f"{above[0]}/"):
                return TreeEntry(path, EntryKind.OUTSIDE, link=link), target
        state = entry.stat()
    except FileNotFoundError:
        return TreeEntry(path, EntryKind.BROKEN, link=link), target
    except OSError as error:
        why = f"{error.strerror or error}".lower()
        kind = EntryKind.BROKEN if link else EntryKind.UNREADABLE
        return TreeEntry(path, kind, link=link, why=why), target
    if stat.S_ISDIR(state.st_mode):
        kind = EntryKind.CYCLE if target in above else EntryKind.FOLDER
        return TreeEntry(path, kind, link=link), target
    if not stat.S_ISREG(state.st_mode):
        return TreeEntry(path, EntryKind.SPECIAL, link=link), target
    size, identity = state.st_size, identify_file(state)
    entry_found = TreeEntry(path, EntryKind.FILE, size, link, identity=identity)
    return entry_found, target
