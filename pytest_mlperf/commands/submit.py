"""``pytest-mlperf submit``: check, seal and pack a submission tree."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from pytest_mlperf.commands.shared.arguments import parse_round
from pytest_mlperf.commands.shared.output import print_text
from pytest_mlperf.core import rounds
from pytest_mlperf.core.submission import check
from pytest_mlperf.core.submission import seal
from pytest_mlperf.core.submission.check import Problem
from pytest_mlperf.core.submission.check import Tree
from pytest_mlperf.core.submission.layout import DIVISIONS
from pytest_mlperf.submission import checkers
from pytest_mlperf.submission import encryption
from pytest_mlperf.submission import pack

HELP = "check and pack a submission tree"
CLEAN, WRONG, IMPOSSIBLE = 0, 1, 2
"""Exit codes: no problem, problems, nothing to check or pack."""
SHOWN = 20
"""Most problems of one rule that are printed; --all prints the others too."""


class Impossible(Exception):
    """There is nothing to check or pack; the text says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    declare: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
        "check": ("find what a tree cannot be submitted with", add_check),
        "pack": ("make one file of a tree, encrypted if wanted", add_pack),
        "seal": ("write the sha256 of every file into the tree", add_part),
    }
    for name, (text, function) in declare.items():
        function(actions.add_parser(name, help=text, description=text))


def add_tree(parser: argparse.ArgumentParser) -> None:
    text = "the folder that holds closed/, open/ or network/"
    parser.add_argument("tree", type=Path, metavar="TREE", help=text)


def add_part(parser: argparse.ArgumentParser) -> None:
    add_tree(parser)
    parser.add_argument("--division", choices=DIVISIONS, help="this division alone")
    parser.add_argument("--submitter", metavar="ORG", help="this submitter alone")


def add_check(parser: argparse.ArgumentParser) -> None:
    add_part(parser)
    parser.add_argument("--round", type=parse_round, metavar="ROUND",
                        help=f"the tree's round ({', '.join(rounds.ROUNDS)}); "
                        "otherwise the logs' seeds decide")  # fmt: skip
    parser.add_argument("--checker", type=Path, metavar="DIR",
                        help="a clone of mlcommons/inference: run its submission "
                        "checker too")  # fmt: skip
    parser.add_argument("--all", action="store_true",
                        help=f"print every problem, not {SHOWN} a rule")  # fmt: skip
    parser.add_argument("--json", action="store_true",
                        help="print one JSON object with every problem")  # fmt: skip


def add_pack(parser: argparse.ArgumentParser) -> None:
    add_tree(parser)
    text = "the tree's round; otherwise the logs' seeds decide"
    parser.add_argument("--round", type=parse_round, metavar="ROUND", help=text)
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
    """Carry out the action and return the exit code."""
    actions = {"check": run_check, "pack": run_pack, "seal": run_seal}
    try:
        return actions[arguments.action](arguments)
    except (Impossible, pack.PackError, encryption.CipherError, OSError) as error:
        print_text(f"pytest-mlperf submit {arguments.action}: {error}", error=True)
        return IMPOSSIBLE


def open_tree(arguments: argparse.Namespace) -> tuple[Tree, list[Problem]]:
    """Return the tree and the problems of reading it; raises ``Impossible``."""
    root: Path = arguments.tree
    if not root.is_dir():
        what = "no folder" if root.exists() else "no such folder"
        raise Impossible(f"{root}: {what}; name the folder that holds closed/ or open/")
    tree, problems = check.read_tree(
        root,
        getattr(arguments, "round", None),
        # Packing takes the whole tree, and checks all of it.
        division=getattr(arguments, "division", None),
        submitter=getattr(arguments, "submitter", None),
    )
    return tree, problems


def find_problems(tree: Tree, known: Sequence[Problem]) -> list[Problem]:
    """Return all problems of a tree, in order of paths."""
    problems = [*known, *check.tree_problems(tree)]
    for result in tree.results:
        problems += check.result_problems(tree, result)
    return sorted(set(problems), key=lambda p: (p.path, p.line, p.rule, p.found))


def run_check(arguments: argparse.Namespace) -> int:
    """Check a tree and print its problems."""
    tree, known = open_tree(arguments)
    problems = find_problems(tree, known)
    official: list[str] = []
    is_content = True
    if arguments.checker:
        root, name = arguments.tree, tree.round.name
        official, is_content = checkers.run_official(root, name, arguments.checker)
    if arguments.json:
        record = {
            "tree": str(arguments.tree),
            "round": tree.round.name,
            "results": len(tree.results),
            "problems": [asdict(problem) for problem in problems],
            "official": {"lines": official, "content": is_content}
            if official
            else None,
        }
        print_text(json.dumps(record, indent=1))
    else:
        most = len(problems) if arguments.all else SHOWN
        for line in [
            *format_problems(problems, most),
            *official,
            format_summary(tree, problems),
        ]:
            print_text(line)
    return WRONG if problems or not is_content else CLEAN


def format_problems(problems: Sequence[Problem], most: int) -> list[str]:
    """Return the problems for people, rule by rule, the rarest last."""
    by_rule = attrgetter("rule")
    groups = [
        list(group) for _, group in groupby(sorted(problems, key=by_rule), key=by_rule)
    ]
    lines = []
    for group in sorted(groups, key=len, reverse=True):
        lines.append(f"{group[0].rule} ({len(group)})")
        lines += [f"  {one.where}: {one.text}" for one in group[:most]]
        if len(group) > most:
            lines.append(f"  … and {len(group) - most} more: --all prints them")
    return lines


def format_summary(tree: Tree, problems: Sequence[Problem]) -> str:
    """Return the last line: the number of results, and the outcome."""
    count, wrong = len(tree.results), len(problems)
    text = f"{count} result{'s' * (count != 1)} checked as {tree.round.name}: "
    return text + (f"{wrong} problem{'s' * (wrong != 1)}" if wrong else "no problem")


def run_pack(arguments: argparse.Namespace) -> int:
    """Check a tree and pack it."""
    tree, known = open_tree(arguments)
    problems = find_problems(tree, known)
    if problems and not arguments.force:
        for line in [*format_problems(problems, SHOWN), format_summary(tree, problems)]:
            print_text(line)
        print_text("not packed: correct the tree, or pack it as it is with --force")
        return WRONG
    encrypt = arguments.encrypt or arguments.password_file is not None
    root = arguments.tree.resolve()
    label = "-with-problems" if problems else ""
    name = f"{root.name}{label}.tar.gz{'.enc' * encrypt}"
    output = arguments.output or root.with_name(name)
    password = encryption.get_password(arguments.password_file) if encrypt else None
    text = "".join(f"- {problem}\n" for problem in problems)
    if text:
        text = f"# Packed with problems\n\n{format_summary(tree, problems)}\n\n{text}"
    packed = pack.pack_tree(
        root, output, password=password, problems=text, listing=tree.listing
    )
    for line in (
        f"{packed.path}: {packed.files} files, read back and compared",
        f"sha1    {packed.sha1}",
        f"sha256  {packed.sha256}",
        f"unpack with: {packed.command}",
    ):
        print_text(line)
    if problems:
        print_text(
            f"packed with problems: {format_summary(tree, problems)}; PROBLEMS.md"
        )
    return CLEAN


def run_seal(arguments: argparse.Namespace) -> int:
    """Write the seal of every submitter's folder."""
    tree, _ = open_tree(arguments)
    if not tree.homes:
        raise Impossible(f"{arguments.tree}: no submitter's folder in it")
    for home in tree.homes:
        print_text(f"sealed: {seal.write_seal(tree.listing, home.path)}")
    return CLEAN
