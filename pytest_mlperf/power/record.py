"""What client.json and server.json say: messages, phases, files, and which code ran."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Any

VERSION = "1.0"
"""Of the files' form."""
PROTOCOL = "3"
CLIENT_HELLO = f"mlcommons/power client v{PROTOCOL}"
SERVER_HELLO = f"mlcommons/power server v{PROTOCOL}"
PHASES = ("ranging", "testing")
FOLDERS = {"ranging": "ranging", "testing": "run_1"}
"""Phase -> the folder of its files."""
DOWNLOADS = (
    "power/ptd_logs.txt", "ranging/spl.txt", "power/server.json", "power/server.log",
    "run_1/spl.txt", "run_1/ptd_out.txt",
)  # fmt: skip
"""What the client fetches from the director when both phases are over."""


def digest_file(path: Path) -> str:
    """Return a file's SHA-1, which the protocol asks for."""
    return hashlib.new("sha1", path.read_bytes(), usedforsecurity=False).hexdigest()


def digest_folder(folder: Path) -> dict[str, str]:
    """Return path below the folder -> SHA-1 of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def digest_sources() -> dict[str, str]:
    """Return file -> SHA-1 of the code that measures: this folder.

    The submission checker compares them with the sums of mlcommons' own code. Ours are
    not those, and are written as they are: no submission is measured by this code.
    """
    folder = Path(__file__).parent
    return {path.name: digest_file(path) for path in sorted(folder.glob("*.py"))}


class EventLog:
    """Lines with their time, for client.log and server.log; UTC offset of the host."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[str] = []

    def add(self, text: str, level: str = "INFO") -> None:
        now = datetime.now()
        stamp = f"{now:%Y-%m-%d %H:%M:%S},{now.microsecond // 1000:03}"
        self.lines.append(f"{self.name} {stamp} [{level}] {text}")

    def write(self, path: Path) -> None:
        path.write_text("\n".join([*self.lines, ""]), encoding="utf-8")


@dataclass(slots=True)
class SessionRecord:
    """One end's record of a session."""

    client: uuid.UUID | None = None
    server: uuid.UUID | None = None
    session: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    phases: dict[str, list[tuple[float, float]]] = field(
        default_factory=lambda: {name: [] for name in PHASES}
    )

    def add_message(
        self, command: str, asked_at: float, reply: str, replied_at: float
    ) -> None:
        """Note a command and its reply, with times in seconds since 1970."""
        times = {"cmd_time": asked_at, "reply_time": replied_at}
        self.messages.append({"cmd": command, "reply": reply, **times})

    def mark(self, phase: str) -> None:
        """Note a checkpoint: before start, started, before stop, stopped."""
        self.phases[phase].append((time.time(), time.monotonic()))

    def write(
        self, path: Path, results: Mapping[str, str], more: Mapping[str, Any]
    ) -> None:
        """Write the record; ``results``: file -> SHA-1, ``more``: one end's own."""
        sources = digest_sources()
        package = __name__.rpartition(".")[0]
        text = {
            "version": VERSION,
            "timezone": -time.localtime().tm_gmtoff,
            "modules": {f"{package}.{Path(name).stem}": name for name in sources},
            "sources": sources,
            "messages": self.messages,
            "uuid": {"client": str(self.client), "server": str(self.server)},
            "session_name": self.session,
            "results": dict(results),
            "phases": self.phases,
            **more,
        }
        path.write_text(json.dumps(text, indent=4), encoding="utf-8")
