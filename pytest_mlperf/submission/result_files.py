"""Writes one result of a submission: the files of its runs, in the round's layout."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from pathlib import PurePosixPath

from pytest_mlperf.core import compliance
from pytest_mlperf.core import rounds
from pytest_mlperf.core.checks.device import DIAGRAM
from pytest_mlperf.core.checks.device import PROOF
from pytest_mlperf.core.regular_file import open_regular
from pytest_mlperf.core.regular_file import read_text
from pytest_mlperf.core.submission import documents
from pytest_mlperf.core.submission import seal
from pytest_mlperf.core.submission import truncate
from pytest_mlperf.core.submission.layout import ACCURACY_LOG
from pytest_mlperf.core.submission.layout import LOGS
from pytest_mlperf.core.submission.layout import Layout
from pytest_mlperf.core.submission.layout import folder_name
from pytest_mlperf.core.submission.layout import scenario_folder
from pytest_mlperf.core.submission.request import Entry
from pytest_mlperf.core.submission.request import SubmissionRequest
from pytest_mlperf.core.submission.runs import Run

PICTURES = ("images", "videos")
"""Folders of sample answers in some benchmarks' accuracy runs."""
POWER = ("power", "ranging")
POWER_SETTINGS = ("analyzer_table.*", "power_settings.*")
"""Settings of the meter and the machine; they go beside the measurements."""


@dataclass(frozen=True, slots=True)
class ResultPlace:
    """The place of one result in a tree."""

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
    def of(
        cls, root: Path, ask: SubmissionRequest, entry: Entry, benchmark: str = ""
    ) -> ResultPlace:
        """Return an entry's place; ``benchmark``: its folder in the tree, if any."""
        rule = entry.rule
        name = folder_name(rule.benchmark, rule.target, ask.round, rule.scenario)
        return cls(
            root,
            Layout.of(ask.round),
            ask.division,
            ask.org,
            ask.system,
            benchmark or documents.find_own_folder(entry, ask) or name,
            scenario_folder(rule.scenario, ask.round),
        )

    def path(self, below: PurePosixPath) -> Path:
        return self.root / below

    def folders(self) -> set[Path]:
        """Return all folders that belong to this result alone."""
        layout, names = self.layout, self.names
        own = [layout.result(*names), layout.measurements(*names)]
        return {self.path(p) for p in (*own, layout.compliance(*names, "TEST").parent)}


def write_result(
    place: ResultPlace,
    entry: Entry,
    ask: SubmissionRequest,
    session: documents.SubmissionSession,
) -> str:
    """Write one result, replacing an older one.

    Returns the sha256 of the whole accuracy log. Raises ``OSError``.
    """
    for folder in place.folders():
        refuse_links(place.root, folder)
    for folder in place.folders():
        shutil.rmtree(folder, ignore_errors=True)
    layout, names = place.layout, place.names
    run_1 = place.path(layout.performance(*names))
    copy_files(entry.performance.folder, run_1, LOGS)
    _copy_power(entry.performance, run_1)
    _copy_proof(entry.performance, place)
    whole = _copy_accuracy(entry.accuracy.folder, place.path(layout.accuracy(*names)))
    for test, run in entry.compliance.items():
        audited = place.path(layout.compliance(*names, test))
        _copy_audit(test, run, audited)
        for finding in entry.verified.get(test, ()):
            (audited / finding.file).write_text(finding.text, encoding="utf-8")
    measured = place.path(layout.measurements(*names))
    measured.mkdir(parents=True, exist_ok=True)
    labels = entry.performance.verdict.labels
    conf = read_text(entry.performance.folder / "user.conf")
    texts = {
        "user.conf": documents.format_user_conf(conf, labels),
        "README.md": documents.format_readme(entry, ask, session, whole),
    }
    if rounds.is_before(ask.round, "v5.0"):
        # Their checkers require it beside user.conf.
        texts["mlperf.conf"] = documents.format_mlperf_conf(entry.rule)
    for name, text in texts.items():
        (measured / name).write_text(text, encoding="utf-8")
    file = place.path(layout.measurements_json(*names))
    file.write_text(documents.format_measurements(entry), encoding="utf-8")
    for pattern in POWER_SETTINGS:
        found = entry.performance.folder.glob(pattern)
        copy_files(entry.performance.folder, measured, [path.name for path in found])
    return whole


def refuse_links(root: Path, folder: Path) -> None:
    """Raise ``OSError`` for a link on the way to a folder, or anywhere below it.

    Its target belongs to somebody else, and would be removed or overwritten.
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
    """Copy the named files of a folder; without names the target is not made."""
    for name in names:
        target.mkdir(parents=True, exist_ok=True)
        with (
            open_regular(source / name) as file,
            (target / name).open("wb") as copy,
        ):
            shutil.copyfileobj(file, copy)


def _copy_power(run: Run, run_1: Path) -> None:
    """Copy what a power meter's session left beside the run's logs."""
    if not (run.folder / "power").is_dir():
        return
    for name in POWER:
        shutil.copytree(
            run.folder / name,
            run_1.parent / name,
            ignore=shutil.ignore_patterns(".*", "mlperf_log_trace.json"),
        )
    copy_files(run.folder, run_1, ["spl.txt"])


def _copy_proof(run: Run, place: ResultPlace) -> None:
    """Place the reckoning and the drawing of a run that used the device's memory."""
    if not run.verdict.run.on_device:
        return
    _, _, system, benchmark, scenario = place.names
    home = place.path(place.layout.documentation(place.division, place.org))
    target = home / "on_device" / system / benchmark / scenario
    refuse_links(place.root, target)
    shutil.rmtree(target, ignore_errors=True)
    drawings = [path.name for path in run.folder.glob(f"{DIAGRAM}.*")]
    copy_files(run.folder, target, [PROOF, *drawings])


def _copy_accuracy(source: Path, target: Path) -> str:
    """Copy a scored accuracy run, its log truncated; return the whole log's sha256."""
    copy_files(source, target, LOGS)
    sha256 = _truncate_log(source, target)
    for name in PICTURES:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
    return sha256


def _truncate_log(source: Path, target: Path) -> str:
    """Write a truncated accuracy log, and accuracy.txt with the whole log's hash."""
    target.mkdir(parents=True, exist_ok=True)
    log = source / ACCURACY_LOG
    sha256 = seal.digest_file(log)
    (target / ACCURACY_LOG).write_bytes(truncate.read_ends(log))
    scored = source / "accuracy.txt"
    text = read_text(scored) if scored.is_file() else ""
    (target / "accuracy.txt").write_text(truncate.sign_text(text, sha256), "utf-8")
    return sha256


def _copy_audit(test: str, run: Run, target: Path) -> None:
    """Copy an audit's run and its verification."""
    verified = sorted(path.name for path in run.folder.glob("verify_*.txt"))
    copy_files(run.folder, target, verified)
    copy_files(run.folder, target / "performance" / "run_1", LOGS)
    log = run.folder / ACCURACY_LOG
    if not log.is_file() or log.stat().st_size <= len("[\n]\n"):
        return
    accuracy = target / "accuracy"
    audit = compliance.get(test)
    if audit.keeps_answers:
        copy_files(run.folder, accuracy, [ACCURACY_LOG])
        return
    _truncate_log(run.folder, accuracy)
    # Scores that stand for answers that differ.
    for path, file in audit.official_files(run.folder):
        if file.is_file() and not (target / path).exists():
            copy_files(file.parent, (target / path).parent, [file.name])
