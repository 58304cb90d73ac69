"""The shape of a benchmark's facts: what is said of it beside the rounds' numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field


@dataclass(frozen=True, slots=True)
class Formula:
    """Bytes that one sample takes over the link."""

    elements: float
    """Bytes where ``type_bytes`` is 1 and ``scaled`` is False."""
    text: str
    """How the figure comes about."""
    scaled: bool = False
    """Times the bytes of an element, which the submitter chooses."""

    def bytes_of(self, type_bytes: float) -> float:
        return self.elements * (type_bytes if self.scaled else 1)


@dataclass(frozen=True, slots=True)
class AccuracyAudit:
    """TEST07/<benchmark>/audit.config."""

    samples: int
    """Of the accuracy set."""
    threshold: float
    """test07_accuracy_threshold."""
    unique_since: str = ""
    """The round since which performance_issue_unique is set; empty for never."""


@dataclass(frozen=True, slots=True)
class LengthAudit:
    """TEST09/<benchmark>/audit.config: bounds of the mean number of output tokens."""

    queries: int
    shortest: float
    longest: float
    unique_since: str = ""
    """The round since which performance_issue_unique is set; empty for never."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Answers that a submission shows (submission checker, REQUIRED_ACC_BENCHMARK)."""

    folder: str
    """Below ``accuracy/``: ``images``."""
    suffix: str
    samples: Mapping[str, str]
    """Round -> sample numbers, separated by spaces."""


@dataclass(frozen=True, slots=True)
class BenchmarkFacts:
    """One benchmark, of any round."""

    name: str
    targets: tuple[str, ...] = ()
    """Accuracy targets in its name; empty where it has only one."""
    aliases: tuple[str, ...] = ()
    """Its other names. Case, "-", "_", "." and blanks are alike, so that one spelling
    of each stands for all."""
    guesses: tuple[tuple[str, str], ...] = ()
    """Pattern of a name's letters and digits -> target: the checker's own guesses
    (configuration.py, get_mlperf_model), in its order."""
    checker_name: str = ""
    """What the checker calls it in model_mapping.json, if not by its folder's name."""
    checker_folders: str = ""
    """Pattern of folder names that the checker takes beside the official ones, in the
    closed division too (model_mapping and the guesses of get_mlperf_model)."""
    logged_answers: int = 0
    """TEST01/<benchmark>/audit.config: accuracy_log_sampling_target."""
    same_sample_queries: Mapping[str, int] = field(default_factory=dict)
    """LoadGen's scenario -> min_query_count that TEST04/audit.config sets for it."""
    score_deltas: Mapping[str, float] = field(default_factory=dict)
    """Metric -> percent that TEST01's scores may differ by, if another number than
    all benchmarks' (submission checker, accuracy-delta-perc)."""
    accuracy_audit: AccuracyAudit | None = None
    length_audit: LengthAudit | None = None
    finds_objects: bool = False
    """An answer may be empty: there is nothing in the picture."""
    guide_in: Formula | None = None
    """What a sample takes over the link to a device: see ``residency.bandwidth``."""
    guide_out: Formula | None = None
    rules_in: Formula | None = None
    rules_out: Formula | None = None
    vendor_in: Formula | None = None
    vendor_out: Formula | None = None
    examples: Examples | None = None
