"""Official files of a benchmark: where they lie, who offers them, what is missing.

A benchmark declares each file once, in its ``sources``. The declaration is what looks
the file up below the scratch folder and what a skip says when it is not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.api.errors import RequirementMissing


@dataclass(frozen=True, slots=True)
class Source:
    """One official file."""

    paths: tuple[str, ...]
    """Places below the scratch folder, looked in in this order; the first one is the
    place that messages recommend."""
    origin: str
    """Who offers it, and under which name."""
    samples: int | None = None
    """Number of samples in it, where a file with another number is refused."""
    use: str = ""
    """What needs it, where not every run does: ``int8 only``."""
    terms: str = ""
    """License, or what a download asks for first: ``after registration``."""
    sha256: str = ""
    size: int | None = None
    """In bytes."""
    urls: tuple[str, ...] = ()
    """Who offers the very file to everybody, tried in this order; empty where somebody
    has to register, or where it is made from something else."""
    md5: str = ""
    """Where its publisher gives no sha256."""
    parts: tuple[tuple[str, str], ...] = ()
    """Where the file is one of many in a folder: each one's name, and its sha256 or md5
    (empty if nobody published one)."""

    @property
    def label(self) -> str:
        """Recommended place, and the number of samples where it is known."""
        samples = f" ({self.samples:,} samples)" if self.samples else ""
        return f"{self.paths[0]}{samples}"

    @property
    def layout(self) -> str:
        """Place, second place and origin in one line, for a person who downloads it."""
        other = f" (or {self.paths[1]})" if len(self.paths) > 1 else ""
        notes = [note for note in (self.use, self.terms) if note]
        return f"{self.paths[0]}{other} from {', '.join([self.origin, *notes])}"

    def find(self, scratch: Path | None) -> Path | None:
        """Return the first file that is there."""
        if scratch is None:
            return None
        candidates = (scratch / path for path in self.paths)
        return next((path for path in candidates if path.is_file()), None)


def require_files(
    benchmark: str,
    sources: Sequence[Source],
    scratch: Path | None,
    alternative: str = "",
) -> list[Path]:
    """Return the file of each source; raises ``RequirementMissing`` that names all
    that are absent.
    """
    files = {source: source.find(scratch) for source in sources}
    absent = [source.label for source, path in files.items() if path is None]
    if absent:
        raise missing_files(benchmark, absent, sources, scratch, alternative)
    return [path for path in files.values() if path is not None]


def missing_files(
    benchmark: str,
    absent: Iterable[str],
    sources: Sequence[Source],
    scratch: Path | None,
    alternative: str = "",
) -> RequirementMissing:
    """Return the reason for a skip: what is absent, from where, in what layout.

    ``alternative``: what to do instead of a download, as an imperative.
    """
    where = f"in {scratch}" if scratch else "because no scratch folder is named"
    layout = [source.layout for source in sources]
    lines = f" {layout[0]}." if len(layout) == 1 else "\n  " + "\n  ".join(layout)
    other = f"\nOr {alternative}." if alternative else ""
    return RequirementMissing(
        f"{benchmark} official: {', '.join(absent)} not found {where}. Set"
        f" MLPERF_SCRATCH_PATH or --mlperf-scratch to a folder with{lines}{other}"
    )


def files_digest(paths: Iterable[Path], recipe: str = "") -> str:
    """Return the sha256 over each file's sha256, after whatever else counts."""
    whole = hashlib.sha256(recipe.encode())
    for path in paths:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
