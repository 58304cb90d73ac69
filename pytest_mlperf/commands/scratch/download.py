"""Downloads a file: resumed where it broke off, from mirrors, checked, renamed.

A download is written to ``NAME.part`` beside its target. It gets the target's name
when its size and its hash are the declared ones, so that no half of a file is ever
taken for the file.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pytest_mlperf.api.sources import Source

CHUNK = 1 << 20
ATTEMPTS = 5
"""How often a mirror is asked for the rest of a file without sending any of it."""
PAUSE_S = 1.0
"""Before the second attempt; doubled before each further one."""
TIMEOUT_S = 60.0
"""How long a server may send nothing."""
Progress = Callable[[int, int | None], None]
"""(bytes that are there, bytes in all if the server says)"""


class DownloadFailed(Exception):
    """No mirror sent the file; the text says what each did."""


class _WrongFile(Exception):
    """A mirror's file is not the declared one: asking it again is no use."""


class _NoSpace(OSError):
    """The disk cannot hold the file."""


@dataclass(frozen=True, slots=True)
class Download:
    """One file to fetch."""

    source: Source
    target: Path
    progress: Progress | None = None
    pause_s: float = PAUSE_S

    def run(self) -> str:
        """Fetch the file; return what it was checked against.

        Raises ``DownloadFailed`` when every mirror failed; what was received of a file
        that may still be the right one stays as ``NAME.part`` for the next call.
        """
        self.target.parent.mkdir(parents=True, exist_ok=True)
        part = self.target.with_name(self.target.name + ".part")
        failures: list[str] = []
        lock = FileLock(str(part) + ".lock")
        with lock:
            if self.target.is_file():
                return "fetched meanwhile"
            for url in self.source.urls:
                # Of a file that was begun elsewhere, this mirror's may not be the rest.
                for is_resumed in (True, False) if part.is_file() else (False,):
                    try:
                        self._receive(url, part)
                        checked = check_content(self.source, part)
                        part.replace(self.target)
                    except _WrongFile as error:
                        part.unlink(missing_ok=True)
                        if not is_resumed:
                            failures.append(f"{url}: {error}")
                    except (OSError, http.client.HTTPException) as error:
                        failures.append(f"{url}: {explain(error)}")
                        break
                    else:
                        Path(lock.lock_file).unlink(missing_ok=True)
                        return checked
        rest = f"\n{part} is continued the next time." if part.is_file() else ""
        raise DownloadFailed(
            f"{self.target.name} could not be fetched:\n  "
            + "\n  ".join(failures)
            + f"{rest}\nTry again, or copy it to {self.target} from"
            f" {self.source.origin}."
        )

    def _receive(self, url: str, part: Path) -> None:
        """Append to ``part`` until the file is whole; asks again where it broke off."""
        failed, pause, most = 0, self.pause_s, size_of(part)
        while True:
            try:
                self._request(url, part, size_of(part))
                return
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code not in (408, 425, 429):
                    raise
                last: Exception = error
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, _NoSpace) or _is_disk_error(error):
                    raise
                last = error
            received = size_of(part)
            failed, most = (0, received) if received > most else (failed + 1, most)
            if failed >= ATTEMPTS:
                raise last
            if failed:
                time.sleep(pause)
                pause *= 2

    def _request(self, url: str, part: Path, have: int) -> None:
        headers = {"User-Agent": "pytest-mlperf", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - declared
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and have:
                # Nothing is left to send: whole, or longer than the server's file.
                if re.search(rf"/{have}$", error.headers.get("Content-Range", "")):
                    return
                raise _WrongFile(
                    f"its file is shorter than the {have:,} bytes here"
                ) from None
            raise
        with response:
            kind = response.headers.get_content_type()
            if kind == "text/html" and part.suffixes[-2:-1] != [".html"]:
                raise _WrongFile("the server sent a web page instead of the file")
            start, total = _find_extent(response, have)
            self._check_size(total, part, start)
            mode = "ab" if start else "wb"
            with part.open(mode) as file:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    if self.progress is not None:
                        self.progress(file.tell(), total)
                received = file.tell()
        if total is not None and received != total:
            raise http.client.IncompleteRead(b"", total - received)

    def _check_size(self, total: int | None, part: Path, start: int) -> None:
        declared = self.source.size
        if None not in (total, declared) and total != declared:
            raise _WrongFile(
                f"the server's file has {total:,} bytes, but should have {declared:,}"
            )
        need = (total or declared or 0) - start
        free = shutil.disk_usage(part.parent).free
        if need > free:
            raise _NoSpace(
                f"{need / 1e9:.1f} GB are needed, but {part.parent} has"
                f" {free / 1e9:.1f} GB free; free some, or choose another --scratch"
            )


def _find_extent(
    response: http.client.HTTPResponse, have: int
) -> tuple[int, int | None]:
    """Return where the response begins in the file, and the file's size if it says.

    A server may ignore that only the rest was asked for: then it is all of the file.
    """
    length = response.headers.get("Content-Length", "")
    if response.status != 206:
        return 0, int(length) if length.isdecimal() else None
    text = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", text.strip())
    if match is None or int(match[1]) != have:
        raise _WrongFile(
            f"asked for the bytes from {have:,} on, the server answered {text!r}"
        )
    return have, None if match[2] == "*" else int(match[2])


def check_content(source: Source, path: Path) -> str:
    """Return how a file was checked: ``sha256``, ``md5``, ``size`` or nothing.

    Raises ``_WrongFile`` with found and required.
    """
    size = size_of(path)
    if source.size is not None and size != source.size:
        raise _WrongFile(f"it has {size:,} bytes, but should have {source.size:,}")
    for kind, required in (("sha256", source.sha256), ("md5", source.md5)):
        if not required:
            continue
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, kind).hexdigest()
        if digest != required:
            raise _WrongFile(f"its {kind} is {digest}, but should be {required}")
        return kind
    return "size" if source.size is not None else ""


def _is_disk_error(error: BaseException) -> bool:
    """Return whether writing failed, not the connection."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def size_of(path: Path) -> int:
    """Return a file's bytes, 0 where it is not there."""
    return path.stat().st_size if path.is_file() else 0


def explain(error: Exception) -> str:
    """Return an error in words, without Python's names where they say nothing."""
    if isinstance(error, http.client.IncompleteRead):
        return f"broke off, {error.expected or 0:,} bytes before the end"
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
