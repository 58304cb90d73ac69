"""Writes a submission's tree beside its place and moves it there when complete."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from pytest_mlperf.core import rounds
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.regular_file import read_text
from pytest_mlperf.core.rounds.names import resolve_benchmark
from pytest_mlperf.core.submission import check
from pytest_mlperf.core.submission import documents
from pytest_mlperf.core.submission import seal
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.core.submission.check.tree import Home
from pytest_mlperf.core.submission.check.tree import find_round_of_seeds
from pytest_mlperf.core.submission.layout import Layout
from pytest_mlperf.core.submission.layout import scenario_folder
from pytest_mlperf.core.submission.request import Entry
from pytest_mlperf.core.submission.request import Key
from pytest_mlperf.core.submission.request import SubmissionRequest
from pytest_mlperf.core.types import REHEARSAL
from pytest_mlperf.core.types import STREAMS
from pytest_mlperf.submission import checkers
from pytest_mlperf.submission import code
from pytest_mlperf.submission import result_files
from pytest_mlperf.submission.result_files import ResultPlace

OLD = ".old"
"""Suffix of a tree that is being replaced."""


@dataclass(frozen=True, slots=True)
class Content:
    """All that a tree is written from."""

    ask: SubmissionRequest
    entries: Sequence[Entry]
    description: str
    """systems/<system>.json as text."""
    session: documents.SubmissionSession
    engines: Sequence[str] = ()
    """``module:object`` of engines in development: their source goes with the code."""
    system_files: Sequence[Path] = ()
    """The system's own file, and its nameplate power where it has one."""


@dataclass(slots=True)
class Written:
    """The tree that was written, and notes for people."""

    path: Path
    notes: list[str] = field(default_factory=list)
    full_logs: dict[str, str] = field(default_factory=dict)
    """Folder of each whole accuracy log -> its sha256."""


def write_tree(content: Content, target: Path, before: Path | None = None) -> Written:
    """Write a tree at ``target``, starting from a copy of ``before`` if there is one.

    The results of ``before`` are kept, but a better VALID run replaces an older one of
    the same benchmark and scenario. Raises ``OSError``; the target is then unchanged.
    """
    written = Written(target)
    # Resolved, so that a link's target is replaced and not the link.
    with replace_folder(target.resolve()) as root:
        if before:
            shutil.copytree(before, root, symlinks=True, dirs_exist_ok=True)
        there = list_rows(root, content.ask) if before else {}
        # Read before anything is written: the old tree is what is checked.
        present = check.read_tree(root, content.ask.round)[0] if there else None
        labels = {REHEARSAL} if content.ask.rehearsal else set()
        for entry in content.entries:
            folder = find_counterpart(there, entry, content.ask)
            place = ResultPlace.of(root, content.ask, entry, folder)
            fault = checkers.find_fault(present, place) if folder and present else ""
            if folder and not is_better(entry, place, written.notes, fault):
                continue
            sha256 = result_files.write_result(
                place, entry, content.ask, content.session
            )
            written.full_logs[str(entry.accuracy.folder)] = sha256
            labels |= set(entry.performance.verdict.labels)
        _write_common(root, content, labels, written.notes)
        ask = content.ask
        home = Layout.of(ask.round).home(ask.division, ask.org)
        seal.write_seal(Listing.of(root), str(home))
    return written


@contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target``, and replace the target by it at the end.

    After an exception the target is unchanged, with nothing left beside it. Raises
    ``OSError`` if another session has replaced the target meanwhile: its results would
    be lost.
    """
    making = target.with_name(f".{target.name}.{os.getpid()}")
    making.mkdir(parents=True)
    before = read_identity(target)
    try:
        yield making
        if read_identity(target) != before:
            why = "another session has replaced it meanwhile"
            raise OSError(errno.EBUSY, why, str(target))
        old = target.with_name(f".{target.name}.{os.getpid()}{OLD}")
        try:
            if before:
                target.rename(old)
            making.rename(target)
        except BaseException:  # Ctrl-C too: the target must be restored.
            with suppress(OSError):
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def read_identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from another of the same name; None if missing."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def list_rows(root: Path, ask: SubmissionRequest) -> dict[Key, list[str]]:
    """Return a tree's rows of this system -> their benchmark's folders.

    A row has several if an open tree has a model beside the official one.
    """
    layout = Layout.of(ask.round)
    home = root / layout.results(ask.division, ask.org) / ask.system
    rows: dict[Key, list[str]] = {}
    for folder in sorted(home.glob("*/")):
        name = resolve_benchmark(folder.name, ask.round)
        for rule in rounds.get(ask.round).rules if name else ():
            scenario = folder / scenario_folder(rule.scenario, ask.round)
            if (rule.benchmark, rule.target) == name and scenario.is_dir():
                key = (rule.model, rule.scenario.value)
                rows.setdefault(key, []).append(folder.name)
    return rows


def find_counterpart(
    there: Mapping[Key, Sequence[str]], entry: Entry, ask: SubmissionRequest
) -> str:
    """Return the tree's folder of an entry's model; empty if there is none.

    A stand-in for the model and the official one never replace each other.
    """
    own = documents.find_own_folder(entry, ask)
    folders = there.get((entry.rule.model, entry.rule.scenario.value), ())
    if own:
        return own if own in folders else ""
    other = documents.OWN_MODEL
    return next((name for name in folders if not name.endswith(other)), "")


def is_better(
    entry: Entry, place: ResultPlace, notes: list[str], fault: str = ""
) -> bool:
    """True if the run beats the tree's own, or that one has a fault; notes the choice.

    ``fault``: why the tree's own run cannot be submitted, however fast it is.
    """
    name = f"{entry.rule.model} {entry.rule.scenario.value}"
    if fault:
        notes.append(f"{name}: the tree's own run replaced, it has a problem: {fault}")
        return True
    folder = place.path(place.layout.performance(*place.names))
    mine = entry.performance.folder
    try:
        old = Log.read(folder).number(entry.rule.result_key)
        new = Log.read(mine).number(entry.rule.result_key)
    except LogError as error:
        notes.append(f"{name}: replaced, the tree's own run cannot be read ({error})")
        return True
    lower = entry.rule.scenario in STREAMS
    better = new < old if lower else new > old
    verb = "replaced" if better else "kept"
    notes.append(
        f"{name}: the tree's own run {verb}: {old:,.6g} there, {new:,.6g} here"
    )
    return better


def find_clash(tree: Path, ask: SubmissionRequest) -> str:
    """Return why this session cannot complete a tree; empty if it can."""
    layout = Layout.of(ask.round)
    home = tree / layout.home(ask.division, ask.org)
    if not home.is_dir():
        left = sorted(tree.parent.glob(f".{tree.name}.*{OLD}"))
        if left and not tree.exists():
            return (
                f"{tree} is not there: a session was killed while it replaced it; "
                f"rename {left[-1]} to {tree.name}"
            )
        there = sorted(f"{p.parent.name}/{p.name}" for p in tree.glob("[a-z]*/*/"))
        return (
            f"{tree} has no {ask.division}/{ask.org} (there: "
            f"{', '.join(there) or 'nothing'}); give the same --mlperf-submission and "
            "--mlperf-division as for the tree, or leave out --mlperf-tree"
        )
    apart = (home / "measurements").is_dir() or (home / "compliance").is_dir()
    if apart == layout.together:
        return (
            f"{tree} is laid out as {'v5.1' if apart else 'v6.0'} and this session is "
            f"for {ask.round}; give the tree's --mlperf-round"
        )
    homes = (Home(ask.division, ask.org),)
    own = find_round_of_seeds(Listing.of(tree), homes)
    if own not in (None, layout.round):
        return (
            f"the logs of {tree} have the seeds of {own} and this session is for "
            f"{ask.round}; give the tree's --mlperf-round"
        )
    file = tree / layout.system_json(ask.division, ask.org, ask.system)
    description = read_json(file)
    category = description.get("system_type")
    if description and category != ask.category:
        return (
            f"{file}: system_type is {category!r}, this session is for "
            f"{ask.category!r}; give the tree's --mlperf-category"
        )
    rehearsed = "REHEARSAL" in str(description.get("system_name", ""))
    if description and rehearsed != ask.rehearsal:
        kinds = ("rehearsed", "measured") if rehearsed else ("measured", "rehearsed")
        return (
            f"{tree} holds {kinds[0]} runs and these are {kinds[1]}; write a new tree"
        )
    return ""


def _write_common(
    root: Path, content: Content, labels: set[str], notes: list[str]
) -> None:
    """Write what a tree has once: system, code, calibration, model mapping."""
    ask, layout = content.ask, Layout.of(content.ask.round)
    names = (ask.division, ask.org)
    home = layout.home(*names)
    making = layout.code(*names) / f"{code.PACKAGE}.making"
    once = (layout.calibration(*names), layout.model_mapping(*names), home / seal.FILE)
    for place in (layout.system_json(*names, ask.system), making, *once):
        result_files.refuse_links(root, root / place)
    file = root / layout.system_json(*names, ask.system)
    if file.exists():
        note = documents.describe_unchanged(
            read_json(file), json.loads(content.description)
        )
        notes.append(f"{file.relative_to(root)}: {note}")
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content.description, encoding="utf-8")
    for path in content.system_files:
        if path.name.endswith("_power.yaml"):
            shutil.copyfile(path, file.with_name(f"{ask.system}_power.yaml"))
    notice = " ".join(documents.list_notices(labels))
    own = [path for path in content.system_files if path.suffix == ".toml"]
    sources = root / layout.code(*names)
    made = code.write_code(
        sources, engines=content.engines, system_file=next(iter(own), None), note=notice
    )
    if not layout.together:
        _write_code_notes(sources, made.name, content.entries, ask)
    calibration = root / layout.calibration(*names)
    calibration.parent.mkdir(parents=True, exist_ok=True)
    old = calibration.read_text("utf-8") if calibration.exists() else ""
    text = documents.format_calibration(content.entries, labels, old)
    calibration.write_text(text, encoding="utf-8")
    mapping = documents.map_models(content.entries, ask)
    if mapping:
        file = root / layout.model_mapping(*names)
        merged = {**read_json(file), **mapping}
        file.write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")


def _write_code_notes(
    sources: Path, name: str, entries: Sequence[Entry], ask: SubmissionRequest
) -> None:
    """Write each benchmark the folder that checkers before v6.0 require."""
    for entry in entries:
        place = ResultPlace.of(sources, ask, entry)
        file = sources / place.benchmark / "README.md"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"The code is in `../{name}`.\n", encoding="utf-8")


def read_json(file: Path) -> dict[str, Any]:
    """Return a file's JSON object; an empty one if there is none."""
    try:
        value = json.loads(read_text(file))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
