"""What of a benchmark's official files is there, and whether it is the right one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.api import registry
from pytest_mlperf.api.sources import Source
from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.core.rounds.names import resolve_benchmark


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One declared source, looked up below the scratch folder."""

    source: Source
    path: Path | None
    """The file; of many in a folder, the first one."""
    present: int
    """Files of it that are there."""
    expected: int
    size: int
    """Bytes that are there."""

    @property
    def is_whole(self) -> bool:
        return self.present == self.expected


def list_sources(words: Sequence[str]) -> dict[str, tuple[Source, ...]]:
    """Return benchmark -> its declared sources, for those named or for all.

    A word may be any usual spelling, and hold several names: ``"whisper sdxl"``.
    Raises ``ValueError`` for a name that no installed benchmark has.
    """
    installed: dict[str, Any] = registry.load_all("benchmark")
    declared = {
        name: tuple(getattr(benchmark, "sources", ()))
        for name, benchmark in installed.items()
    }
    names = [name for word in words for name in word.replace(",", " ").split()]
    if not names:
        return {name: found for name, found in sorted(declared.items()) if found}
    chosen: dict[str, tuple[Source, ...]] = {}
    for name in names:
        known = resolve_benchmark(name)
        found = name if name in declared else registry.aliases().get(name, "")
        found = found or (known[0] if known else "")
        if not declared.get(found):
            legal = sorted(n for n, found in declared.items() if found)
            raise ValueError(
                f"no installed benchmark declares files under the name {name!r}; it"
                f" should be one of {', '.join(legal)}.{suggest(name, legal)}"
            )
        chosen[found] = declared[found]
    return chosen


def survey(source: Source, scratch: Path | None) -> SourceStatus:
    """Look a source up in each of its places."""
    path = source.find(scratch)
    if path is None and scratch is not None and source.parts:
        # Of many files the first one may be what is missing.
        folders = [(scratch / place).parent for place in source.paths]
        names = [name for name, _ in source.parts]
        found = (folder / n for folder in folders for n in names)
        path = next((one for one in found if one.is_file()), None)
    files = list(list_files(source, path)) if path else []
    there = [file for file, _ in files if file.is_file()]
    size = sum(file.stat().st_size for file in there)
    return SourceStatus(source, path, len(there), max(1, len(source.parts)), size)


def list_files(source: Source, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file of a source and the hash that it should have, if known."""
    if not source.parts:
        yield path, source.sha256 or source.md5
    for name, digest in source.parts:
        yield path.parent / name, digest


def verify_file(path: Path, required: str, source: Source) -> str:
    """Return what is wrong with a file, or an empty text."""
    if not path.is_file():
        return "is not there"
    size = path.stat().st_size
    if not source.parts and source.size is not None and size != source.size:
        return f"has {size:,} bytes, but should have {source.size:,}"
    if not required:
        return ""
    kind = "md5" if len(required) == 32 else "sha256"
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, kind).hexdigest()
    return (
        "" if digest == required else f"has {kind} {digest}, but should have {required}"
    )


def format_size(size: float) -> str:
    """Return bytes in decimal units: ``1.3 GB``."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
