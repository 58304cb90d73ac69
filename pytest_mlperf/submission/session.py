"""From a session's runs to a tree, or to the words why there is none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlperf.core.submission import description
from pytest_mlperf.core.submission import documents
from pytest_mlperf.core.submission.choose import Choice
from pytest_mlperf.core.submission.choose import choose
from pytest_mlperf.core.submission.request import Ask
from pytest_mlperf.core.submission.request import Entry
from pytest_mlperf.core.submission.runs import REHEARSAL
from pytest_mlperf.core.submission.runs import Run
from pytest_mlperf.core.submission.runs import read_runs
from pytest_mlperf.machine import description_hints
from pytest_mlperf.submission import checkers
from pytest_mlperf.submission import tree

if TYPE_CHECKING:
    from pytest_mlperf.config.options import Options
    from pytest_mlperf.machine.system import System

FORM = "system.toml"
REPORT = "submission.md"
FOLDER = "submission"
NAMES = ("MLPERF_SCRATCH_PATH", "SYSTEM_NAME", "CUDA_VISIBLE_DEVICES")
"""Environment variables that have a say in what runs."""
_HERE_ONLY = """
    fast rehearsal engine round scratch workload system reports cache progress stall
    build_timeout submission tree division category checker
"""
HERE_ONLY = frozenset(_HERE_ONLY.split())
"""Options that say nothing of how a run behaves, or are repeated in another way."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a submission."""

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
    def ask(self) -> Ask:
        options = self.options
        return Ask(
            org=options.submission or "",
            round=options.round or "",
            division=options.division,
            category=options.category or "",
            system=self.system.name,
            rehearsal=options.rehearsal,
        )

    @property
    def earlier(self) -> Path | None:
        """The reports folder that ``--mlperf-tree`` names; None for a tree or none."""
        found = self.options.tree
        return found if found and (found / "logs").is_dir() else None

    def refusal(self, answering: Iterable[str] = ()) -> str:
        """Return why nothing could be written however the runs end; else nothing.

        ``answering`` are the engines that answer without inferring. Raises ``OSError``
        where the form cannot be written.
        """
        ask, options = self.ask, self.options
        problems = []
        if ask.is_strict:
            problems += [
                f"{label} runs are not for the closed division: {LABELS[label]}"
                for label in options.labels
                if label != REHEARSAL
            ]
        if ask.is_strict and not ask.rehearsal:
            problems += [
                f"the engine {name} answers without inferring: choose another"
                for name in answering
            ]
        tree_given = options.tree if not self.earlier else None
        if tree_given and (why := tree.clash(tree_given, ask)):
            problems.append(why)
        if not problems and (why := self.unfilled(self.described())):
            problems.append(why)
        return "; ".join(problems)

    def described(self, entries: Sequence[Entry] = ()) -> dict[str, str]:
        """Return the system description, with the software that ran."""
        names = [entry.performance.verdict.engine for entry in entries]
        seen = {e.performance.verdict.engine: e.performance.verdict for e in entries}
        frameworks = [
            f"{name} {seen[name].facts.get(name, '')}".strip() if name in seen else name
            for name in dict.fromkeys(names or self.options.engine)
        ]
        stack = [f"Python {self.system.python}"]
        stack += [f"{k} {v}" for k, v in sorted(self.versions.items())]
        software = {
            "framework": ", ".join(frameworks),
            "other_software_stack": ", ".join(stack),
        }
        ask = self.ask
        used = accelerators(entries)
        counted = {"accelerators_per_node": str(used)} if used else {}
        found = description.describe(
            {**software, **self.system.description, **counted},
            round_name=ask.round,
            org=ask.org,
            division=ask.division,
            category=ask.category,
        )
        return description.rehearsed(found) if ask.rehearsal else found

    def unfilled(self, found: Mapping[str, str]) -> str:
        """Return what a person has to fill in, after writing the form for it."""
        empty = description.empty(found)
        wrong = [name for name in description.unreadable(found) if name not in empty]
        if not empty and not wrong:
            return ""
        self.reports.mkdir(parents=True, exist_ok=True)
        form = self.reports / FORM
        text = description.form(found, description_hints.proposals())
        form.write_text(text, encoding="utf-8")
        texts = []
        if empty:
            texts.append(f"without a value: {', '.join(empty)}")
        if wrong:
            texts.append(f"no whole number: {', '.join(wrong)}")
        own = self.system.tuning.path
        where = f"paste it into {own}"
        if own is None:
            where = "save it as systems/NAME.toml, and add --mlperf-system NAME"
        return (
            f"the description of system {self.system.name} has fields "
            f"{'; '.join(texts)}: fill in the form {form} and {where}"
        )

    def finish(self, runs: Sequence[Run], skipped: Iterable[str] = ()) -> Outcome:
        """Write the tree from these runs and have it checked; never raises ``OSError``.

        ``skipped`` are items that never ran, each with its reason.
        """
        try:
            return self._finish(runs, list(skipped))
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else error
            text = f"submission: not written: {what}; the runs are in {self.reports}"
            return Outcome([f"{text}, and count with --mlperf-tree"], good=False)

    def _earlier_runs(self) -> list[Run]:
        return list(read_runs(self.earlier)) if self.earlier else []

    def _finish(self, runs: Sequence[Run], skipped: list[str]) -> Outcome:
        ask = self.ask
        before = self.options.tree if not self.earlier else None
        there = tree.rows(before, ask) if before else {}
        choice = choose(runs, ask, there, self._earlier_runs())
        refusals = list(choice.refusals)
        described = self.described(choice.entries)
        if not refusals and (why := self.unfilled(described)):
            refusals.append(why)
        lines = [f"submission: not in it: {text}" for text in skipped]
        if refusals:
            self._report(Choice(choice.entries, choice.others, tuple(refusals)), {})
            lines += [f"submission: refused: {text}" for text in refusals]
            lines.append(
                "submission: not written; the runs stay in the reports folder and "
                f"count in a later session with --mlperf-tree {self.reports}"
            )
            return Outcome(lines, good=False)
        target = before or self.reports / FOLDER
        content = tree.Content(
            ask=ask,
            entries=choice.entries,
            description=description.to_json(described),
            session=self._session(),
            engines=self.options.engine,
            system_files=self._system_files(),
        )
        written = tree.write(content, target, before)
        self._report(choice, written.full_logs)
        lines += [f"submission: {note}" for note in written.notes]
        count = sum(map(len, tree.rows(target, ask).values()))
        left = len(choice.others)
        results = f"{count} result{'s' * (count != 1)}"
        used, there_are = accelerators(choice.entries), len(self.system.gpus)
        if used and used != there_are:
            lines.append(
                f"submission: accelerators_per_node is {used}, which the runs used; "
                f"the machine has {there_are}"
            )
        lines.append(
            f"submission: {target}: {results} of {ask.system}, {ask.division} "
            f"{ask.round} {ask.category}" + " (REHEARSAL)" * ask.rehearsal
        )
        if left:
            lines.append(f"submission: {left} runs not taken: {self.reports / REPORT}")
        said, good = checkers.check(target, ask.round, self.options.checker)
        return Outcome([*lines, *(f"submission: {s}" for s in said)], good, target)

    def _report(self, choice: Choice, full_logs: Mapping[str, str]) -> None:
        text = documents.report(choice, self.ask, full_logs)
        self.reports.mkdir(parents=True, exist_ok=True)
        (self.reports / REPORT).write_text(text, encoding="utf-8")

    def _session(self) -> documents.Session:
        names = [n for n in NAMES if self.environ.get(n)]
        scratch = self.options.scratch
        if scratch and NAMES[0] not in names:
            names.insert(0, NAMES[0])
        command = documents.public(self.command, scratch)
        return documents.Session(command, self.repeat(), names, self.versions)

    def repeat(self) -> list[str]:
        """Return the options that make a run of this session behave as it did."""
        options = self.options
        found = [f"--mlperf-round={options.round}"]
        if options.rehearsal:
            found.append("--mlperf-rehearsal")
        else:
            found += [f"--mlperf-engine={name}" for name in options.engine]
            found.append(f"--mlperf-workload={options.workload}")
        found += ["--mlperf-fast"] * options.fast
        found += [f"--mlperf-system={self.system.name}"] * self.system.registered
        for one in fields(options):
            value = getattr(options, one.name)
            if one.name in HERE_ONLY or value in (None, one.default):
                continue
            flag = one.name.replace("_", "-")
            if value is True:
                found.append(f"--mlperf-{flag}")
                continue
            shown = f"{value:g}" if isinstance(value, float) else value
            found.append(f"--mlperf-{flag}={shown}")
        return found

    def _system_files(self) -> list[Path]:
        own = self.system.tuning.path
        if own is None:
            return []
        power = own.with_name(f"{own.stem}_power.yaml")
        return [own, *([power] if power.is_file() else [])]


def accelerators(entries: Iterable[Entry]) -> int:
    """Return how many accelerators the widest of some results used; 0 for none."""
    told = (e.performance.verdict.facts.get("accelerators", "0") for e in entries)
    return max((int(text) for text in told if text.isdecimal()), default=0)


LABELS = {
    "embedded": "name the official models and data with MLPERF_SCRATCH_PATH",
    "fast": "leave out --fast",
    "shortened": "leave out --mlperf-duration",
}
"""Label of a session's runs -> what to do without it."""


def category_of(options: Options, system: System) -> str:
    """Return the category of the session; ``ValueError`` where nobody named it."""
    found = options.category or system.description.get("system_type", "")
    if not found:
        raise ValueError(
            "--mlperf-submission needs to know the category: add --mlperf-category "
            "edge, datacenter or datacenter,edge, or system_type in the [description] "
            f"of systems/{system.name}.toml"
        )
    return ",".join(sorted(re.split(r"\s*,\s*", found)))
