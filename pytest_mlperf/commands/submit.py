"""``pytest-mlperf submit``: check, seal and pack a submission tree."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from pytest_mlperf.commands.explain import a_round
from pytest_mlperf.core import rounds
from pytest_mlperf.core.submission import check
from pytest_mlperf.core.submission import seal
from pytest_mlperf.core.submission.check import Problem
from pytest_mlperf.core.submission.check import Tree
from pytest_mlperf.core.submission.layout import DIVISIONS
from pytest_mlperf.submission import checkers
from pytest_mlperf.submission import encryption
from pytest_mlperf.submission import pack

CLEAN, WRONG, IMPOSSIBLE = 0, 1, 2
"""Exit codes: no problem, problems, nothing that can be checked or packed."""
SHOWN = 20
"""Problems of one rule that are printed; --all prints the others too."""


class Impossible(Exception):
    """Why there is nothing to do: what was found, and what to do."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the command's actions and their arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    declare: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
        "check": ("find what a tree cannot be submitted with", add_check),
        "pack": ("make one file of a tree, encrypted if wanted", add_pack),
        "seal": ("write the sha256 of every file into the tree", add_part),
    }
    for name, (text, function) in declare.items():
        function(actions.add_parser(name, help=text, description=text))


def add_tree(parser: argparse.ArgumentParser) -> None:
    """Declare the tree."""
    text = "the folder that holds closed/, open/ or network/"
    parser.add_argument("tree", type=Path, metavar="TREE", help=text)


def add_part(parser: argparse.ArgumentParser) -> None:
    """Declare the tree, or one submitter's part of it."""
    add_tree(parser)
    parser.add_argument("--division", choices=DIVISIONS, help="this division alone")
    parser.add_argument("--submitter", metavar="ORG", help="this submitter alone")


def add_check(parser: argparse.ArgumentParser) -> None:
    add_part(parser)
    parser.add_argument("--round", type=a_round, metavar="ROUND",
                        help=f"the tree's round ({', '.join(rounds.ROUNDS)}); "
                        "otherwise the logs' seeds tell")  # fmt: skip
    parser.add_argument("--checker", type=Path, metavar="DIR",
                        help="a clone of mlcommons/inference: run its submission "
                        "checker too")  # fmt: skip
    parser.add_argument("--all", action="store_true",
                        help=f"print every problem, not {SHOWN} a rule")  # fmt: skip
    parser.add_argument("--json", action="store_true",
                        help="print one JSON object with every problem")  # fmt: skip


def add_pack(parser: argparse.ArgumentParser) -> None:
    add_tree(parser)
    text = "the tree's round; otherwise the logs' seeds tell"
    parser.add_argument("--round", type=a_round, metavar="ROUND", help=text)
    text = "the archive (default: beside the tree, by its name)"
    parser.add_argument("--output", type=Path, metavar="FILE", help=text)
    parser.add_argument("--encrypt", action="store_true",
                        help="encrypt by AES-256 with openssl; the password is asked "
                        f"for, or taken from ${encryption.VARIABLE}")  # fmt: skip
    text = "its first line is the password; implies --encrypt"
    parser.add_argument("--password-file", type=Path, metavar="FILE", help=text)
    text = "pack a tree with problems too, and list them in it"
    parser.add_argument("--force", action="store_true", help=text)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked and return the exit code."""
    actions = {"check": run_check, "pack": run_pack, "seal": run_seal}
    try:
        return actions[arguments.action](arguments)
    except (Impossible, pack.PackError, encryption.CipherError, OSError) as error:
        print_line(f"pytest-mlperf submit {arguments.action}: {error}", error=True)
        return IMPOSSIBLE


def opened(arguments: argparse.Namespace) -> tuple[Tree, list[Problem]]:
    """Return the tree and all its problems; ``Impossible`` where there is none."""
    root: Path = arguments.tree
    if not root.is_dir():
        what = "no folder" if root.exists() else "no such folder"
        raise Impossible(f"{root}: {what}; name the folder that holds closed/ or open/")
    tree, problems = check.read(
        root,
        getattr(arguments, "round", None),
        # Packing takes the whole tree, and has the whole of it checked.
        division=getattr(arguments, "division", None),
        submitter=getattr(arguments, "submitter", None),
    )
    return tree, problems


def problems_of(tree: Tree, known: Sequence[Problem]) -> list[Problem]:
    """Return everything that is wrong with a tree, in order of paths."""
    found = [*known, *check.tree_problems(tree)]
    for result in tree.results:
        found += check.result_problems(tree, result)
    return sorted(set(found), key=lambda p: (p.path, p.line, p.rule, p.found))


def run_check(arguments: argparse.Namespace) -> int:
    """Check a tree and print what was found."""
    tree, known = opened(arguments)
    problems = problems_of(tree, known)
    said: list[str] = []
    good = True
    if arguments.checker:
        root, name = arguments.tree, tree.round.name
        said, good = checkers.official(root, name, arguments.checker)
    if arguments.json:
        record = {
            "tree": str(arguments.tree),
            "round": tree.round.name,
            "results": len(tree.results),
            "problems": [asdict(problem) for problem in problems],
            "official": {"lines": said, "content": good} if said else None,
        }
        print_line(json.dumps(record, indent=1))
    else:
        most = len(problems) if arguments.all else SHOWN
        for line in [*lines(problems, most), *said, summary(tree, problems)]:
            print_line(line)
    return WRONG if problems or not good else CLEAN


def lines(problems: Sequence[Problem], most: int) -> list[str]:
    """Return the problems for people, rule by rule, with the rarest last."""
    groups = [
        list(group) for _, group in groupby(sorted(problems, key=by_rule), key=by_rule)
    ]
    found = []
    for group in sorted(groups, key=len, reverse=True):
        found.append(f"{group[0].rule} ({len(group)})")
        found += [f"  {one.where}: {one.text}" for one in group[:most]]
        if len(group) > most:
            found.append(f"  … and {len(group) - most} more: --all prints them")
    return found


def by_rule(problem: Problem) -> str:
    return problem.rule


def summary(tree: Tree, problems: Sequence[Problem]) -> str:
    """Return the last line: how much was checked, and the outcome."""
    count, wrong = len(tree.results), len(problems)
    text = f"{count} result{'s' * (count != 1)} checked as {tree.round.name}: "
    return text + (f"{wrong} problem{'s' * (wrong != 1)}" if wrong else "no problem")


def run_pack(arguments: argparse.Namespace) -> int:
    """Check a tree and pack it."""
    tree, known = opened(arguments)
    problems = problems_of(tree, known)
    if problems and not arguments.force:
        for line in [*lines(problems, SHOWN), summary(tree, problems)]:
            print_line(line)
        print_line("not packed: correct the tree, or pack it as it is with --force")
        return WRONG
    encrypt = arguments.encrypt or arguments.password_file is not None
    root = arguments.tree.resolve()
    label = "-with-problems" if problems else ""
    name = f"{root.name}{label}.tar.gz{'.enc' * encrypt}"
    output = arguments.output or root.with_name(name)
    password = encryption.password_of(arguments.password_file) if encrypt else None
    text = "".join(f"- {problem}\n" for problem in problems)
    if text:
        text = f"# Packed with problems\n\n{summary(tree, problems)}\n\n{text}"
    packed = pack.pack(root, output, password=password, problems=text)
    for line in (
        f"{packed.path}: {packed.files} files, read back and compared",
        f"sha1    {packed.sha1}",
        f"sha256  {packed.sha256}",
        f"unpack with: {packed.command}",
    ):
        print_line(line)
    if problems:
        print_line(f"packed with problems: {summary(tree, problems)}; PROBLEMS.md")
    return CLEAN


def run_seal(arguments: argparse.Namespace) -> int:
    """Write the seal of every submitter's folder anew."""
    tree, _ = opened(arguments)
    if not tree.homes:
        raise Impossible(f"{arguments.tree}: no submitter's folder in it")
    for home in tree.homes:
        print_line(f"sealed: {seal.write(tree.listing, home.path)}")
    return CLEAN


def print_line(text: str, *, error: bool = False) -> None:
    """Print a line that any terminal's encoding can carry."""
    out = sys.stderr if error else sys.stdout
    encoding = out.encoding or "utf-8"
    out.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
