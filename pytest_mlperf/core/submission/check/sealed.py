"""A sealed submitter's folder contains what it contained when it was written.

Only trees that this suite writes are sealed; others are not asked for a seal.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mlperf.core.submission import seal
from pytest_mlperf.core.submission.check.listing import EntryKind
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.check.tree import Home
from pytest_mlperf.core.submission.check.tree import Tree

NAME = "sha256sums.txt"
"""A README that names it makes the seal a file that must be there."""
MINE = "or, if the change is yours, seal the tree again: pytest-mlperf submit seal"

sealed = make_fault("seal")


def seal_problems(tree: Tree, home: Home) -> Iterator[Problem]:
    """Yield every file that differs from the seal."""
    listing = tree.listing
    path = f"{home.path}/{seal.FILE}"
    if path not in listing.entries:
        if is_seal_mentioned(tree, home):
            required = "the seal that the README files speak of"
            remedy = f"restore it; {MINE}"
            yield sealed(path, "no such file", required, remedy)
        return
    text = listing.text(path, "seal")
    if isinstance(text, Problem):
        yield text
        return
    listed, wrong = seal.parse_seal(text)
    if wrong:
        remedy = f"restore the file; {MINE}"
        required = "a SHA-256 and a path a line, and their number in the last"
        yield Problem(path, "seal", "another line", required, remedy, wrong)
        return
    names = {
        entry.path.removeprefix(f"{home.path}/")
        for entry in listing.below(home.path)
        if entry.kind is EntryKind.FILE
    }
    for name in sorted(listed.keys() - names):
        required = f"the file that {NAME} lists"
        remedy = f"restore the file; {MINE}"
        yield sealed(f"{home.path}/{name}", "no such file", required, remedy)
    for name in sorted(names - listed.keys() - {seal.FILE}):
        remedy = f"remove the file; {MINE}"
        required = f"one that {NAME} lists"
        yield sealed(f"{home.path}/{name}", "a file", required, remedy)
    for name in sorted(names & listed.keys()):
        file = f"{home.path}/{name}"
        try:
            with listing.open(file) as opened:
                found = seal.digest_stream(opened)
        except OSError:
            continue  # A problem of the tree's files.
        if found != listed[name]:
            required = f"{listed[name][:16]}…, as {NAME} has it"
            remedy = f"restore the file; {MINE}"
            yield sealed(file, f"SHA-256 {found[:16]}…", required, remedy)


def is_seal_mentioned(tree: Tree, home: Home) -> bool:
    """True when a README of the submitter's results speaks of a seal."""
    for result in tree.results:
        if (result.division, result.org) == (home.division, home.org):
            path = f"{tree.layout.measurements(*result.names)}/README.md"
            text = tree.listing.text(path, "seal")
            if isinstance(text, str) and NAME in text:
                return True
    return False
