"""What each compliance test sets: the official audit.config files as data.

Source of every value: mlcommons/inference b66003e1, compliance/TESTnn/[model/]
audit.config (the same numbers at tag v5.1.1 for TEST01, TEST04 and TEST06);
TEST04-A, TEST04-B and TEST05: tag v2.0, compliance/nvidia/. TEST05 of v4.1 asks
LoadGen for its own TEST05 seeds, which are the round's.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_mlperf.core import rounds
from pytest_mlperf.core.rounds.rule import Rule

SOURCE = "mlcommons/inference b66003e1: compliance/"
V2_SOURCE = "mlcommons/inference tag v2.0: compliance/nvidia/"
LOG_SEED = 720381539243781796
"""accuracy_log_rng_seed of every test that samples answers."""

SAMPLED = {
    "resnet50": 4096,
    "bert": 4096,
    "dlrm": 4096,
    "dlrm-v2": 4096,
    "gptj": 4096,
    "rgat": 4096,
    "rnnt": 4096,
    "whisper": 4096,
    "ssd-small": 1024,
    "retinanet": 256,
    "pointpainting": 256,
    "ssd-large": 256,
    "stable-diffusion-xl": 128,
    "3d-unet": 64,
    "yolo": 64,
    "wan-2.2-t2v-a14b": 50,
}
"""TEST01/<benchmark>/audit.config: accuracy_log_sampling_target."""
TEST04_QUERIES = {
    ("stable-diffusion-xl", "Offline"): 500,
    ("wan-2.2-t2v-a14b", "Offline"): 20,
    ("wan-2.2-t2v-a14b", "SingleStream"): 20,
}
"""TEST04/audit.config: min_query_count that only a file read for the model sets."""
TEST07 = {"gpt-oss-120b": (990, 60.698)}
"""Samples of the accuracy set, and test07_accuracy_threshold."""
TEST09: dict[str, tuple[int, dict[str, int], float, float]] = {
    "gpt-oss-120b": (6396, {"performance_issue_unique": 1}, 1150.38, 1406.02),
    "e2e-rag-qna": (824, {}, 246.43, 301.19),
}
"""min_query_count, what else is set, and the bounds of the mean output tokens."""
SAME_SAMPLE = {
    "performance_issue_unique": 0,
    "performance_issue_same": 1,
    "performance_issue_same_index": 3,
}
"""TEST04 and TEST04-B."""
PERFORMANCE_ONLY = 2
"""LoadGen's number of the mode that every test runs in."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One compliance test of one benchmark and scenario in one round."""

    name: str
    """``TEST01``."""
    model: str
    """LoadGen's model name."""
    scenario: str
    """LoadGen's scenario."""
    settings: Mapping[str, int]
    """Key of audit.config -> value, as LoadGen reads it."""
    source: str
    as_performance: bool = False
    """The run is also a performance run: every rule of one holds for it."""
    needs: tuple[str, ...] = ()
    """Runs it is compared with: ``performance``, ``accuracy``, or another test."""
    for_model: Mapping[str, int] = field(default_factory=dict)
    """Settings that LoadGen itself would pass over: they name the model."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Numbers that only the verification reads: ``test09_min_output_tokens``."""
    seeds: tuple[int, int, int] | None = None
    """TEST05: what replaces the round's seeds of QSL, sample index and schedule."""

    @property
    def values(self) -> dict[str, int]:
        """Settings with those for the model."""
        return {**self.settings, **self.for_model}

    @property
    def samples_answers(self) -> bool:
        """True where LoadGen writes answers of a performance run to the log."""
        return "accuracy_log_sampling_target" in self.settings

    @property
    def config(self) -> str:
        """The text of audit.config."""
        lines = [f"# {self.name}: {self.source}"]
        name = f"*.{self.scenario}"
        lines += [f"{name}.{key} = {value}" for key, value in self.settings.items()]
        model = f"{self.model}.{self.scenario}"
        lines += [f"{model}.{key} = {value}" for key, value in self.for_model.items()]
        lines += [f"*.*.{key} = {value}" for key, value in self.limits.items()]
        return "\n".join([*lines, ""])


def find(name: str, rule: Rule) -> Audit:
    """Return a compliance test's settings for a rule.

    Raises ``ValueError`` for a test that the rule's benchmark does not have.
    """
    if name not in rule.compliance:
        has = ", ".join(rule.compliance) or "none"
        raise ValueError(
            f"{name!r} is no compliance test of {rule.model} in {rule.round}; it has "
            f"{has}"
        )
    return _TESTS[name](rule)


def _audit(
    name: str, rule: Rule, settings: Mapping[str, int], source: str, **more: Any
) -> Audit:
    settings = {"mode": PERFORMANCE_ONLY, **settings}
    scenario = rule.scenario.loadgen
    return Audit(name, rule.loadgen_model, scenario, settings, source, **more)


def sampling(target: int, **more: int) -> dict[str, int]:
    """Return the settings that let LoadGen log about so many answers."""
    return {
        "accuracy_log_rng_seed": LOG_SEED,
        "accuracy_log_sampling_target": target,
        **more,
    }


def test01(rule: Rule) -> Audit:
    """Answers in performance mode are those of accuracy mode."""
    source = V2_SOURCE if rule.round == "v2.0" else SOURCE
    return _audit(
        "TEST01",
        rule,
        sampling(SAMPLED[rule.benchmark]),
        f"{source}TEST01/{rule.benchmark}/audit.config",
        as_performance=True,
        needs=("performance", "accuracy"),
    )


def test04(rule: Rule) -> Audit:
    """The same sample over and over is not faster: nothing is cached."""
    queries = TEST04_QUERIES.get((rule.benchmark, rule.scenario.loadgen))
    return _audit(
        "TEST04",
        rule,
        SAME_SAMPLE,
        f"{SOURCE}TEST04/audit.config",
        as_performance=True,
        needs=("performance",),
        for_model={"min_query_count": queries} if queries else {},
    )


def test04_a(rule: Rule) -> Audit:
    """Every sample once: what TEST04-B is held against."""
    unique = {"performance_issue_unique": 1, "performance_issue_same": 0}
    return _audit("TEST04-A", rule, unique, f"{V2_SOURCE}TEST04-A/audit.config")


def test04_b(rule: Rule) -> Audit:
    """One sample as often as TEST04-A had samples."""
    return _audit(
        "TEST04-B",
        rule,
        SAME_SAMPLE,
        f"{V2_SOURCE}TEST04-B/audit.config",
        needs=("TEST04-A",),
    )


def test05(rule: Rule) -> Audit:
    """Other seeds, the same performance."""
    seeds = rounds.get(rule.round).seeds.test05
    assert seeds is not None, f"{rule.round} has TEST05 and no seeds for it"
    names = ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")
    return _audit(
        "TEST05",
        rule,
        dict(zip(names, seeds, strict=True)),
        f"{V2_SOURCE}TEST05/audit.config",
        as_performance=True,
        needs=("performance",),
        seeds=seeds,
    )


def test06(rule: Rule) -> Audit:
    """Token answers are consistent: first token, end of sequence, length."""
    own = {"min_query_count": 100, "min_duration": 0}
    settings = sampling(100, **own, sample_concatenate_permutation=0)
    return _audit("TEST06", rule, settings, f"{SOURCE}TEST06/audit.config")


def test07(rule: Rule) -> Audit:
    """The accuracy of a performance run over the accuracy set reaches a threshold."""
    samples, threshold = TEST07[rule.benchmark]
    return _audit(
        "TEST07",
        rule,
        sampling(
            samples,
            min_query_count=samples,
            min_duration=0,
            performance_issue_unique=1,
            sample_concatenate_permutation=0,
        ),
        f"{SOURCE}TEST07/{rule.benchmark}/audit.config",
        limits={"test07_accuracy_threshold": threshold},
    )


def test08(rule: Rule) -> Audit:
    """Predictions in performance mode have accuracy mode's normalised entropy."""
    return _audit(
        "TEST08",
        rule,
        sampling(4096),
        f"{SOURCE}TEST08/dlrm-v3/audit.config",
        needs=("accuracy",),
    )


def test09(rule: Rule) -> Audit:
    """Answers are as long as the reference's, on average."""
    queries, unique, low, high = TEST09[rule.benchmark]
    own = {"min_query_count": queries, "min_duration": 0, **unique}
    return _audit(
        "TEST09",
        rule,
        sampling(10_000, **own, sample_concatenate_permutation=0),
        f"{SOURCE}TEST09/{rule.benchmark}/audit.config",
        limits={"test09_min_output_tokens": low, "test09_max_output_tokens": high},
    )


_TESTS: dict[str, Callable[[Rule], Audit]] = {
    "TEST01": test01,
    "TEST04": test04,
    "TEST04-A": test04_a,
    "TEST04-B": test04_b,
    "TEST05": test05,
    "TEST06": test06,
    "TEST07": test07,
    "TEST08": test08,
    "TEST09": test09,
}
AUDITS = tuple(_TESTS)
"""Every test of any round, in the order of a cell's items."""
