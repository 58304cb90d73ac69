"""One result of a submission: the files of its runs, where a round has them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from pathlib import PurePosixPath

from pytest_mlperf.core.checks.device import DIAGRAM
from pytest_mlperf.core.checks.device import PROOF
from pytest_mlperf.core.residency.rules import said_in
from pytest_mlperf.core.submission import documents
from pytest_mlperf.core.submission import seal
from pytest_mlperf.core.submission import truncate
from pytest_mlperf.core.submission.layout import ACCURACY_LOG
from pytest_mlperf.core.submission.layout import LOGS
from pytest_mlperf.core.submission.layout import Layout
from pytest_mlperf.core.submission.layout import folder_name
from pytest_mlperf.core.submission.layout import scenario_folder
from pytest_mlperf.core.submission.request import Ask
from pytest_mlperf.core.submission.request import Entry
from pytest_mlperf.core.submission.runs import Run

PICTURES = ("images", "videos")
"""Samples of answers that some benchmarks' accuracy folders hold."""
POWER = ("power", "ranging")
POWER_SETTINGS = ("analyzer_table.*", "power_settings.*")
"""How the meter and the machine were set; beside the measurements."""
WHOLE = ("TEST06",)
"""Audits whose accuracy log is not cut: the official script passes them over."""
BY_HASH = ("TEST07", "TEST09")
"""Audits whose accuracy.txt holds the hash alone."""
FALLBACK = ("baseline_accuracy.txt", "compliance_accuracy.txt")
"""What stands for TEST01's byte comparison where answers are not deterministic."""
CONF_ROUNDS = ("v2.0", "v4.1")
"""Rounds whose checker wants a mlperf.conf beside user.conf."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one result lies in a tree."""

    root: Path
    layout: Layout
    division: str
    org: str
    system: str
    benchmark: str
    scenario: str

    @property
    def names(self) -> tuple[str, str, str, str, str]:
        return self.division, self.org, self.system, self.benchmark, self.scenario

    @classmethod
    def of(cls, root: Path, ask: Ask, entry: Entry, benchmark: str = "") -> Place:
        """Return an entry's place; ``benchmark`` is the folder's name if it has one."""
        rule = entry.rule
        name = folder_name(rule.benchmark, rule.target, ask.round, rule.scenario)
        return cls(
            root,
            Layout.of(ask.round),
            ask.division,
            ask.org,
            ask.system,
            benchmark or documents.own_folder(entry, ask) or name,
            scenario_folder(rule.scenario, ask.round),
        )

    def path(self, below: PurePosixPath) -> Path:
        return self.root / below

    def folders(self) -> set[Path]:
        """Return every folder that is this result's alone."""
        layout, names = self.layout, self.names
        own = [layout.result(*names), layout.measurements(*names)]
        return {self.path(p) for p in (*own, layout.compliance(*names, "TEST").parent)}


def write(place: Place, entry: Entry, ask: Ask, session: documents.Session) -> str:
    """Write one result in the place of any older one there.

    Returns the sha256 of its whole accuracy log. Raises ``OSError``.
    """
    for folder in place.folders():
        refuse_links(place.root, folder)
    for folder in place.folders():
        shutil.rmtree(folder, ignore_errors=True)
    layout, names = place.layout, place.names
    run_1 = place.path(layout.performance(*names))
    copy_files(entry.performance.folder, run_1, LOGS)
    _power(entry.performance, run_1)
    _on_device(entry.performance, place)
    whole = _accuracy(entry.accuracy.folder, place.path(layout.accuracy(*names)))
    for test, run in entry.compliance.items():
        audited = place.path(layout.compliance(*names, test))
        _compliance(test, run, audited)
        for finding in entry.verified.get(test, ()):
            (audited / finding.file).write_text(finding.text, encoding="utf-8")
    measured = place.path(layout.measurements(*names))
    measured.mkdir(parents=True, exist_ok=True)
    labels = entry.performance.verdict.labels
    conf = (entry.performance.folder / "user.conf").read_text(encoding="utf-8")
    texts = {
        "user.conf": documents.user_conf(conf, labels),
        "README.md": documents.readme(entry, ask, session, whole),
    }
    if ask.round in CONF_ROUNDS:
        texts["mlperf.conf"] = documents.mlperf_conf(entry.rule)
    for name, text in texts.items():
        (measured / name).write_text(text, encoding="utf-8")
    file = place.path(layout.measurements_json(*names))
    file.write_text(documents.measurements(entry), encoding="utf-8")
    for pattern in POWER_SETTINGS:
        found = entry.performance.folder.glob(pattern)
        copy_files(entry.performance.folder, measured, [path.name for path in found])
    return whole


def refuse_links(root: Path, folder: Path) -> None:
    """Raise ``OSError`` for a link on the way to a folder, or anywhere below it.

    What it leads to belongs to somebody else, and would be removed or written over.
    """
    above = [path for path in folder.parents if path.is_relative_to(root)]
    below = (
        Path(path) / name
        for path, folders, files in os.walk(folder)
        for name in (*folders, *files)
    )
    for path in (*(p for p in above if p != root), folder, *below):
        if path.is_symlink():
            raise OSError(
                errno.ELOOP,
                f"a link to {path.readlink()} where the session writes; put "
                "what it leads to in its place, or remove the link",
                str(path.relative_to(root)),
            )


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy the named files of a folder; the target is made for the first of them."""
    for name in names:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def _power(run: Run, run_1: Path) -> None:
    """Place what a power meter's session left beside the run's logs."""
    if not (run.folder / "power").is_dir():
        return
    for name in POWER:
        shutil.copytree(
            run.folder / name,
            run_1.parent / name,
            ignore=shutil.ignore_patterns(".*", "mlperf_log_trace.json"),
        )
    copy_files(run.folder, run_1, ["spl.txt"])


def _on_device(run: Run, place: Place) -> None:
    """Place the reckoning and the drawing of a run that used the device's memory."""
    if not said_in(run.verdict.facts):
        return
    _, _, system, benchmark, scenario = place.names
    home = place.path(place.layout.documentation(place.division, place.org))
    target = home / "on_device" / system / benchmark / scenario
    refuse_links(place.root, target)
    shutil.rmtree(target, ignore_errors=True)
    drawings = [path.name for path in run.folder.glob(f"{DIAGRAM}.*")]
    copy_files(run.folder, target, [PROOF, *drawings])


def _accuracy(source: Path, target: Path) -> str:
    """Copy a scored accuracy run with its log cut; return the whole log's sha256."""
    copy_files(source, target, LOGS)
    sha256 = _cut(source, target)
    for name in PICTURES:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
    return sha256


def _cut(source: Path, target: Path) -> str:
    """Write a run's accuracy log cut, and accuracy.txt with the whole one's hash."""
    target.mkdir(parents=True, exist_ok=True)
    log = source / ACCURACY_LOG
    sha256 = seal.digest(log)
    (target / ACCURACY_LOG).write_bytes(truncate.read_ends(log))
    scored = source / "accuracy.txt"
    text = scored.read_text(encoding="utf-8") if scored.is_file() else ""
    (target / "accuracy.txt").write_text(truncate.signed(text, sha256), "utf-8")
    return sha256


def _compliance(test: str, run: Run, target: Path) -> None:
    """Place an audit's run and what was verified of it."""
    verified = sorted(path.name for path in run.folder.glob("verify_*.txt"))
    copy_files(run.folder, target, verified)
    copy_files(run.folder, target / "performance" / "run_1", LOGS)
    log = run.folder / ACCURACY_LOG
    if not log.is_file() or log.stat().st_size <= len("[\n]\n"):
        return
    accuracy = target / "accuracy"
    if test in WHOLE:
        copy_files(run.folder, accuracy, [ACCURACY_LOG])
        return
    _cut(run.folder, accuracy)
    if test in BY_HASH:
        text = truncate.signed("", seal.digest(log))
        (accuracy / "accuracy.txt").write_text(text, encoding="utf-8")
    answers = target / "verify_accuracy.txt"
    if not answers.is_file() or "TEST PASS" not in answers.read_text("utf-8"):
        there = [name for name in FALLBACK if (run.folder / name).is_file()]
        copy_files(run.folder, accuracy, there)
