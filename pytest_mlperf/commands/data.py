"""``pytest-mlperf data``: the official files of benchmarks, in the scratch folder."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_mlperf.api import registry
from pytest_mlperf.api.benchmark import Preprocesses
from pytest_mlperf.api.benchmark import Preprocessing
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.sources import Source
from pytest_mlperf.commands.scratch import survey
from pytest_mlperf.commands.scratch.download import Download
from pytest_mlperf.commands.scratch.download import DownloadFailed
from pytest_mlperf.commands.scratch.preprocess import make_items
from pytest_mlperf.commands.scratch.progress import ProgressBar
from pytest_mlperf.commands.shared.output import print_text

HELP = "the official files of the benchmarks: what is there, and how to get the rest"
GOOD, INCOMPLETE, REFUSED = 0, 1, 2
"""Exit codes: all is there, something is missing or wrong, invalid arguments."""
ACTIONS = {
    "status": "say of each file whether it is there, how large, from where, under which"
    " terms; 1 if one is missing",
    "verify": "hash what is there; 1 if a file is not what it should be",
    "fetch": "download what everybody may; say how to get the rest",
    "preprocess": "make what a benchmark reads of what was downloaded, where that is"
    " slow",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in ACTIONS.items():
        action = kinds.add_parser(name, help=text, description=text)
        default = "needed" if name == "fetch" else "default: all installed"
        action.add_argument(
            "benchmarks", nargs="*", metavar="BENCHMARK",
            help=f"such as bert, resnet50 ({default})",
        )  # fmt: skip
        action.add_argument(
            "--scratch",
            type=Path,
            metavar="DIR",
            help="folder of the official files (default: $MLPERF_SCRATCH_PATH)",
        )


def run(arguments: argparse.Namespace) -> int:
    """Carry out the action and return the exit code."""
    named = os.environ.get("MLPERF_SCRATCH_PATH", "").strip()
    scratch = arguments.scratch or (Path(named) if named else None)
    try:
        chosen = survey.list_sources(arguments.benchmarks)
        if scratch is None and arguments.action != "status":
            raise ValueError(
                "there is no scratch folder; add --scratch DIR, or set"
                " MLPERF_SCRATCH_PATH"
            )
        if scratch and not scratch.is_dir() and arguments.action != "fetch":
            raise ValueError(
                f"{scratch}: no such folder; correct --scratch or MLPERF_SCRATCH_PATH,"
                " or make it: data fetch does"
            )
        if arguments.action == "fetch" and not arguments.benchmarks:
            raise ValueError(
                "fetch needs the names of benchmarks: their files have up to hundreds"
                f" of GB; name some of {', '.join(chosen)}"
            )
    except ValueError as error:
        print_text(f"pytest-mlperf data: {error}", error=True)
        return REFUSED
    if arguments.action == "preprocess":
        return preprocess(list(chosen), scratch)
    if arguments.action == "status":
        if scratch is None:
            print_text(
                "no scratch folder is named, so that no file is there: add --scratch"
                " DIR, or set MLPERF_SCRATCH_PATH"
            )
        results = [show_status(name, s, scratch) for name, s in chosen.items()]
    elif arguments.action == "verify":
        results = [verify(name, s, scratch) for name, s in chosen.items()]
    else:
        results = [fetch(name, s, scratch) for name, s in chosen.items()]
    return GOOD if all(results) else INCOMPLETE


def show_status(name: str, sources: tuple[Source, ...], scratch: Path | None) -> bool:
    """Print a benchmark's files; return whether all that every run needs are there."""
    statuses = [survey.survey(source, scratch) for source in sources]
    there = sum(status.is_whole for status in statuses)
    total = survey.format_size(sum(status.size for status in statuses))
    print_text(f"{name}: {there} of {len(sources)} there, {total}")
    for status in statuses:
        print_text(f"  {describe(status, scratch)}")
    return all(status.is_whole or status.source.use for status in statuses)


def describe(status: survey.SourceStatus, scratch: Path | None) -> str:
    """Return one line: there or missing, size, place, origin, terms."""
    source, path = status.source, status.path
    if path is None:
        size = f"{survey.format_size(source.size)}, " if source.size else ""
        how = "" if source.urls else "; not to be fetched by this command"
        return f"missing  {size}{source.layout}{how}"
    place = path.relative_to(scratch) if scratch else path
    count = f" ({status.present} of {status.expected} files)" * bool(source.parts)
    word = "there   " if status.is_whole else "partly  "
    notes = ", ".join(note for note in (source.origin, source.terms) if note)
    return f"{word} {survey.format_size(status.size)}, {place}{count} from {notes}"


def verify(name: str, sources: tuple[Source, ...], scratch: Path | None) -> bool:
    """Print what each file's hash says; return whether nothing is wrong."""
    good = True
    for source in sources:
        status = survey.survey(source, scratch)
        if status.path is None:
            print_text(f"{name}: missing   {source.label}")
            continue
        for path, required in survey.list_files(source, status.path):
            if fault := survey.verify_file(path, required, source):
                good = False
                print_text(f"{name}: WRONG     {path} {fault}; get it again")
            elif required:
                print_text(f"{name}: verified  {path}")
            else:
                print_text(f"{name}: unknown   {path}: nobody published its hash")
    return good


def fetch(name: str, sources: tuple[Source, ...], scratch: Path | None) -> bool:
    """Download what is public, and explain the rest; return whether all is there."""
    assert scratch is not None, "checked with the arguments"
    results = [fetch_source(name, source, scratch) for source in sources]
    return all(results)


def fetch_source(name: str, source: Source, scratch: Path) -> bool:
    """Return whether a file is there, or not needed by every run."""
    status = survey.survey(source, scratch)
    if status.is_whole:
        print_text(f"{name}: there already: {status.path}")
        return True
    if not source.urls:
        print_text(f"{name}: get it yourself: {explain_gated(source, scratch)}")
        return bool(source.use)
    target = scratch / source.paths[0]
    line = ProgressBar(target.name, sys.stderr)
    try:
        checked = Download(source, target, line.show).run()
    except DownloadFailed as error:
        line.close()
        print_text(f"{name}: {error}", error=True)
        return False
    line.close()
    how = f"{checked} is right" if checked else "nobody published its hash"
    print_text(f"{name}: fetched {target} ({how})")
    return True


def preprocess(names: Sequence[str], scratch: Path | None) -> int:
    """Make what is not made yet; return the exit code."""
    assert scratch is not None, "checked with the arguments"
    steps = {}
    for name in names:
        benchmark = registry.benchmark(name)
        if isinstance(benchmark, Preprocesses):
            steps[name] = benchmark.preprocessing
    if not steps:
        print_text(f"{', '.join(names)}: nothing is to be preprocessed")
        return GOOD
    results = [preprocess_one(name, step, scratch) for name, step in steps.items()]
    return GOOD if all(results) else INCOMPLETE


def preprocess_one(name: str, step: Preprocessing, scratch: Path) -> bool:
    """Return whether everything of one benchmark is made."""
    bar = ProgressBar(name, sys.stderr)
    try:
        place = make_items(step, scratch, bar.show)
    except (RequirementMissing, ValueError, OSError) as error:
        bar.close()
        print_text(f"{name}: {error}", error=True)
        return False
    bar.close()
    print_text(f"{name}: {place}")
    return True


def explain_gated(source: Source, scratch: Path) -> str:
    """Return where to get a file, under which terms, and the tree that is expected."""
    terms = f"\n  terms: {source.terms}" if source.terms else ""
    names = [name for name, _ in source.parts]
    folder = (scratch / source.paths[0]).parent
    if names:
        shown = [names[0], f"... {len(names)} files ...", names[-1]]
    else:
        shown = [Path(source.paths[0]).name]
    tree = "\n    ".join([f"{folder}/", *shown])
    return f"{source.label}\n  from: {source.origin}{terms}\n  tree: {tree}"
