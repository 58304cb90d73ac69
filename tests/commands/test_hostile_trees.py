"""Trees that were made to stop, mislead or rob their reader: none does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from pytest_mlperf.commands import main
from pytest_mlperf.core.logs import submitter
from tests.support import trees

PATIENCE_S = 60
SECRET = "token-of-the-reader"  # noqa: S105 - planted to be looked for
Capture = pytest.CaptureFixture[str]
KINDS: dict[str, Callable[[Path, Path], None]] = {
    "pipe": lambda path, _: os.mkfifo(path),
    "socket": lambda path, _: os.mknod(path, stat.S_IFSOCK | 0o600),
    "device": lambda path, _: path.symlink_to("/dev/zero"),
    "outside": lambda path, secret: path.symlink_to(secret),
    "itself": lambda path, _: path.symlink_to(path.name),
    "folder": lambda path, _: path.mkdir(),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission of one result."""
    root = tmp_path_factory.mktemp("whole") / "tree"
    trees.make(root, "v5.1", {"resnet50": ("SingleStream",)})
    (root / "closed" / trees.ORG / "model_mapping.json").write_text("{}")
    return root


@pytest.fixture
def tree(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "tree"))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the reader's own that reads like whatever is wanted."""
    path = tmp_path / "secret"
    path.write_text(json.dumps({"system_type": SECRET, "key": SECRET}) + "\n")
    return path


@contextmanager
def impatient() -> Iterator[None]:
    """Raise ``TimeoutError`` from whatever waits for ever."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"waited {PATIENCE_S} s, signal {number}, {frame}")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read(capsys: Capture, *words: object) -> tuple[int, str]:
    """Return the exit code and everything that a command printed."""
    submitter.read_json.cache_clear()
    with impatient():
        code = main.main([*map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


@pytest.mark.parametrize("kind", ["pipe", "outside"])
def test_whatever_stands_for_a_file_no_command_waits_or_prints_it(
    tree: Path, secret: Path, kind: str, capsys: Capture
) -> None:
    """Every file of a submission in turn, read by ``explain`` and ``submit check``."""
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    leaks = []
    for path in files:
        before = path.read_bytes()
        path.unlink()
        KINDS[kind](path, secret)
        text = read(capsys, "explain", tree)[1]
        text += read(capsys, "submit", "check", tree, "--all")[1]
        leaks += [line for line in text.splitlines() if SECRET in line]
        path.unlink()
        path.write_bytes(before)

    assert len(files) > 10
    assert leaks == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_that_is_no_file_is_an_error(
    tree: Path, secret: Path, kind: str, capsys: Capture
) -> None:
    """Not a run that is passed over."""
    log = next(tree.glob("closed/*/results/**/run_1/mlperf_log_detail.txt"))
    log.unlink()
    KINDS[kind](log, secret)
    code, text = read(capsys, "explain", log.parent)

    assert code == 2
    assert "mlperf_log_detail.txt" in text


def test_a_description_that_is_a_pipe_is_read_past(tree: Path, capsys: Capture) -> None:
    """The run is judged; that the description is none is the submission check's."""
    (path,) = tree.glob(f"closed/*/systems/{trees.SYSTEM}.json")
    path.unlink()
    os.mkfifo(path)
    run = next(tree.glob("closed/*/results/**/run_1"))

    assert read(capsys, "explain", run)[0] == 0
    code, text = read(capsys, "submit", "check", tree)
    assert code == 1
    assert "no regular file" in text


def test_a_link_to_a_folder_outside_is_named_and_not_followed(
    tree: Path, tmp_path: Path, capsys: Capture
) -> None:
    """It could be the whole disk, or somebody else's runs."""
    run = next(tree.glob("closed/*/results/**/run_1"))
    run.rename(tmp_path / "elsewhere")
    run.symlink_to(tmp_path / "elsewhere")
    code, text = read(capsys, "explain", tree)

    assert code == 2
    assert "leaves the tree" in text
    assert read(capsys, "explain", run)[0] == 0


def test_a_link_to_the_root_of_the_disk_ends(tree: Path, capsys: Capture) -> None:
    """Nothing of it is listed."""
    (tree / "closed" / "everything").symlink_to("/")
    code, text = read(capsys, "explain", tree)

    assert code == 2
    assert "leaves the tree" in text


def test_a_seal_is_not_written_through_a_link(
    tree: Path, tmp_path: Path, capsys: Capture
) -> None:
    """What it leads to is somebody else's file."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    seal = tree / "closed" / trees.ORG / "documentation" / "sha256sums.txt"
    seal.symlink_to(mine)
    code, text = read(capsys, "submit", "seal", tree)

    assert code == 2
    assert "a link where the seal belongs" in text
    assert mine.read_text() == "mine"
