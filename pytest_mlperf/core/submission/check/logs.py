"""The LoadGen logs of a result: the files that must be there, and the judge's verdict.

Nothing is judged here: ``judge.identify`` does, and every check that does not pass is a
problem of the file it looked at. File lists: mlcommons/inference v5.1.1,
tools/submission/submission_checker.py, check_results_dir; b66003e1, power_check.py and
compliance_check.py.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from pathlib import Path

from pytest_mlperf.core.judge.identify import identify
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.accuracy import ACCURACY_TXT
from pytest_mlperf.core.logs.accuracy import GAP
from pytest_mlperf.core.logs.accuracy import HASH
from pytest_mlperf.core.logs.discover import FoundRun
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SUMMARY
from pytest_mlperf.core.submission.check.hygiene import LARGEST
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.check.since import is_asked
from pytest_mlperf.core.submission.check.tree import Result
from pytest_mlperf.core.submission.check.tree import Tree
from pytest_mlperf.core.submission.seal import digest_stream
from pytest_mlperf.core.submission.truncate import LIMIT
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status

IGNORED = ("mlperf_log_trace.json", "results.json", ".gitkeep")
"""Files that may lie beside any log (files_diff)."""
PERFORMANCE = (SUMMARY, DETAIL)
ACCURATE = (SUMMARY, DETAIL, ACCURACY_TXT, ACCURACY)
READINGS = "spl.txt"
"""Of a power meter; nothing belongs to them without its session."""
OF_THE_WHOLE = ("whole_dataset", "accuracy_hash")
"""Checks that need the accuracy log before it was cut."""

files_rule = make_fault("log_files")
size_rule = make_fault("accuracy_log_size")
cut_rule = make_fault("accuracy_log_cut")
hash_rule = make_fault("accuracy_hash")


def performance_problems(
    tree: Tree, result: Result, folder: str, *, test: str = "", power: bool = False
) -> Iterator[Problem]:
    """Yield what is wrong with a performance run, or with a compliance test's."""
    spl = (READINGS,) if power else ()
    needed = (*PERFORMANCE, *spl)
    alone = bool(test) or power or is_asked("extra_files", tree.round.name)
    yield from file_problems(
        tree.listing, folder, needed, optional=(ACCURACY,), alone=alone
    )
    if not is_readable(tree.listing, folder, PERFORMANCE):
        return
    place = describe_run(tree, result, folder, Mode.PERFORMANCE, test)
    yield from judge_run(tree, folder, place)


def accuracy_problems(tree: Tree, result: Result) -> Iterator[Problem]:
    """Yield what is wrong with an accuracy run as it stands in a tree: cut."""
    listing = tree.listing
    folder = str(tree.layout.accuracy(*result.names))
    alone = is_asked("extra_files", tree.round.name)
    yield from file_problems(listing, folder, ACCURATE, alone=alone)
    path = f"{folder}/{ACCURACY}"
    size = listing.entries[path].size if listing.is_file(path) else 0
    if size > LIMIT:
        required = f"at most {LIMIT:,}"
        remedy = "cut it as truncate_accuracy_log.py does, and keep the whole elsewhere"
        yield size_rule(path, f"{size:,} bytes", required, remedy)
    if not is_readable(listing, folder, ACCURATE):
        return
    cut = is_cut(listing, path)
    if cut:
        yield from cut_problems(listing, path)
    # Open results are recorded without a hash: accuracy_result_check.
    skipped = OF_THE_WHOLE if cut else () if result.is_strict else ("accuracy_hash",)
    if cut and result.is_strict:
        yield from hash_problems(listing, folder)
    place = describe_run(tree, result, folder, Mode.ACCURACY, "")
    yield from judge_run(tree, folder, place, skipped)


def describe_run(
    tree: Tree, result: Result, folder: str, mode: Mode, test: str
) -> FoundRun:
    """Return what the tree says of a run, for the judge."""
    benchmark, target = result.benchmark or ("", "")
    kind = tree.category(result)
    return FoundRun(
        tree.listing.root / folder,
        model=result.folder,
        benchmark=benchmark,
        target=target,
        scenario=result.scenario,
        mode=mode,
        test=test,
        system=result.system,
        submitter=result.org,
        division=result.division,
        category=(kind or "").replace("_", ","),
    )


def judge_run(
    tree: Tree, folder: str, place: FoundRun, skipped: Collection[str] = ()
) -> Iterator[Problem]:
    """Yield a problem for every check of the judge that did not pass."""
    if not place.benchmark or place.scenario is None:
        return  # The names of the folders are a problem already.
    for check in identify(place, tree.round.name).checks:
        if check.status in (Status.FAIL, Status.ERROR) and check.name not in skipped:
            yield make_problem(folder, check)


def make_problem(folder: str, check: Check) -> Problem:
    """Return a check that did not pass as a problem of the file it looked at."""
    name, _, line = Path(check.where).name.partition(":")
    known = name in (SUMMARY, DETAIL, ACCURACY, ACCURACY_TXT)
    path = f"{folder}/{name}" if known else folder
    number = int(line) if known and line.isdecimal() else 0
    remedy = check.remedy or "repeat the run"
    return Problem(path, check.name, check.found, check.required, remedy, number)


def file_problems(
    listing: Listing,
    folder: str,
    needed: Collection[str],
    optional: Collection[str] = (),
    *,
    alone: bool = True,
) -> Iterator[Problem]:
    """The folder holds these files, and ``alone`` no others (files_diff).

    A meter's readings are never among the others.
    """
    if not listing.is_folder(folder):
        remedy = f"add the folder with {', '.join(needed)}"
        yield files_rule(folder, "no such folder", "the logs of a run", remedy)
        return
    names = listing.files(folder)
    for name in needed:
        if name not in names:
            path, required = f"{folder}/{name}", "the file"
            remedy = "put the file of this run there, or repeat the run"
            yield files_rule(path, "no such file", required, remedy)
        elif listing.is_file(f"{folder}/{name}"):
            if not listing.entries[f"{folder}/{name}"].size:
                path, required = f"{folder}/{name}", "what the run wrote"
                remedy = "put the file of this run there, or repeat the run"
                yield files_rule(path, "an empty file", required, remedy)
        else:
            # Links and such are problems of the tree's files.
            continue
    for name in names:
        if name in (*needed, *optional, *IGNORED):
            continue
        if alone or name == READINGS:
            required = f"only {', '.join((*needed, *optional))}"
            yield files_rule(f"{folder}/{name}", "a file", required, "move it out")


def is_readable(listing: Listing, folder: str, needed: Collection[str]) -> bool:
    """True when the judge can read a run: whole files of a legal size."""
    for name in needed:
        path = f"{folder}/{name}"
        if not listing.is_file(path) or not 0 < listing.entries[path].size <= LARGEST:
            return False
    return True


def read_head(listing: Listing, path: str) -> bytes | None:
    """Return what a cut accuracy log can hold at most; None when it is unreadable."""
    try:
        with listing.open(path) as file:
            return file.read(LIMIT + 1)
    except OSError:
        return None


def is_cut(listing: Listing, path: str) -> bool:
    """True for an accuracy log that was truncated as the official tool does."""
    return bool(GAP.search(read_head(listing, path) or b""))


def cut_problems(listing: Listing, path: str) -> Iterator[Problem]:
    """A cut log still has LoadGen's records at both ends."""
    raw = read_head(listing, path)
    if raw is None:
        yield cut_rule(path, "unreadable", "a readable file", "make it readable")
        return
    remedy = "cut the log of this run again, as truncate_accuracy_log.py does"
    try:
        text = raw.decode().strip()
    except UnicodeDecodeError:
        yield cut_rule(path, "bytes that are not UTF-8", "LoadGen's records", remedy)
        return
    closed = text.endswith("]") or len(raw) > LIMIT
    if not text.startswith("[") or not closed or "\0" in text:
        found = f"{text[:30]!r} … {text[-10:]!r}"
        yield cut_rule(path, found, "[ … ]", remedy)


def hash_problems(listing: Listing, folder: str) -> Iterator[Problem]:
    """accuracy.txt has the hash of the log before it was cut (accuracy_check).

    Of a log that was never cut it can be computed.
    """
    path = f"{folder}/{ACCURACY_TXT}"
    text = listing.text(path, "accuracy_hash")
    if isinstance(text, Problem):
        yield text
        return
    found = next((m[1] for line in text.splitlines() if (m := HASH.match(line))), "")
    required = "hash= and the sha256 of the whole accuracy log"
    remedy = "append it; the tool that cuts the log does"
    if not found:
        yield hash_rule(path, "no hash= line", required, remedy)
    elif not is_cut(listing, f"{folder}/{ACCURACY}"):
        with listing.open(f"{folder}/{ACCURACY}") as file:
            own = digest_stream(file)
        if own != found.lower():
            remedy = "put the log there that was scored, or score this one again"
            yield hash_rule(path, f"hash={found[:16]}…", f"hash={own[:16]}…", remedy)
