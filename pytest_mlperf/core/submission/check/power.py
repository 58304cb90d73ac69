"""Power logs beside a run: the files, and that meter, client and server agree.

Source: mlcommons/inference b66003e1, tools/submission/power/power_checker.py and
submission_checker/checks/power_check.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from typing import BinaryIO

from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SUMMARY
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.core.submission.check.logs import file_problems
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.check.since import is_asked
from pytest_mlperf.core.submission.check.tree import Result
from pytest_mlperf.core.submission.check.tree import Tree

FILES = ("client.json", "client.log", "ptd_logs.txt", "server.json", "server.log")
RUN_FILES = (SUMMARY, DETAIL, "spl.txt")
NOTES = (re.compile(r"analyzer_table\."), re.compile(r"power_settings\."))
"""Files about the meter, in the measurements' folder or up to three above it."""
FIELDS = (
    "version", "timezone", "modules", "sources", "messages", "uuid", "session_name",
    "results", "phases",
)  # fmt: skip
SERVER_FIELDS = ("ptd_messages", "ptd_config")
HASHED = (
    "power/client.log",
    "power/ptd_logs.txt",
    "power/server.log",
    *(f"{run}/{name}" for run in ("ranging", "run_1") for name in RUN_FILES),
)
"""Files whose SHA-1 client.json or server.json has."""
AGAIN = "measure power again; the logs of one session belong together"

files_rule = make_fault("power_files")
fields_rule = make_fault("power_fields")
agreement = make_fault("power_agreement")
digest_rule = make_fault("power_digests")


@dataclass(frozen=True, slots=True)
class PtdSession:
    """One power measurement: its folders and both ends' descriptions."""

    base: str
    """The result's ``performance`` folder."""
    client: Mapping[str, Any]
    server: Mapping[str, Any]

    def path(self, name: str) -> str:
        """Return the path of a file of the session: ``power/client.json``."""
        return f"{self.base}/{name}"


def find_folder(tree: Tree, result: Result) -> str:
    """Return the folder that holds run_1, ranging and power."""
    return str(tree.layout.performance(*result.names).parent)


def has_power_logs(tree: Tree, result: Result) -> bool:
    """True for a result with power logs (submission checker: the folder is there)."""
    return tree.listing.is_folder(f"{find_folder(tree, result)}/power")


def file_list_problems(tree: Tree, result: Result) -> Iterator[Problem]:
    """The three folders hold their files, and the meter is described."""
    listing, home = tree.listing, find_folder(tree, result)
    yield from file_problems(listing, f"{home}/ranging", RUN_FILES, (ACCURACY,))
    yield from file_problems(listing, f"{home}/power", FILES)
    if not is_asked("meter_notes", tree.round.name):
        return
    folder = tree.layout.measurements(*result.names)
    above = [str(folder), *(str(parent) for parent in list(folder.parents)[:3])]
    names = {name: place for place in above for name in listing.files(place)}
    for pattern in NOTES:
        hits = [name for name in names if pattern.match(name)]
        wanted = f"{folder}/{pattern.pattern.replace(chr(92), '')}*"
        if not hits:
            remedy = "describe the meter and its settings; one file may serve all"
            yield files_rule(wanted, "no such file", "a file of that name", remedy)
        for name in hits:
            path = f"{names[name]}/{name}"
            if listing.is_file(path) and not listing.entries[path].size:
                yield files_rule(path, "an empty file", "the meter's", "write it")


def read_session(listing: Listing, home: str) -> PtdSession | list[Problem]:
    """Return the two descriptions of a measurement, or why there are none."""
    found = []
    problems = []
    for name in ("client.json", "server.json"):
        record = listing.record(f"{home}/power/{name}", "power_fields")
        if isinstance(record, Problem):
            problems.append(record)
            continue
        found.append(record)
        wanted = (*FIELDS, *SERVER_FIELDS) if name == "server.json" else FIELDS
        for key in wanted:
            if key not in record:
                path = f"{home}/power/{name}"
                shown = f"no field {key}"
                problems.append(fields_rule(path, shown, "the field", AGAIN))
    return problems if problems else PtdSession(home, found[0], found[1])


def agreement_problems(own: PtdSession) -> Iterator[Problem]:
    """Client and server speak of one session (uuid_check, session_name_check,
    messages_check, debug_check).
    """
    path = own.path("power/server.json")
    for key in ("uuid", "session_name"):
        ours, theirs = own.client[key], own.server[key]
        if ours != theirs:
            shown = f"{key} {str(theirs)[:80]}"
            required = f"{str(ours)[:80]}, as client.json has it"
            yield agreement(path, shown, required, AGAIN)
    if own.server.get("debug", False) is not False:
        remedy = "measure again with the server out of debug mode"
        yield agreement(path, "debug on", "debug off", remedy)
    ours, theirs = (read_exchanges(end["messages"]) for end in (own.client, own.server))
    if not ours or ours != theirs:
        shown = f"{len(theirs)} messages unlike the {len(ours)} of client.json"
        yield agreement(path, shown, "the same messages", AGAIN)
        return
    versions = [re.search(r"mlcommons/power \w+ v(\d+)$", text) for text in ours[0]]
    if not all(versions) or len({found[1] for found in versions if found}) != 1:
        shown = f"{ours[0][0][:60]!r} and {ours[0][1][:60]!r}"
        remedy = "use client and server of one version"
        yield agreement(path, shown, "one version of both", remedy)


def read_exchanges(messages: object) -> list[tuple[str, str]]:
    """Return commands with their replies; replies to ``time`` are not compared."""
    if not isinstance(messages, list):
        return []
    found = []
    for message in messages:
        record = message if isinstance(message, dict) else {}
        command, reply = (str(record.get(key, "")) for key in ("cmd", "reply"))
        found.append((command, "" if command == "time" else reply))
    return found


def digest_problems(listing: Listing, own: PtdSession) -> Iterator[Problem]:
    """The files are those that client and server signed (results_check).

    The meter's logs are written on Windows. A repository that turned their line ends
    into its own has not changed what they say: 287 of v2.0's 288 results are so.
    """
    signed: dict[str, Any] = {}
    for end in (own.client, own.server):
        if isinstance(end["results"], dict):
            signed |= end["results"]
    for name in HASHED:
        path = own.path(name)
        if not listing.is_file(path):
            continue  # A problem of the folder's files.
        try:
            with listing.open(path) as file:
                found, as_written = digest_text(file)
        except OSError:
            continue  # Likewise.
        if signed.get(name) not in (found, as_written):
            required = f"{signed.get(name, 'a SHA-1')}, as the session signed it"
            remedy = "put the session's own file there, unchanged"
            yield digest_rule(path, f"SHA-1 {found}", required, remedy)


def digest_text(file: BinaryIO) -> tuple[str, str]:
    """Return a file's SHA-1, and the one that it had if its lines ended in CR LF."""
    own, windows = (hashlib.new("sha1", usedforsecurity=False) for _ in range(2))
    for line in file:
        own.update(line)
        plain = line.removesuffix(b"\n")
        windows.update(plain + b"\r\n" if plain != line else line)
    return own.hexdigest(), windows.hexdigest()
