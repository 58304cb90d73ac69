"""Packing a submission: the same bytes each time, and what openssl alone opens."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.submission import encryption
from pytest_mlperf.submission.pack import PackError
from pytest_mlperf.submission.pack import pack_tree

PASSWORD = 'correct horse $battery "staple" \'ä'.encode()
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl encrypts; install it"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with a deep name, a binary and a program."""
    root = tmp_path / "submission"
    long = root / "closed/ACME" / ("a" * 120) / ("b" * 120)
    long.mkdir(parents=True)
    (long / "notes.md").write_text("notes\n", "utf-8")
    (root / "closed/ACME/binary").write_bytes(bytes(range(256)) * 5000)
    program = root / "closed/ACME/run.sh"
    program.write_text("#!/bin/sh\n", "utf-8")
    program.chmod(0o755)
    return root


def contents(root: Path) -> dict[str, str]:
    """Return path -> digest of every file below a folder."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_tree_unpacks_as_it_was(tree: Path, tmp_path: Path) -> None:
    """Every file with its content and whether it runs, below the tree's name."""
    packed = pack_tree(tree, tmp_path / "a.tar.gz")
    there = tmp_path / "there"
    there.mkdir()
    subprocess.run(["tar", "xzf", packed.path, "-C", there], check=True)

    assert contents(tree) == contents(there / "submission")
    assert packed.files == 3
    assert os.access(there / "submission/closed/ACME/run.sh", os.X_OK)
    assert not os.access(there / "submission/closed/ACME/binary", os.X_OK)


def test_packing_twice_gives_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    """Neither time nor owner nor the archive's name is in it."""
    first = pack_tree(tree, tmp_path / "a.tar.gz")
    for path in tree.rglob("*"):
        os.utime(path, (1, 1))
    second = pack_tree(tree, tmp_path / "another.tar.gz")

    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.sha256 == second.sha256


@pytest.mark.parametrize("name", ["sha1", "sha256"])
def test_the_digests_are_what_the_tools_of_that_name_read(
    tree: Path, tmp_path: Path, name: str
) -> None:
    """``sha1sum -c`` and ``sha256sum -c`` are content beside the archive."""
    packed = pack_tree(tree, tmp_path / "a.tar.gz")
    done = subprocess.run(
        [f"{name}sum", "-c", f"a.tar.gz.{name}"], cwd=tmp_path, check=False
    )

    assert done.returncode == 0
    assert hashlib.new(name, packed.path.read_bytes()).hexdigest() == getattr(
        packed, name
    )


@needs_openssl
def test_openssl_alone_opens_an_encrypted_archive(tree: Path, tmp_path: Path) -> None:
    """The printed command unpacks it, with the password typed at its prompt."""
    packed = pack_tree(tree, tmp_path / "a.tar.gz.enc", password=PASSWORD)
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy(packed.path, there)
    command = packed.command.replace("-in", "-pass stdin -in")
    subprocess.run(["sh", "-c", command], cwd=there, input=PASSWORD + b"\n", check=True)

    assert contents(tree) == contents(there / "submission")


@needs_openssl
def test_an_encrypted_archive_shows_nothing_of_the_tree(
    tree: Path, tmp_path: Path
) -> None:
    """A wrong password opens nothing, and two archives of one tree differ."""
    packed = pack_tree(tree, tmp_path / "a.tar.gz.enc", password=PASSWORD)
    again = pack_tree(tree, tmp_path / "b.tar.gz.enc", password=PASSWORD)
    done = subprocess.run(
        ["openssl", "enc", "-d", *encryption.HOW, "-in", packed.path, "-pass", "stdin"],
        input=b"wrong\n",
        capture_output=True,
        check=False,
    )

    assert packed.sha256 != again.sha256
    assert not done.stdout.startswith(b"\x1f\x8b")
    assert not tarfile.is_tarfile(packed.path)


@needs_openssl
def test_the_password_is_nowhere_but_in_the_pipe(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not among openssl's arguments, and not in the environment it is given."""
    program = tmp_path / "bin/openssl"
    program.parent.mkdir()
    real = shutil.which("openssl")
    seen = tmp_path / "seen"
    text = f'#!/bin/sh\necho "$@" >> {seen}\nenv >> {seen}\nexec {real} "$@"\n'
    program.write_text(text, "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv(encryption.VARIABLE, "only-in-here")
    pack_tree(tree, tmp_path / "a.tar.gz.enc", password=encryption.get_password(None))

    assert "aes-256-cbc" in seen.read_text("utf-8")
    assert "only-in-here" not in seen.read_text("utf-8")


def test_without_openssl_the_error_names_it(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left behind."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(PackError, match="no openssl on this machine: install it"):
        pack_tree(tree, tmp_path / "a.tar.gz.enc", password=PASSWORD)
    assert os.listdir(tmp_path) == ["submission"]  # noqa: PTH208


@needs_openssl
def test_an_openssl_that_fails_leaves_nothing(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own words are in the error."""
    program = tmp_path / "bin/openssl"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no such cipher >&2\nexit 1\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    with pytest.raises(PackError, match="openssl ended with 1: no such cipher"):
        pack_tree(tree, tmp_path / "a.tar.gz.enc", password=PASSWORD)
    assert {path.name for path in tmp_path.iterdir()} == {"submission", "bin"}


@pytest.mark.parametrize("target", ["/etc/hostname", "../../outside", "nowhere", "."])
def test_a_link_that_is_no_file_of_the_tree_is_refused(
    tree: Path, tmp_path: Path, target: str
) -> None:
    """Out of the tree, to nothing, or in a circle: the error names the link."""
    (tmp_path / "outside").write_text("secret", "utf-8")
    (tree / "closed/odd").symlink_to(target)

    with pytest.raises(PackError, match="closed/odd: a link"):
        pack_tree(tree, tmp_path / "a.tar.gz")


def test_a_link_inside_the_tree_is_packed_as_its_file(
    tree: Path, tmp_path: Path
) -> None:
    """So that it unpacks anywhere."""
    (tree / "closed/copy").symlink_to("ACME/run.sh")
    packed = pack_tree(tree, tmp_path / "a.tar.gz")
    with tarfile.open(packed.path) as archive:
        info = archive.getmember("submission/closed/copy")

    assert info.isreg()
    assert info.size == 10


@pytest.mark.parametrize("name", ["closed/ACME/binary", "closed/ACME"])
def test_what_becomes_a_link_after_the_check_is_not_followed(
    tree: Path, tmp_path: Path, name: str
) -> None:
    """The file itself, or a folder above it."""
    listing = Listing.of(tree)
    outside = tmp_path / "outside"
    (tree / name).rename(outside)
    (tree / name).symlink_to(outside)

    with pytest.raises(PackError, match=r"closed/ACME/.*leaves the tree"):
        pack_tree(tree, tmp_path / "a.tar.gz", listing=listing)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "submission"]


def test_a_file_that_was_replaced_after_the_check_is_not_packed(
    tree: Path, tmp_path: Path
) -> None:
    """What was checked is what is packed."""
    listing = Listing.of(tree)
    (tree / "closed/ACME/other").write_bytes(bytes(range(256)) * 5000)
    (tree / "closed/ACME/other").rename(tree / "closed/ACME/binary")

    with pytest.raises(PackError, match="closed/ACME/binary: changed since"):
        pack_tree(tree, tmp_path / "a.tar.gz", listing=listing)


def test_no_link_is_followed_however_fast_it_comes_and_goes(
    tree: Path, tmp_path: Path
) -> None:
    """A file that is a link and a file by turns, while archives are made of it."""
    secret, place = tmp_path / "secret", tree / "closed/ACME/run.sh"
    secret.write_text("token-of-the-packer\n", "utf-8")
    shutil.copy2(place, tmp_path / "plain")
    is_over = threading.Event()

    def alternate() -> None:
        while not is_over.is_set():
            (tmp_path / "link").symlink_to(secret)
            (tmp_path / "link").replace(place)
            shutil.copy2(tmp_path / "plain", tmp_path / "copy")
            (tmp_path / "copy").replace(place)

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        for number in range(15):
            with contextlib.suppress(PackError):
                packed = pack_tree(tree, tmp_path / f"{number}.tar.gz")
                assert b"token" not in gzip.decompress(packed.path.read_bytes())
    finally:
        is_over.set()
        thread.join()


def test_a_pipe_is_refused(tree: Path, tmp_path: Path) -> None:
    """It would never end."""
    os.mkfifo(tree / "closed/pipe")

    with pytest.raises(PackError, match="closed/pipe: no regular file"):
        pack_tree(tree, tmp_path / "a.tar.gz")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("submission/a.tar.gz", "inside the tree"),
        ("submission/../taken", "exists; remove it"),
        ("nowhere/a.tar.gz", "no such folder"),
    ],
)
def test_an_archive_is_not_written_just_anywhere(
    tree: Path, tmp_path: Path, output: str, words: str
) -> None:
    """Not into the tree, not over a file, not into a folder that is not there."""
    (tmp_path / "taken").write_text("mine", "utf-8")

    with pytest.raises(PackError, match=words):
        pack_tree(tree, tmp_path / output)
    assert (tmp_path / "taken").read_text("utf-8") == "mine"


@pytest.mark.parametrize("name", ["a.tar.gz.sha1", "a.tar.gz.sha256"])
def test_a_sum_that_cannot_be_written_leaves_nothing_half(
    tree: Path, tmp_path: Path, name: str
) -> None:
    """Neither an archive without its sums nor a sum without the archive."""
    (tmp_path / name).mkdir()

    with pytest.raises(PackError, match="not written"):
        pack_tree(tree, tmp_path / "a.tar.gz")
    assert {path.name for path in tmp_path.iterdir()} == {"submission", name}


def test_a_name_that_would_not_unpack_everywhere_is_refused(
    tree: Path, tmp_path: Path
) -> None:
    """The error shows its escape, not a line of its own."""
    (tree / "closed/two\nlines").write_text("x", "utf-8")

    with pytest.raises(PackError, match=r"two\\nlines': a name that does not unpack"):
        pack_tree(tree, tmp_path / "a.tar.gz")


def test_an_empty_tree_is_refused(tmp_path: Path) -> None:
    """There is nothing to submit in it."""
    (tmp_path / "empty").mkdir()

    with pytest.raises(PackError, match="nothing to pack"):
        pack_tree(tmp_path / "empty", tmp_path / "a.tar.gz")


def test_a_file_that_changes_under_the_packer_is_found(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of another time or size than was listed is not packed."""
    from pytest_mlperf.submission import pack as module

    write = module.write_archive

    def and_change(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        (tree / "closed/ACME/run.sh").write_text("#!/bin/no\n", "utf-8")

    monkeypatch.setattr(module, "write_archive", and_change)

    with pytest.raises(PackError, match=r"run\.sh: changed since it was listed"):
        pack_tree(tree, tmp_path / "a.tar.gz")
    assert not (tmp_path / "a.tar.gz").exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 600, b"a\0b\n"])
def test_a_password_that_openssl_would_not_take_whole_is_refused(
    tmp_path: Path, content: bytes
) -> None:
    """Empty, longer than openssl reads, or with a NUL in it."""
    file = tmp_path / "password"
    file.write_bytes(content)
    file.chmod(0o600)

    with pytest.raises(encryption.CipherError, match="password"):
        encryption.get_password(file)


def test_a_password_of_two_lines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program reads the first one alone, and both would not decrypt it."""
    monkeypatch.setenv(encryption.VARIABLE, "correct\nhorse")

    with pytest.raises(encryption.CipherError, match="no line of at most"):
        encryption.get_password(None)


def test_a_password_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """The error says how to close it."""
    file = tmp_path / "password"
    file.write_bytes(b"secret\n")
    file.chmod(0o644)

    with pytest.raises(encryption.CipherError, match="chmod 600"):
        encryption.get_password(file)


def test_a_password_files_first_line_is_the_password(tmp_path: Path) -> None:
    """However the line ends."""
    file = tmp_path / "password"
    file.write_bytes(b"secret word\r\nmore\n")
    file.chmod(0o600)

    assert encryption.get_password(file) == b"secret word"
