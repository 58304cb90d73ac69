"""The help of every command: examples that work, statuses, lines that fit."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mlperf.commands.main import list_commands
from pytest_mlperf.commands.main import main
from pytest_mlperf.commands.main import make_parser
from pytest_mlperf.commands.shared.examples import EXAMPLES

COLUMNS = 80


def list_parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parser of every command and of every action of one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield one
                yield from list_parsers(one)


@pytest.fixture(scope="module")
def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command and action, by its words."""
    whole, _ = make_parser(list_commands())
    return {one.prog.partition(" ")[2]: one for one in list_parsers(whole)}


def test_every_command_that_does_something_has_examples(
    parsers: dict[str, argparse.ArgumentParser],
) -> None:
    """A command with actions leaves them to its actions; no row is of no command."""
    acting = {name for name, one in parsers.items() if one._subparsers is None}

    assert acting == set(EXAMPLES)
    assert len(acting) > 20


@pytest.mark.parametrize(
    "line", [f"{name} {one}" for name, (lines, _) in EXAMPLES.items() for one in lines]
)
def test_an_example_is_taken(line: str) -> None:
    """Options and values are read as the user's would be."""
    words = shlex.split(line)
    parser, _ = make_parser(words[:1])

    assert parser.parse_args(words).command == words[0]


def test_help_fits_a_terminal(
    parsers: dict[str, argparse.ArgumentParser], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has no sign of argparse's own formatting left."""
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    for name, parser in parsers.items():
        text = parser.format_help()
        assert [line for line in text.splitlines() if len(line) > COLUMNS] == [], name
        assert "%" not in text.replace("95 %", ""), name
        assert text.count("--mlperf-batch") <= 1, name


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("dta status", "data"),
        ("data sttus", "status"),
        ("explain --rounds v6.1 run_1", "--round"),
        ("tune peak bert-99-server --mlperf-batc 1", "--mlperf-batch"),
        ("data status brt", "bert"),
        ("explain --benchmark brt run_1", "bert"),
        ("explain --scenario sver run_1", "server"),
    ],
)
def test_a_typo_is_refused_with_what_was_meant(
    line: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also an abbreviation: the next release may have two options that begin so."""
    try:
        code = main(line.split())
    except SystemExit as ended:
        code = int(str(ended.code))

    assert code == 2
    assert f"Did you mean {meant!r}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("data status --scratch {0}/no bert", "{0}/no: no such folder; correct --scr"),
        ("report csv {0}/no", "{0}/no: no such file; name a session's reports folder"),
        ("report compare {0}/no {0}/no", "{0}/no: no such file; name sessions'"),
        ("report compare a b --fail-below x", "'x', but should be a share above 0"),
        ("report compare a b --fail-below 95", "'95', but should be a share above 0"),
        ("explain --round 7 run_1", "'7', but should be one of v1.0, v1.1"),
        ("serve bert --streams 2", "'2', but should be streams x threads of each"),
        ("serve bert --workload official", "or --scratch to a folder with"),
        ("machine --rate 7", "--rate, --link and --end are of --proof BENCHMARK"),
        ("tune grid {0}/no", "{0}/no: No such file or directory; correct the path"),
        ("triton export resnet50 --to {0}/file", "Not a directory; correct the path"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(
    line: str,
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was found, what it should be, where, and what to do."""
    monkeypatch.delenv("MLPERF_SCRATCH_PATH", raising=False)
    (tmp_path / "file").touch()
    try:
        code = main(line.format(tmp_path).split())
    except SystemExit as ended:
        code = int(str(ended.code))

    assert code == 2
    assert text.format(tmp_path) in capsys.readouterr().err


def test_files_without_a_scratch_folder_are_not_merely_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody said where to look; a list of missing files would mislead."""
    monkeypatch.delenv("MLPERF_SCRATCH_PATH", raising=False)

    assert main(["data", "status", "bert"]) == 1
    assert capsys.readouterr().out.startswith("no scratch folder is named")
