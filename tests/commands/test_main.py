"""The commands are the modules of one folder."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pytest_mlperf import commands
from pytest_mlperf.commands.main import list_commands
from pytest_mlperf.commands.main import main


def test_a_file_in_the_folder_is_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing else declares it; sub-packages with helpers are no commands."""
    (tmp_path / "greet.py").write_text(
        'HELP = "greet somebody"\n'
        "def add_arguments(parser):\n"
        '    parser.add_argument("name")\n'
        "def run(arguments):\n"
        '    print(f"hello {arguments.name}")\n'
        "    return 7\n"
    )
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])

    assert main(["greet", "you"]) == 7
    assert capsys.readouterr().out == "hello you\n"
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "greet somebody" in capsys.readouterr().out
    assert not {"main", "shared", "explanation"} & set(list_commands())


def test_without_a_word_the_commands_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With what each does."""
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert [name for name in list_commands() if name not in shown] == []


def test_a_command_does_not_import_the_others() -> None:
    """Their imports would only delay it."""
    code = (
        "import sys; from pytest_mlperf.commands.main import main\n"
        "try: main(['explain', '--help'])\n"
        "except SystemExit: pass\n"
        "print([n for n in ('machine', 'submit')"
        " if f'pytest_mlperf.commands.{n}' in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert ended.stdout.endswith("[]\n")


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug report begins with it."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])

    assert caught.value.code == 0
    assert capsys.readouterr().out == f"pytest-mlperf {version('pytest-mlperf')}\n"
