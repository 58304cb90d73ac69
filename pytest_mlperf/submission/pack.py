"""A submission tree as one file: packed the same way each time, encrypted if wanted.

What was written is read back, decrypted and unpacked, and every file's digest compared
with the tree's, before anything is given its name.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shlex
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pytest_mlperf.core.submission.check.listing import Kind
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.submission import encryption

OUT = (".git", ".github")
"""Folders of a repository that are no part of the submission in it."""
PROBLEMS = "PROBLEMS.md"
"""File at the root of an archive that was packed in spite of problems."""
CHUNK = 1 << 20


class PackError(Exception):
    """A tree that cannot be packed: what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What was written."""

    path: Path
    sha1: str
    sha256: str
    files: int
    command: str
    """What unpacks it again, for a shell."""


def pack(
    root: Path,
    output: Path,
    *,
    password: bytes | None = None,
    problems: str = "",
) -> Packed:
    """Pack a tree, encrypted where there is a password, and verify what was written.

    ``problems`` is kept in the archive as PROBLEMS.md. Raises ``PackError``.
    """
    root, output = root.resolve(), output.parent.resolve() / output.name
    refuse_place(root, output)
    listed = contents(root)
    extra = {PROBLEMS: problems.encode()} if problems else {}
    making = output.with_name(f".{output.name}.{os.getpid()}")
    parts: dict[Path, Path] = {}
    try:
        with making.open("wb") as file, encryption.sealing(file, password) as sink:
            write(root, listed, extra, sink)
        with making.open("rb") as made, encryption.opening(made, password) as source:
            verify(root, listed, extra, source)
        sums = {name: digest(making, name) for name in ("sha1", "sha256")}
        for name, value in sums.items():
            part = making.with_name(f"{making.name}.{name}")
            parts[part] = output.with_name(f"{output.name}.{name}")
            # As sha1sum and sha256sum write it, and -c reads it.
            part.write_text(f"{value}  {output.name}\n", "utf-8")
        # The archive last: where it is, its sums are.
        place({**parts, making: output})
    except (OSError, encryption.CipherError) as error:
        raise PackError(f"{output}: not written: {error}") from None
    finally:
        for path in (*parts, making):
            with suppress(OSError):
                path.unlink()
    name = shlex.quote(output.name)
    command = encryption.command(name) if password else f"tar xzf {name}"
    count = len(listed) + len(extra)
    return Packed(output, sums["sha1"], sums["sha256"], count, command)


def place(parts: Mapping[Path, Path]) -> None:
    """Give each file its name; none of them has it where one cannot. ``OSError``."""
    placed = []
    try:
        for path, name in parts.items():
            path.rename(name)
            placed.append(name)
    except BaseException:  # Ctrl-C too: a sum without its archive is nothing.
        for name in placed:
            with suppress(OSError):
                name.unlink()
        raise


def refuse_place(root: Path, output: Path) -> None:
    """Raise ``PackError`` where the archive cannot or must not be written."""
    if not root.name:
        raise PackError(f"{root}: no folder of a submission; name the tree's folder")
    if root in output.parents:
        text = f"{output}: inside the tree; name a place outside with --output"
        raise PackError(text)
    if output.exists():
        raise PackError(f"{output}: exists; remove it, or name another with --output")
    if not output.parent.is_dir():
        raise PackError(f"{output.parent}: no such folder; make it first")


def contents(root: Path) -> dict[str, bool]:
    """Return the files to pack -> is it executable, by their paths, sorted.

    A link is packed as the file it leads to. ``PackError`` for one that leads out of
    the tree, and for whatever is neither file nor folder.
    """
    listing = Listing.of(root)
    found = {}
    for path, entry in sorted(listing.entries.items()):
        if path.partition("/")[0] in OUT:
            continue
        if entry.kind is Kind.FOLDER:
            continue
        if entry.kind is not Kind.FILE:
            said = f"{entry.kind.value} {entry.link or entry.why}".strip()
            text = f"{path or root}: {said}; put a regular file there, or remove it"
            raise PackError(text)
        if ".." in path.split("/") or not path.isprintable():
            raise PackError(f"{path!r}: a name that does not unpack; rename it")
        found[path] = os.access(root / path, os.X_OK)
    if not found:
        raise PackError(f"{root}: nothing to pack; name a submission's folder")
    return found


def write(
    root: Path, listed: Mapping[str, bool], extra: Mapping[str, bytes], sink: IO[bytes]
) -> None:
    """Write the archive: in order of names, with no time, owner or machine in it."""
    # "wb" with a name of its own would put name and time into the gzip header.
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=sink, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in extra.items():
            archive.addfile(member(root, name, len(content)), io.BytesIO(content))
        for path, executable in listed.items():
            size = (root / path).stat().st_size
            info = member(root, path, size, executable=executable)
            with (root / path).open("rb") as file:
                archive.addfile(info, file)


def member(
    root: Path, path: str, size: int, *, executable: bool = False
) -> tarfile.TarInfo:
    """Return a file's header in the archive: below a folder of the tree's name."""
    info = tarfile.TarInfo(f"{root.name}/{path}")
    info.size, info.mode = size, 0o755 if executable else 0o644
    return info


def verify(
    root: Path,
    listed: Mapping[str, bool],
    extra: Mapping[str, bytes],
    source: IO[bytes],
) -> None:
    """Raise ``PackError`` unless an archive holds exactly the tree's files."""
    found = {}
    try:
        with tarfile.open(fileobj=source, mode="r|gz") as archive:
            for info in archive:
                file = archive.extractfile(info)
                if file is None:
                    raise PackError(f"{info.name}: unpacks as no file; pack again")
                found[info.name.removeprefix(f"{root.name}/")] = digest_of(file)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise PackError(f"what was written does not unpack: {error}") from None
    wanted = {path: digest(root / path, "sha256") for path in listed}
    wanted |= {name: hashlib.sha256(own).hexdigest() for name, own in extra.items()}
    if found != wanted:
        unlike = {n for n in found.keys() | wanted if found.get(n) != wanted.get(n)}
        name = min(unlike)
        text = f"{name}: unpacks as something else; leave the tree alone while it is"
        raise PackError(f"{text} packed, and pack again")


def digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def digest_of(file: IO[bytes]) -> str:
    """Return the SHA-256 of what a stream still has."""
    found = hashlib.sha256()
    while chunk := file.read(CHUNK):
        found.update(chunk)
    return found.hexdigest()
