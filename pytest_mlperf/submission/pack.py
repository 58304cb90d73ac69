"""Packs a submission tree into one file, reproducibly, encrypted on request.

The archive is read back, decrypted and unpacked, and every file's digest is compared
with the tree's, before any file gets its final name.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shlex
import stat
import tarfile
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pytest_mlperf.core.submission.check.listing import EntryKind
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.submission import encryption

OUT = (".git", ".github")
"""Folders of a repository that are not part of the submission."""
PROBLEMS = "PROBLEMS.md"
"""File at the root of an archive that was packed despite problems."""
CHUNK = 1 << 20


class PackError(Exception):
    """A tree cannot be packed; the text has the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Packed:
    """The archive that was written."""

    path: Path
    sha1: str
    sha256: str
    files: int
    command: str
    """Shell command that unpacks it."""


def pack_tree(
    root: Path,
    output: Path,
    *,
    password: bytes | None = None,
    problems: str = "",
    listing: Listing | None = None,
) -> Packed:
    """Pack a tree, encrypted if there is a password, and verify the archive.

    ``problems`` goes into the archive as PROBLEMS.md. ``listing`` is the tree as it was
    checked: a file that changed since is refused. Raises ``PackError``.
    """
    root, output = root.resolve(), output.parent.resolve() / output.name
    check_output(root, output)
    listing = listing or Listing.of(root)
    listed = list_contents(listing)
    extra = {PROBLEMS: problems.encode()} if problems else {}
    making = output.with_name(f".{output.name}.{os.getpid()}")
    parts: dict[Path, Path] = {}
    try:
        with making.open("wb") as file, encryption.encrypt_into(file, password) as sink:
            write_archive(listing, root.name, listed, extra, sink)
        with (
            making.open("rb") as made,
            encryption.decrypt_from(made, password) as source,
        ):
            verify_archive(listing, root.name, listed, extra, source)
        sums = {name: hash_file(making, name) for name in ("sha1", "sha256")}
        for name, value in sums.items():
            part = making.with_name(f"{making.name}.{name}")
            parts[part] = output.with_name(f"{output.name}.{name}")
            # The format of sha1sum and sha256sum, which read it with -c.
            part.write_text(f"{value}  {output.name}\n", "utf-8")
        # The archive last: when it exists, its sums do.
        rename_all({**parts, making: output})
    except (OSError, encryption.CipherError) as error:
        raise PackError(f"{output}: not written: {error}") from None
    finally:
        for path in (*parts, making):
            with suppress(OSError):
                path.unlink()
    name = shlex.quote(output.name)
    command = encryption.format_command(name) if password else f"tar xzf {name}"
    count = len(listed) + len(extra)
    return Packed(output, sums["sha1"], sums["sha256"], count, command)


def rename_all(parts: Mapping[Path, Path]) -> None:
    """Rename all files, or none if one cannot be renamed (``OSError``)."""
    renamed = []
    try:
        for path, name in parts.items():
            path.rename(name)
            renamed.append(name)
    except BaseException:  # Ctrl-C too: a sum without its archive is useless.
        for name in renamed:
            with suppress(OSError):
                name.unlink()
        raise


def check_output(root: Path, output: Path) -> None:
    """Raise ``PackError`` if the archive cannot or must not be written there."""
    if not root.name:
        raise PackError(f"{root}: no folder of a submission; name the tree's folder")
    if root in output.parents:
        text = f"{output}: inside the tree; name a place outside with --output"
        raise PackError(text)
    if output.exists():
        raise PackError(f"{output}: exists; remove it, or name another with --output")
    if not output.parent.is_dir():
        raise PackError(f"{output.parent}: no such folder; make it first")


def list_contents(listing: Listing) -> list[str]:
    """Return the paths to pack, sorted.

    A link is packed as its target. Raises ``PackError`` for a link out of the tree, and
    for anything that is neither a file nor a folder.
    """
    found = []
    for path, entry in sorted(listing.entries.items()):
        if path.partition("/")[0] in OUT:
            continue
        if entry.kind is EntryKind.FOLDER:
            continue
        if entry.kind is not EntryKind.FILE:
            what = f"{entry.kind.value} {entry.link or entry.why}".strip()
            text = f"{path or listing.root}: {what}; put a regular file there, or"
            raise PackError(f"{text} remove it")
        if not path.isprintable():
            raise PackError(f"{path!r}: a name that does not unpack; rename it")
        found.append(path)
    if not found:
        raise PackError(f"{listing.root}: nothing to pack; name a submission's folder")
    return found


def write_archive(
    listing: Listing,
    name: str,
    listed: Sequence[str],
    extra: Mapping[str, bytes],
    sink: IO[bytes],
) -> None:
    """Write the archive in order of names, without times, owners or machine names.

    ``name`` is that of the folder that it unpacks to.
    """
    # gzip.open would put a name and a time into the header.
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=sink, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, content in extra.items():
            header = make_header(f"{name}/{path}", len(content))
            archive.addfile(header, io.BytesIO(content))
        for path in listed:
            with open_listed(listing, path) as file:
                state = os.fstat(file.fileno())
                is_program = bool(state.st_mode & stat.S_IXUSR)
                inside = f"{name}/{path}"
                header = make_header(inside, state.st_size, executable=is_program)
                archive.addfile(header, file)


def open_listed(listing: Listing, path: str) -> IO[bytes]:
    """Open a file as it was listed; ``PackError`` for one that changed since."""
    try:
        return listing.open(path)
    except OSError as error:
        text = f"{path}: {error.strerror or error}; leave the tree alone while it is"
        raise PackError(f"{text} checked and packed, and pack again") from None


def make_header(path: str, size: int, *, executable: bool = False) -> tarfile.TarInfo:
    """Return a file's header."""
    info = tarfile.TarInfo(path)
    info.size, info.mode = size, 0o755 if executable else 0o644
    return info


def verify_archive(
    listing: Listing,
    name: str,
    listed: Sequence[str],
    extra: Mapping[str, bytes],
    source: IO[bytes],
) -> None:
    """Raise ``PackError`` unless an archive contains exactly the tree's files."""
    found = {}
    try:
        with tarfile.open(fileobj=source, mode="r|gz") as archive:
            for info in archive:
                file = archive.extractfile(info)
                if file is None:
                    raise PackError(f"{info.name}: unpacks as no file; pack again")
                found[info.name.removeprefix(f"{name}/")] = hash_stream(file)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise PackError(f"what was written does not unpack: {error}") from None
    wanted = {path: hashlib.sha256(own).hexdigest() for path, own in extra.items()}
    for path in listed:
        with open_listed(listing, path) as file:
            wanted[path] = hash_stream(file)
    if found != wanted:
        unlike = {n for n in found.keys() | wanted if found.get(n) != wanted.get(n)}
        text = f"{min(unlike)}: unpacks as something else; leave the tree alone while"
        raise PackError(f"{text} it is packed, and pack again")


def hash_file(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def hash_stream(file: IO[bytes]) -> str:
    """Return the SHA-256 of the rest of a stream."""
    sha256 = hashlib.sha256()
    while chunk := file.read(CHUNK):
        sha256.update(chunk)
    return sha256.hexdigest()
