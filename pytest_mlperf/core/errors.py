"""The error of a run that cannot be started."""

from __future__ import annotations

import errno

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class RunRefused(Exception):
    """A run that cannot be started as asked; the text says why and what to change."""


class WrongFiles(Exception):
    """A benchmark's files are not what they should be; the text is the benchmark's:
    which file, what was found and what to do.
    """


def describe_full_disk(error: BaseException) -> str:
    """Return what to do about an error of a full disk or quota; empty for any other."""
    if not isinstance(error, OSError) or error.errno not in FULL:
        return ""
    where = f" for {error.filename}" if error.filename else ""
    return (
        f"no room{where} ({error.strerror}): free some, or choose another file system "
        "with --mlperf-reports DIR (results), --mlperf-cache DIR (engines) or TMPDIR"
    )
