"""``pytest-mlperf submit``: what it prints, what it writes, how it exits."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from pytest_mlperf.commands.main import main
from pytest_mlperf.core.submission import seal
from pytest_mlperf.submission import encryption
from tests.support import trees

NOTES = "closed/ACME/documentation/calibration.md"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission that nothing is wrong with: bert-99, edge, v6.1."""
    both = {"bert": ("SingleStream", "Offline")}
    return trees.make(tmp_path_factory.mktemp("trees") / "v6.1", "v6.1", both)


@pytest.fixture
def tree(original: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(original, tmp_path / "mine"))


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    """Return exit code and output of the command."""
    code = main(["submit", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_good_tree_exits_0_and_says_how_much_was_checked(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line counts the results."""
    code, text = said(capsys, "check", tree)

    assert code == 0
    assert text == "2 results checked as v6.1: no problem\n"


def test_a_tree_with_problems_exits_1_and_says_them(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its file, what it should be and the remedy."""
    (tree / NOTES).write_bytes(b"")
    code, text = said(capsys, "check", tree)

    assert code == 1
    assert f"{NOTES}: calibration: found an empty file, should be a text file" in text
    assert text.endswith("2 results checked as v6.1: 1 problem\n")


def test_json_has_every_problem(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For another program: path, rule, found, required, remedy and line."""
    (tree / NOTES).write_bytes(b"")
    code, text = said(capsys, "check", tree, "--json")
    found = json.loads(text)

    assert code == 1
    assert found["results"] == 2
    assert [(p["path"], p["rule"], p["line"]) for p in found["problems"]] == [
        (NOTES, "calibration", 0)
    ]


def test_many_problems_of_a_rule_are_counted(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first 20 are printed, and all with --all."""
    for number in range(30):
        (tree / f"notes-{number:02}.txt").write_text("x", "utf-8")
    _, short = said(capsys, "check", tree)
    _, long = said(capsys, "check", tree, "--all")

    assert "root (30)" in short
    assert "and 10 more: --all prints them" in short
    assert short.count("notes-") == 20
    assert long.count("notes-") == 30


@pytest.mark.parametrize("action", ["check", "pack", "seal"])
@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_what_is_no_folder_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str, name: str
) -> None:
    """The words say which folder is meant."""
    (tmp_path / "file").write_text("x", "utf-8")
    code, text = said(capsys, action, tmp_path / name)

    assert code == 2
    assert "name the folder that holds closed/ or open/" in text


def test_an_empty_folder_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gate that finds nothing fails."""
    code, text = said(capsys, "check", tmp_path)

    assert code == 1
    assert "something_to_check" in text


def test_an_official_checker_that_is_not_there_exits_1(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Our own check goes on, and the words say what to give."""
    code, text = said(capsys, "check", tree, "--checker", tmp_path)

    assert code == 1
    assert "clone of mlcommons/inference" in text
    assert "no problem" in text


def test_an_official_checker_that_finds_nothing_is_not_content(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It calls an empty tree fine; no result is no success."""
    script = tmp_path / "submission_checker.py"
    script.write_text("print('INFO] SUMMARY: submission looks OK')\n", "utf-8")
    code, text = said(capsys, "check", tree, "--checker", tmp_path)

    assert code == 1
    assert "SUMMARY: submission looks OK" in text
    assert "0 results" in text


def test_packing_writes_the_archive_and_its_digests(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the tree, with the command that unpacks it."""
    code, text = said(capsys, "pack", tree)

    assert code == 0
    assert {path.name for path in tree.parent.iterdir()} == {
        "mine",
        "mine.tar.gz",
        "mine.tar.gz.sha1",
        "mine.tar.gz.sha256",
    }
    assert "unpack with: tar xzf mine.tar.gz" in text


def test_packing_takes_no_part_of_a_tree(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it is packed; a part alone that is checked would hide the rest."""
    with pytest.raises(SystemExit) as ended:
        said(capsys, "pack", tree, "--division", "open")

    assert ended.value.code == 2


def test_the_command_that_unpacks_is_fit_for_a_shell(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name with a blank is quoted."""
    _, text = said(capsys, "pack", tree, "--output", tree.parent / "my file.tgz")

    assert "unpack with: tar xzf 'my file.tgz'" in text


def test_a_tree_with_problems_is_not_packed(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless it is forced; then the archive says so in its name and inside."""
    (tree / NOTES).write_bytes(b"")
    code, text = said(capsys, "pack", tree)
    left = sorted(path.name for path in tree.parent.iterdir())
    forced, told = said(capsys, "pack", tree, "--force")
    with tarfile.open(tree.with_name("mine-with-problems.tar.gz")) as archive:
        inside = archive.extractfile("mine/PROBLEMS.md")
        assert inside is not None
        listed = inside.read().decode()

    assert (code, forced) == (1, 0)
    assert "not packed: correct the tree" in text
    assert left == ["mine"]
    assert "packed with problems" in told
    assert NOTES in listed


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl encrypts")
def test_encrypting_prints_what_a_person_types_to_decrypt(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password is in no line of it."""
    monkeypatch.setenv(encryption.VARIABLE, "open-sesame")
    code, text = said(capsys, "pack", tree, "--encrypt")
    command = text.splitlines()[-1].removeprefix("unpack with: ")
    there = tree.parent / "there"
    there.mkdir()
    (tree.parent / "mine.tar.gz.enc").rename(there / "mine.tar.gz.enc")
    command = command.replace("-in", "-pass stdin -in")
    subprocess.run(["sh", "-c", command], cwd=there, input=b"open-sesame\n", check=True)

    assert code == 0
    assert "open-sesame" not in text
    assert (there / "mine" / NOTES).is_file()


def test_encrypting_without_a_password_or_terminal_exits_2(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words name the ways to give one."""
    monkeypatch.delenv(encryption.VARIABLE, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    code, text = said(capsys, "pack", tree, "--encrypt")

    assert code == 2
    assert "--password-file FILE or $MLPERF_PACK_PASSWORD" in text


def test_a_changed_note_is_found_until_the_tree_is_sealed_again(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person's own correction is accepted by sealing, which sha256sum reads."""
    said(capsys, "seal", tree)
    (tree / NOTES).write_text("# Changed\n", "utf-8")
    before, text = said(capsys, "check", tree)
    said(capsys, "seal", tree)
    after, _ = said(capsys, "check", tree)
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", seal.FILE],
        cwd=tree / "closed/ACME",
        capture_output=True,
        check=False,
    )

    assert (before, after) == (1, 0)
    assert f"{NOTES}: seal: " in text
    assert done.returncode == 0
