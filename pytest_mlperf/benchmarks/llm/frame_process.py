"""Reads a pickled frame in a process without rights: no files and no sockets.

Nothing that the pickle names is called there (see ``pickled_frame``). The process is
the second wall: what might still be wrong in Python's own unpickler reaches a process
that has no environment, no file but this one, and bounds on memory and time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import IO
from typing import Any

PROGRAM = Path(__file__).with_name("pickled_frame.py")
LONGEST_LINE = 1 << 28
"""Bytes of one cell."""
PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""All that the process sees of the environment: what some Pythons start with."""


class PickleRefused(ValueError):
    """The pickle is no frame, or asks for more than a frame needs."""


def read_pickle(
    file: BufferedReader, columns: Sequence[str]
) -> tuple[list[str], dict[str, list[Any]]]:
    """Return the names of all columns of a pickled frame, and those asked for.

    ``file`` is a pickle or a gzip file of one. Cells are lists, texts and numbers: an
    array in a cell is a list. Raises ``PickleRefused``.
    """
    command = [sys.executable, "-I", "-S", "-B", str(PROGRAM), *columns]
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    with subprocess.Popen(
        command,
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
    ) as process:
        assert process.stdout is not None, "it is a pipe"
        try:
            return _read_table(process.stdout)
        except EOFError:
            raise PickleRefused(_explain_end(process.wait())) from None
        finally:
            process.kill()


def _read_table(stream: IO[bytes]) -> tuple[list[str], dict[str, list[Any]]]:
    header: Mapping[str, Any] = _read_value(stream)
    columns = {
        name: [_read_value(stream) for _ in range(header["rows"])]
        for name in header["columns"]
    }
    return header["names"], columns


def _read_value(stream: IO[bytes]) -> Any:
    line = stream.readline(LONGEST_LINE)
    if line == b"\n":
        raise PickleRefused(json.loads(stream.readline(LONGEST_LINE)))
    if not line.endswith(b"\n"):
        raise EOFError
    return json.loads(line)


def _explain_end(code: int) -> str:
    if code >= 0:
        return f"the process that read it ended with exit code {code}"
    return f"the process that read it was ended by {signal.Signals(-code).name}"
