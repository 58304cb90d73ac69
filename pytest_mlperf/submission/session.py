"""A session that ends in a submission: from its runs to a tree, or to a refusal."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlperf.core.redaction import redact_values
from pytest_mlperf.core.submission import documents
from pytest_mlperf.core.submission.choose import Choice
from pytest_mlperf.core.submission.choose import choose
from pytest_mlperf.core.submission.description import to_json
from pytest_mlperf.core.submission.request import Entry
from pytest_mlperf.core.submission.request import SubmissionRequest
from pytest_mlperf.core.submission.runs import Run
from pytest_mlperf.core.submission.runs import read_runs
from pytest_mlperf.core.types import REHEARSAL
from pytest_mlperf.submission import checkers
from pytest_mlperf.submission import tree
from pytest_mlperf.submission.earlier import Origin
from pytest_mlperf.submission.earlier import describe_renamed
from pytest_mlperf.submission.earlier import list_sessions
from pytest_mlperf.submission.earlier import refuse_foreign
from pytest_mlperf.submission.repeat import list_options
from pytest_mlperf.submission.system_description import check_description
from pytest_mlperf.submission.system_description import count_accelerators
from pytest_mlperf.submission.system_description import describe_system

if TYPE_CHECKING:
    from pytest_mlperf.config.options import Options
    from pytest_mlperf.machine.system import System

REPORT = "submission.md"
FOLDER = "submission"
SCRATCH = "MLPERF_SCRATCH_PATH"
VARIABLES = (SCRATCH, "SYSTEM_NAME", "CUDA_VISIBLE_DEVICES")
"""Environment variables that affect what runs."""
LABELS = {
    "embedded": "name the official models and data with MLPERF_SCRATCH_PATH",
    "fast": "leave out --fast",
    "shortened": "leave out --mlperf-duration and --mlperf-min-query-count",
}
"""Label of a session's runs -> how to run without it."""


@dataclass(frozen=True, slots=True)
class SubmissionOutcome:
    """The lines to print about a submission, and whether it is good."""

    lines: list[str]
    good: bool
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A session that is to end in a submission."""

    options: Options
    system: System
    reports: Path
    command: Sequence[str] = ()
    """pytest's arguments as they were given."""
    versions: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def ask(self) -> SubmissionRequest:
        options = self.options
        return SubmissionRequest(
            org=options.submission or "",
            round=options.round or "",
            division=options.division,
            category=options.category or "",
            system=self.system.name,
            rehearsal=options.rehearsal,
        )

    @property
    def earlier(self) -> Path | None:
        """``--mlperf-tree`` if it names the reports of an earlier session."""
        path = self.options.tree
        return path if path and (path / "logs").is_dir() else None

    @property
    def _sessions(self) -> list[Path]:
        """That earlier session behind those whose runs it took itself."""
        return list_sessions(self.earlier) if self.earlier else []

    @property
    def existing(self) -> Path | None:
        """``--mlperf-tree`` if it names a tree."""
        return None if self.earlier else self.options.tree

    @property
    def _origin(self) -> Origin:
        return Origin.here(self.system.name, self.system.summary)

    def refusal(self, answering: Iterable[str] = ()) -> str:
        """Return why no run could lead to a submission; empty if one could.

        ``answering``: the engines that answer without inferring. Raises ``OSError``
        when the form for missing fields cannot be written.
        """
        ask = self.ask
        problems = []
        if ask.is_strict:
            problems += [
                f"{label} runs are not for the closed division: {LABELS[label]}"
                for label in self.options.labels
                if label != REHEARSAL
            ]
        if ask.is_strict and not ask.rehearsal:
            problems += [
                f"the engine {name} answers without inferring: choose another"
                for name in answering
            ]
        if self.existing and (why := tree.find_clash(self.existing, ask)):
            problems.append(why)
        for one in self._sessions:
            problems += [refuse_foreign(one, self._origin)]
        problems = [text for text in problems if text]
        if not problems and (why := self._check_description(self._describe())):
            problems.append(why)
        return "; ".join(problems)

    def finish(
        self, runs: Sequence[Run], skipped: Iterable[str] = ()
    ) -> SubmissionOutcome:
        """Write the tree from these runs and check it; never raises ``OSError``.

        ``skipped`` are items that never ran, each with its reason.
        """
        lines = [f"not in it: {text}" for text in skipped]
        try:
            return self._finish(runs, lines)
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else error
            text = f"not written: {what}; the runs are in {self.reports}"
            return _outcome([f"{text}, and count with --mlperf-tree"])

    def _finish(self, runs: Sequence[Run], lines: list[str]) -> SubmissionOutcome:
        ask, before = self.ask, self.existing
        there = tree.list_rows(before, ask) if before else {}
        earlier = [run for one in self._sessions for run in read_runs(one)]
        for one in self._sessions:
            lines += describe_renamed(one, ask.system)
        choice = choose(runs, ask, there, earlier)
        refusals = list(choice.refusals)
        description = self._describe(choice.entries)
        if not refusals and (why := self._check_description(description)):
            refusals.append(why)
        if refusals:
            self._report(Choice(choice.entries, choice.others, tuple(refusals)), {})
            lines += [f"refused: {text}" for text in refusals]
            lines.append(
                "not written; the runs stay in the reports folder and "
                f"count in a later session with --mlperf-tree {self.reports}"
            )
            return _outcome(lines)
        target = before or self.reports / FOLDER
        content = tree.Content(
            ask=ask,
            entries=choice.entries,
            description=to_json(description),
            session=self._document_session(),
            engines=self.options.engine,
            system_files=self._list_system_files(),
        )
        written = tree.write_tree(content, target, before)
        self._report(choice, written.full_logs)
        lines += written.notes
        used, installed = count_accelerators(choice.entries), len(self.system.gpus)
        if used and used != installed:
            lines.append(
                f"accelerators_per_node is {used}, which the runs used; "
                f"the machine has {installed}"
            )
        count = sum(map(len, tree.list_rows(target, ask).values()))
        lines.append(
            f"{target}: {count} result{'s' * (count != 1)} of {ask.system}, "
            f"{ask.division} {ask.round} {ask.category}"
            + " (REHEARSAL)"
            * ask.rehearsal
        )
        if choice.others:
            left = len(choice.others)
            lines.append(f"{left} runs not taken: {self.reports / REPORT}")
        checked, good = checkers.run_checkers(target, ask.round, self.options.checker)
        return _outcome([*lines, *checked], good=good, path=target)

    def _describe(self, entries: Sequence[Entry] = ()) -> dict[str, str]:
        return describe_system(
            self.ask,
            self.system,
            engines=self.options.engine,
            versions=self.versions,
            entries=entries,
        )

    def _check_description(self, values: Mapping[str, str]) -> str:
        return check_description(values, self.system, self.reports)

    def _report(self, choice: Choice, full_logs: Mapping[str, str]) -> None:
        text = documents.format_report(choice, self.ask, full_logs)
        self.reports.mkdir(parents=True, exist_ok=True)
        (self.reports / REPORT).write_text(text, encoding="utf-8")

    def _document_session(self) -> documents.SubmissionSession:
        names = [name for name in VARIABLES if self.environ.get(name)]
        scratch = self.options.scratch
        if scratch and SCRATCH not in names:
            names.insert(0, SCRATCH)
        command = documents.hide_places(self.command, scratch)
        options = list_options(self.options, self.system)
        made = documents.SubmissionSession(command, options, names, self.versions)
        return redact_values(made)

    def _list_system_files(self) -> list[Path]:
        file = self.system.tuning.path
        if file is None:
            return []
        power = file.with_name(f"{file.stem}_power.yaml")
        return [file, *([power] if power.is_file() else [])]


def _outcome(
    lines: Iterable[str], *, good: bool = False, path: Path | None = None
) -> SubmissionOutcome:
    return SubmissionOutcome([f"submission: {line}" for line in lines], good, path)
