"""The official files of LLM benchmarks, and benchmarks that have nothing else."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.api.errors import Missing
from pytest_mlperf.benchmarks.llm.workload import LLMWorkload


@dataclass(frozen=True, slots=True)
class Source:
    """An official dataset: its file's names, what is in it, and who offers it."""

    benchmark: str
    names: tuple[str, ...]
    """The official name first."""
    samples: int
    origin: str
    """The official source by name."""
    folders: tuple[str, ...] = ()
    """Further folders to look in, as other layouts have them."""

    def places(self) -> list[str]:
        """Return every place looked in, in order."""
        own = (f"data/{self.benchmark}", *self.folders, "data", ".")
        return [f"{folder}/{name}" for name in self.names for folder in own]

    def find(self, scratch: Path | None) -> Path:
        """Return the file; ``Missing`` says what, where from and where to."""
        if scratch is not None:
            for place in self.places():
                if (scratch / place).is_file():
                    return scratch / place
        where = f"in {scratch}" if scratch else "because no scratch space is named"
        raise Missing(
            f"{self.benchmark} official: {self.names[0]} ({self.samples:,} samples) not"
            f" found {where}. Set MLPERF_SCRATCH_PATH or --mlperf-scratch to a folder"
            f" with {self.places()[0]} from {self.origin}."
        )


def check_size(found: int, source: Source, path: Path, required: int | None) -> None:
    """Raise ``ValueError`` unless the dataset is whole; ``None`` takes any size."""
    if required is not None and found != required:
        raise ValueError(
            f"{path} has {found:,} samples, but {source.benchmark} should have"
            f" {required:,}: its references hold for the whole set only. Download"
            f" {source.names[0]} again."
        )


def find_tokenizer(scratch: Path | None, folders: Sequence[str]) -> Path | None:
    """Return the model's tokenizer.json, or None: texts need none."""
    if scratch is None:
        return None
    places = (scratch / "models" / name / "tokenizer.json" for name in folders)
    return next((path for path in places if path.is_file()), None)


def no_embedded(name: str) -> str:
    """Return why a benchmark has no embedded workload, and what to do."""
    return (
        f"{name} has no embedded workload; choose --mlperf-workload official with the"
        " dataset in the scratch space, or run llama3.1-8b."
    )


@dataclass(frozen=True)
class OfficialOnly:
    """A benchmark without an embedded workload."""

    name: str
    aliases: tuple[str, ...]
    metric: str
    open_official: Callable[[Path | None], LLMWorkload]
    answered_by: str = "service"

    def precision(self, target: str) -> str:  # noqa: ARG002 - its endpoint decides
        return ""

    def workload(self, kind: str, scratch: Path | None) -> LLMWorkload:
        """Open ``official``; anything else raises ``Missing``."""
        if kind == "official":
            return self.open_official(scratch)
        raise Missing(no_embedded(self.name))
