"""The layout of a submission in each round, as paths below its root."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from pytest_mlperf.core import rounds
from pytest_mlperf.core.types import Scenario

Names = tuple[str, str, str, str, str]
"""Division, organization, system, benchmark and scenario: names of folders."""
DIVISIONS = ("closed", "open", "network")
LOGS = ("mlperf_log_summary.txt", "mlperf_log_detail.txt")
ACCURACY_LOG = "mlperf_log_accuracy.json"


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one round.

    Names are those of ``folder_name`` and ``scenario_folder``. Source: the checker's
    ``*_PATH`` tables (mlcommons/inference v5.1.1 and b66003e1: tools/submission);
    earlier rounds are laid out as v5.1.
    """

    round: str
    together: bool
    """From v6.0 on: measurements and compliance lie in the result's own folder."""

    @classmethod
    def of(cls, round_name: str) -> Layout:
        """Return the layout of a round; ``ValueError`` lists the legal ones."""
        name = rounds.get(round_name).name
        return cls(name, rounds.ROUNDS.index(name) >= rounds.ROUNDS.index("v6.0"))

    def home(self, division: str, org: str) -> PurePosixPath:
        """Return the submitter's folder: ``closed/ACME``."""
        return PurePosixPath(division, org)

    def systems(self, division: str, org: str) -> PurePosixPath:
        return self.home(division, org) / "systems"

    def system_json(self, division: str, org: str, system: str) -> PurePosixPath:
        return self.systems(division, org) / f"{system}.json"

    def results(self, division: str, org: str) -> PurePosixPath:
        """Return the folder whose sub-folders are the systems that have results."""
        return self.home(division, org) / "results"

    def result(self, *names: *Names) -> PurePosixPath:
        """Return the folder of one benchmark in one scenario."""
        return self._folder("results", *names)

    def performance(self, *names: *Names) -> PurePosixPath:
        """Return the folder of the performance run's logs, beside ``power``."""
        return self.result(*names) / "performance" / "run_1"

    def accuracy(self, *names: *Names) -> PurePosixPath:
        return self.result(*names) / "accuracy"

    def measurements(self, *names: *Names) -> PurePosixPath:
        """Return the folder of user.conf, README.md and the measurements file."""
        return self._folder("results" if self.together else "measurements", *names)

    def measurements_json(self, *names: *Names) -> PurePosixPath:
        _, _, system, _, scenario = names
        name = "measurements" if self.together else f"{system}_{scenario}"
        return self.measurements(*names) / f"{name}.json"

    def compliance(self, *names_and_test: *tuple[*Names, str]) -> PurePosixPath:
        """Return the folder of one audit: ``…/TEST01``."""
        *names, test = names_and_test
        return self._folder("results" if self.together else "compliance", *names) / test

    def _folder(self, top: str, *names: str) -> PurePosixPath:
        division, org, *below = names
        return self.home(division, org).joinpath(top, *below)

    def code(self, division: str, org: str) -> PurePosixPath:
        """Return the folder of the code; before v6.0 with one folder a benchmark."""
        return self.home(division, org) / ("src" if self.together else "code")

    def documentation(self, division: str, org: str) -> PurePosixPath:
        return self.home(division, org) / "documentation"

    def calibration(self, division: str, org: str) -> PurePosixPath:
        return self.documentation(division, org) / "calibration.md"

    def model_mapping(self, division: str, org: str) -> PurePosixPath:
        """Return the file that names the official model of an open entry's own."""
        return self.home(division, org) / "model_mapping.json"


def folder_name(
    benchmark: str, target: str, round_name: str, scenario: Scenario | None = None
) -> str:
    """Return the folder of a benchmark, a name the round's checker takes as official.

    ``resnet50`` is the checker's ``resnet`` in every round; submitters write the
    former. In v5.0 Interactive is a benchmark: ``llama2-70b-interactive-99``.
    """
    parts = [benchmark]
    if scenario is Scenario.INTERACTIVE and round_name == "v5.0":
        parts.append("interactive")
    return "-".join([*parts, target] if target else parts)


def scenario_folder(scenario: Scenario, round_name: str) -> str:
    """Return the folder of a scenario: its name, but Interactive is Server in v5.0."""
    return scenario.loadgen if round_name == "v5.0" else scenario.value


def folder_problem(name: str) -> str:
    """Return how a submission's folder should be named; empty for a good name.

    Source: the checker (v5.1.1) refuses blanks and leading dots; a slash would escape.
    """
    good = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", name)
    legal = "letters, digits and . _ + - alone, beginning with a letter, digit or _"
    return "" if good else legal
