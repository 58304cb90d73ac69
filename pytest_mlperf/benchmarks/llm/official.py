"""The official files of LLM benchmarks, and benchmarks that have nothing else."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.sources import Source
from pytest_mlperf.api.sources import require_files
from pytest_mlperf.benchmarks.llm.published_sums import check_published
from pytest_mlperf.benchmarks.llm.tables import Table
from pytest_mlperf.benchmarks.llm.tables import read_table
from pytest_mlperf.benchmarks.llm.workload import LLMWorkload
from pytest_mlperf.core.rounds.rule import Rule


def dataset_source(
    benchmark: str,
    names: Sequence[str],
    samples: int,
    origin: str,
    folders: Sequence[str] = (),
) -> Source:
    """Return the declaration of a dataset, by its file names, the official one first.

    It is looked for in the benchmark's folder below ``data``, then in ``folders``, as
    other layouts have them, then in ``data`` and the scratch folder itself; pickles as
    parquet too.
    """
    stems = (name.removesuffix(".pkl") for name in names if name.endswith(".pkl"))
    names = [*names, *(f"{stem}.parquet" for stem in stems)]
    places = (f"data/{benchmark}/", *(f"{folder}/" for folder in folders), "data/", "")
    return Source(
        paths=tuple(place + name for name in names for place in places),
        origin=origin,
        samples=samples,
    )


def tokenizer_source(*folders: str) -> Source:
    """Return the declaration of a model's tokenizer, by folders below ``models``."""
    return Source(
        paths=tuple(f"models/{folder}/tokenizer.json" for folder in folders),
        origin="the model's repository",
        use="where the service reports token ids and no text",
    )


def read_dataset(
    benchmark: str,
    source: Source,
    scratch: Path | None,
    samples: int | None,
    columns: Sequence[str],
    optional: Sequence[str] = (),
) -> tuple[Path, Table]:
    """Return the dataset's file and columns.

    Raises ``RequirementMissing`` for an absent file, ``ValueError`` for a malformed one
    and for another number than ``samples`` or another pickle than the published one;
    None takes any.
    """
    (path,) = require_files(benchmark, [source], scratch)
    if samples is not None:
        check_published(benchmark, path)
    table = read_table(path, columns, optional)
    count = len(next(iter(table.values()), ()))
    if table and samples is not None and count != samples:
        raise ValueError(
            f"{path} has {count:,} samples, but {benchmark} should have {samples:,}:"
            " its references hold for the whole set only. Download"
            f" {Path(source.paths[0]).name} again."
        )
    return path, table


def only_official(benchmark: str, kind: str) -> RequirementMissing:
    """Return that a benchmark has no workload of another kind, and what to do."""
    return RequirementMissing(
        f"{benchmark} has no {kind} workload; choose --mlperf-workload official with"
        " the dataset in the scratch folder, or run the embedded one of llama3.1-8b."
    )


@dataclass(frozen=True)
class OfficialBenchmark:
    """A benchmark without an embedded workload."""

    name: str
    aliases: tuple[str, ...]
    metric: str
    open_official: Callable[[Path | None], LLMWorkload]
    sources: tuple[Source, ...]
    takes: frozenset[str] = frozenset({"prompts"})
    rules: tuple[Rule, ...] = ()

    def precision(self, target: str) -> str:  # noqa: ARG002 - its endpoint decides
        return ""

    def open_workload(self, kind: str, scratch: Path | None) -> LLMWorkload:
        """Open ``official``; anything else raises ``RequirementMissing``."""
        if kind == "official":
            return self.open_official(scratch)
        raise only_official(self.name, kind)
