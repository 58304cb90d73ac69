"""The tree as files: names, links, sizes, and what lies where it must not.

Source unless stated otherwise: mlcommons/inference v5.1.1,
tools/submission/submission_checker.py, check_results_dir.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mlperf.core.submission.check.listing import EntryKind
from pytest_mlperf.core.submission.check.listing import TreeEntry
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.check.tree import Home
from pytest_mlperf.core.submission.check.tree import Tree
from pytest_mlperf.core.submission.layout import DIVISIONS

BESIDE = (".git", ".github", "assets")
"""Folders that a submission repository has beside its divisions."""
LARGEST = 50 * 1024 * 1024
"""Bytes (FILE_SIZE_LIMIT_MB)."""

something = make_fault("something_to_check")
root_rule = make_fault("root")
division_rule = make_fault("division")
submitter_rule = make_fault("submitter")
link_rule = make_fault("links")
size_rule = make_fault("file_size")
name_rule = make_fault("file_names")
empty_rule = make_fault("empty_folders")
reading = make_fault("readable")
layout_rule = make_fault("layout")


def tree_problems(tree: Tree) -> Iterator[Problem]:
    """Yield what is wrong with the tree's files, submitter by submitter."""
    listing = tree.listing
    if root := listing.entries.get(""):
        remedy = "make it readable, or name another folder"
        yield reading(".", root.why, "a readable folder", remedy)
    yield from root_problems(tree)
    if not tree.results:
        found = f"no result below {listing.root.name or listing.root}"
        required = "at least one results/<system>/<benchmark>/<scenario>"
        remedy = "name the folder that holds closed/ or open/"
        yield something(".", found, required, remedy)
    for home in tree.homes:
        yield from home_problems(tree, home)
        for entry in listing.below(home.path):
            yield from entry_problems(tree, entry)


def root_problems(tree: Tree) -> Iterator[Problem]:
    """The root holds the divisions and notes about them, and nothing else."""
    listing = tree.listing
    for name in listing.folders(""):
        if name not in (*DIVISIONS, *BESIDE):
            required = f"one of {', '.join(DIVISIONS)}"
            yield root_rule(name, "a folder", required, "move it out of the tree")
    for name in listing.files(""):
        if not name.endswith((".md", ".pdf")):
            remedy = "move it out of the tree"
            yield root_rule(name, "a file", "only .md and .pdf files", remedy)
    for division in DIVISIONS:
        for name in listing.files(division):
            remedy = "move it into a submitter's folder, or out of the tree"
            path = f"{division}/{name}"
            yield division_rule(path, "a file", "only submitters' folders", remedy)
        if listing.is_folder(division) and not listing.inside[division]:
            yield empty_rule(division, "nothing in it", "files", "remove it")


def home_problems(tree: Tree, home: Home) -> Iterator[Problem]:
    """A submitter has results, in the folders where the round's checker looks."""
    listing, layout = tree.listing, tree.layout
    if not listing.folders(f"{home.path}/results"):
        remedy = "add results, or remove the submitter's folder"
        yield submitter_rule(home.path, "no results", "results/<system>", remedy)
    elsewhere = ("measurements", "compliance") if layout.together else ()
    for name in elsewhere:
        if listing.is_folder(f"{home.path}/{name}"):
            remedy = f"move what is in it to results/: {tree.round.name} keeps it there"
            path = f"{home.path}/{name}"
            yield layout_rule(path, "a folder", "none of that name", remedy)


def entry_problems(tree: Tree, entry: TreeEntry) -> Iterator[Problem]:
    """Yield what is wrong with one file or folder by its name, kind and size."""
    path, name = entry.path, entry.name
    if entry.kind in (EntryKind.BROKEN, EntryKind.OUTSIDE, EntryKind.CYCLE):
        found = f"{entry.kind.value} ({entry.link})"
        yield link_rule(path, found, "a file of the tree", "put the file itself there")
    elif entry.kind is EntryKind.SPECIAL:
        yield link_rule(path, entry.kind.value, "a file or folder", "remove it")
    elif entry.kind is EntryKind.UNREADABLE:
        yield reading(path, entry.why, "readable", "make it readable")
    elif entry.kind is EntryKind.FOLDER and not tree.listing.inside.get(path):
        yield empty_rule(path, "nothing in it", "files", "remove it, or fill it")
    if entry.size > LARGEST:
        found = f"{entry.size:,} bytes"
        required = f"at most {LARGEST:,}"
        yield size_rule(path, found, required, "truncate it, or keep it elsewhere")
    if name.startswith("."):
        yield name_rule(path, "a name that begins with .", "a plain name", "remove it")
    if " " in name or not name.isprintable():
        required = "a name without spaces and control characters"
        yield name_rule(path, repr(name), required, "rename it")
    if name == "__pycache__":
        yield name_rule(path, "compiled Python", "sources alone", "remove the folder")
