"""What a compliance test is: one object that knows everything about it.

Each official test has a file of its own. A third party's test is an object of the same
shape, made known with ``compliance.register``; a rule names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any
from typing import Protocol
from typing import runtime_checkable

from pytest_mlperf.core import rounds
from pytest_mlperf.core.rounds.rule import Rule
from pytest_mlperf.core.types import Seeds
from pytest_mlperf.core.verdict import Check

SOURCE = "mlcommons/inference b66003e1: compliance/"
V2_SOURCE = "mlcommons/inference tag v2.0: compliance/nvidia/"
LOG_SEED = 720381539243781796
"""accuracy_log_rng_seed of every test that samples answers."""
PERFORMANCE_ONLY = 2
"""LoadGen's number of the mode that every test runs in."""
References = Mapping[str, Path]
"""What a test ``needs`` -> the folder of that run."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One compliance test of one benchmark and scenario in one round."""

    test: AuditTest
    model: str
    """LoadGen's model name."""
    scenario: str
    """LoadGen's scenario."""
    settings: Mapping[str, int]
    """Key of audit.config -> value, as LoadGen reads it."""
    source: str
    for_model: Mapping[str, int] = field(default_factory=dict)
    """Settings that LoadGen itself would skip: they name the model."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Numbers that only the verification reads: ``test09_min_output_tokens``."""

    @property
    def name(self) -> str:
        """``TEST01``."""
        return self.test.name

    @property
    def needs(self) -> tuple[str, ...]:
        return self.test.needs

    @property
    def as_performance(self) -> bool:
        return self.test.as_performance

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


def make_audit(
    test: AuditTest, rule: Rule, settings: Mapping[str, int], source: str, **more: Any
) -> Audit:
    """Return a test's settings for a rule; ``more`` are the audit's other fields."""
    settings = {"mode": PERFORMANCE_ONLY, **settings}
    scenario = rule.scenario.loadgen
    return Audit(test, rule.loadgen_model, scenario, settings, source, **more)


def issue_unique(since: str, round_name: str) -> dict[str, int]:
    """Return the setting of a test that issues each sample once since a round."""
    if not since or rounds.is_before(round_name, since):
        return {}
    return {"performance_issue_unique": 1}


def make_sampling(target: int, **more: int) -> dict[str, int]:
    """Return the settings that let LoadGen log about this number of answers."""
    return {
        "accuracy_log_rng_seed": LOG_SEED,
        "accuracy_log_sampling_target": target,
        **more,
    }


@dataclass(frozen=True, slots=True)
class AuditedRun:
    """A run under a test's settings, with what it is compared with."""

    audit: Audit
    rule: Rule
    folder: Path
    references: References


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """Part of a verification: its checks, and the official file that says so."""

    checks: tuple[Check, ...]
    file: str
    text: str


class AnswerScorer(Protocol):
    """What scores answers: a workload of any kind."""

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]: ...

    def accuracy_text(self, metrics: Mapping[str, float]) -> str: ...


class AuditTest(Protocol):
    """One compliance test. A class that inherits from this has the defaults."""

    name: str
    """``TEST01``: in ids, rules and the names of folders."""
    needs: tuple[str, ...] = ()
    """Runs it is compared with: ``performance``, ``accuracy``, or another test."""
    as_performance: bool = False
    """The run is also a performance run: every rule of one applies to it."""
    is_timed: bool = False
    """A submission must contain its performance run (checkers, performance_check)."""
    ends_early: bool = False
    """The run ends when its samples are issued, and LoadGen logs that as an error."""
    needs_token_ids: bool = False
    """The answers must be token ids; text alone proves nothing."""
    keeps_answers: bool = False
    """The accuracy log of a submission is not cut: the verification reads it again."""
    pair_with: str = ""
    """The needed run whose folder gets the official files too."""
    files: tuple[str, ...]
    """Paths inside a submission's ``TESTnn/`` that the checkers ask for."""

    def resolve(self, rule: Rule) -> Audit:
        """Return the settings for a rule; ``ValueError`` for an unknown benchmark."""
        ...

    def verify(self, run: AuditedRun) -> tuple[AuditFinding, ...]:
        """Return what the official definitions say of an audited run.

        Does not raise for what is in the folders: a log that cannot be read is a
        check in error.
        """
        ...

    def seeds(self, seeds: Seeds) -> Seeds | None:
        """Return the seeds of the run, from the round's; None where it has none."""
        return seeds

    def scores(
        self, folder: Path, references: References, workload: AnswerScorer
    ) -> Mapping[str, str]:
        """Return the scores that the verification reads: file name -> text.

        Raises ``LogError`` for answers that cannot be read.
        """
        del folder, references, workload
        return {}

    def refusal(self, answered_by: str = "", *, tells_token_ids: bool = True) -> str:
        """Return why the test cannot be run; empty where it can.

        ``answered_by`` names the service; ``tells_token_ids`` is True where it does.
        """
        if not self.needs_token_ids or tells_token_ids:
            return ""
        return (
            f"{self.name} looks at token ids, and {answered_by} tells none in a "
            "test completion; use a server that does (vLLM: return_token_ids, "
            "llama.cpp: logprobs, trtllm-serve: detokenize)"
        )

    def official_files(self, folder: Path) -> Iterator[tuple[str, Path]]:
        """Yield the path inside a submission's ``TESTnn/`` and the run's own file."""
        for path in self.files:
            yield path, folder / path.rpartition("/")[2]

    def missing_proof(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield what an official file lacks: what was found, what it should be."""
        if "TEST PASS" not in text:
            yield "no TEST PASS", "a line TEST PASS"

    def can_verify_again(self, folder: Path) -> bool:
        """True where the answers in a submission's folder can be verified here."""
        del folder
        return True


@runtime_checkable
class AcceptsScores(AuditTest, Protocol):
    """A test whose answers may differ where their scores agree."""

    score_files: tuple[str, ...]
    """The texts that stand in ``accuracy/`` then, and only then."""

    def compare_scores(self, run: AuditedRun) -> tuple[bool, str, str]:
        """Return whether the scores agree, what was found, and the remedy."""
        ...
