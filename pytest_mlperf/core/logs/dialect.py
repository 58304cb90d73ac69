"""What each LoadGen logs, by the date of its commit: the one table of log dialects.

A version does not tell what a LoadGen writes: "4.1" was built before and after a key
came. The commit does, and a log states its date. Whoever asks which keys a log has,
what a count means or how a setting follows from others asks this table.

Evidence: the history of loadgen/ in mlcommons/inference, and the 30,811 logs of the
closed results of v1.1, v2.0, v2.1, v3.0, v4.1 and v5.1. None of these has a key too
many or too few for its date.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
from functools import lru_cache


class Trait(enum.Enum):
    """Something that LoadGen has logged, or done, since a commit.

    The value is the time of that commit, UTC, where it first was in a branch of a
    round; the logs are those of the closed results, before and since.
    """

    TODAYS_FORM = "2021-01-12T16:50:55"
    """7224f32a: one JSON record a line. Logs of v0.5 and v0.7 are older."""
    OFFLINE_PERMUTATIONS = "2021-11-16T16:47:09"
    """ad961292: equal issue, in Offline: the query is filled up to whole passes."""
    QUERY_INTERVALS_GONE = "2022-01-11T16:43:19"
    """a67f9f34: MultiStream issues a query after another, not one an interval."""
    EARLY_STOPPING = "2022-01-18T04:06:25"
    """9dee1bfc: ``early_stopping_*``. 5,152 performance logs before, 18,072 since."""
    QUERY_COUNT = "2022-01-25T15:42:03"
    """dba14f89: ``result_query_count``, ``result_overlatency_query_count``."""
    COUNTS_ARE_NUMBERS = "2022-02-07T09:25:59"
    """c215a61a: before, those two are texts, ``"1"``: in 83 logs."""
    EARLY_STOPPING_UNBOUNDED = "2022-02-09T18:37:25"
    """1988a115: before, no estimate left out more than 1,022 latencies: where it had
    to, it left out none. 2 logs."""
    SINGLE_STREAM_PERMUTATIONS = "2022-02-10T05:58:15"
    """70184751: equal issue in SingleStream, which raises min_query_count."""
    SUT_NAME_TIMED = "2022-05-03T16:30:31"
    """7d6deb57: ``get_sut_name_duration_ns``. 14,417 logs before, 15,348 since."""
    SAME_SAMPLE_LASTS = "2022-05-24T16:39:26"
    """e8e72cce: performance_issue_same no longer shortens the run (TEST04-B)."""
    TOKENS = "2024-01-25T14:57:00"
    """190413d9: ``requested_use_token_latencies``."""
    PER_TOKEN_LATENCIES = "2024-02-02T14:25:07"  # noqa: S105 - not a password
    """473053fc: ``early_stopping_ttft_result``, ``result_time_per_output_token_*``."""
    PERMUTATIONS = "2024-02-07T04:24:06"
    """357ccefc: equal issue in Server and MultiStream too. Where an Offline query
    needs no filling, LoadGen generates one for each sample of the set."""
    RATE_OF_ANSWERED = "2024-06-04T16:43:27"
    """0e254920: ``result_completed_tokens_per_second``, of Server."""
    PERMUTATION_LOGGED = "2024-07-24T17:59:30"
    """3fb6c3e1: ``effective_sample_concatenate_permutation``. 27,994 logs before,
    1,771 since; before, a log does not say whether it had equal issue."""
    VERSION_FILE = "2024-10-22T16:58:13"
    """ecb88016: ``loadgen_file_sha1`` has VERSION.txt. In 3,170 logs since, and in none
    of 9,063 of v3.0, v4.1 and v5.1 before."""
    ONE_OFFLINE_QUERY = "2025-01-14T16:59:45"
    """1f73d4c2 (5.0.6): Offline generates one query, and no other."""
    FILLED_COUNT = "2025-01-16T05:51:49"
    """ef1bd3b9 (5.0.11): ``generated_samples_per_query`` includes what equal issue
    added; before, the rate alone does."""
    ERRORS_COUNTED = "2025-04-15T16:33:10"
    """fd021be1 (5.0.16): ``num_errors``. 22,370 performance logs before, 854 since."""
    ACCURACY_COUNT = "2026-01-20T14:32:15"
    """a8d4d783 (6.0.6): ``effective_accuracy_sample_count``."""

    @property
    def since(self) -> datetime:
        """The time of the commit."""
        return datetime.fromisoformat(self.value).replace(tzinfo=UTC)


# Version, first and last day of commits that call themselves so: version_generator.py,
# and loadgen/VERSION.txt from 5.0 on. Empty: to this day. Builds of setup.py said
# ".5a1" up to v1.1, whatever the round.
_VERSIONS = """
0.5 2021-01-12 2021-06-22   1.0 2021-02-15 2021-06-22   1.1 2021-06-21 2022-02-04
2.0 2022-02-04 2022-07-12   2.1 2022-07-12 2023-02-04   3.0 2023-02-04 2023-07-25
3.1 2023-07-24 2024-01-17   4.0 2024-01-16 2024-07-11   4.1 2024-06-20 2024-12-09
5.0.0 2024-12-05 2024-12-09   5.0.1 2024-12-09 2024-12-13   5.0.2 2024-12-13 2024-12-18
5.0.3 2024-12-18 2024-12-19   5.0.4 2024-12-19 2025-01-07   5.0.5 2024-12-20 2025-01-14
5.0.6 2025-01-14 2025-01-14   5.0.7 2025-01-14 2025-01-14   5.0.8 2025-01-14 2025-01-14
5.0.9 2025-01-14 2025-01-15   5.0.10 2025-01-15 2025-01-16
5.0.11 2025-01-15 2025-01-21   5.0.12 2025-01-21 2025-01-21
5.0.13 2025-01-21 2025-01-28   5.0.14 2025-01-28 2025-02-01
5.0.15 2025-02-01 2025-04-15   5.0.16 2025-04-15 2025-05-20
5.0.17 2025-05-20 2025-06-10   5.0.18 2025-06-10 2025-06-11
5.0.19 2025-06-11 2025-06-16   5.0.20 2025-06-16 2025-06-16
5.0.21 2025-06-16 2025-06-17   5.0.22 2025-06-17 2025-07-07
5.0.23 2025-07-07 2025-07-08   5.0.24 2025-07-08 2025-07-08
5.0.25 2025-07-08 2025-07-21   5.1.0 2025-06-26 2025-10-13   5.1.1 2025-10-13 2025-11-26
5.1.2 2025-11-26 2025-12-18   6.0.0 2025-12-18 2025-12-19   6.0.1 2025-12-19 2025-12-22
6.0.2 2025-12-22 2025-12-23   6.0.3 2025-12-23 2026-01-06   6.0.4 2026-01-06 2026-01-13
6.0.5 2026-01-13 2026-01-20   6.0.6 2026-01-20 2026-01-27   6.0.7 2026-01-27 2026-01-28
6.0.8 2026-01-28 2026-01-28   6.0.9 2026-01-28 2026-02-06   6.0.10 2026-02-06 2026-03-27
6.0.11 2026-03-27 2026-03-27   6.0.12 2026-03-27 2026-03-30
6.0.13 2026-03-30 2026-04-10   6.0.14 2026-04-10 2026-06-25
6.0.15 2026-06-25 2026-07-02   6.0.16 2026-07-02 2026-07-24   6.0.17 2026-07-24 -
"""
Version = tuple[int, ...]
Days = tuple[str, str]

UNDATED: dict[Version, str] = {
    (0, 5): "2021-03-18T17:54:37",
    (1, 1): "2021-08-15T10:41:25",
    (2, 0): "2022-02-24T15:28:20",
    (2, 1): "2022-08-04T17:53:50",
    (4, 1): "2024-07-25T03:02:58",
}
"""Version -> the newest commit of it in official results. Builds without git have no
date; the 58 in official results have exactly the keys of these."""
OLD_GIT = {
    "6ac37b3c2d": "2021-08-09T16:13:30",
    "f285db2bc1": "2021-08-10T23:29:58",
    "ed7044310a": "2021-08-11T16:36:26",
    "0ec69f587d": "2022-02-11T19:17:36",
    "ce0a2fae13": "2022-02-16T18:09:29",
}
"""Commit -> its date: git before 2.2 wrote ``%cI`` for it, in 1,004 logs."""
NO_DATE = ("NA", "%cI", "")
BUILD = re.compile(r"(\.5a1|\d{1,3}\.\d{1,3}(?:\.\d{1,3})?) @ (\S+)")
FUTURE = datetime(9999, 1, 1, tzinfo=UTC)
NEEDED = "LoadGen 1.0 to 6.x, as in '5.1.0 @ 091d51f041'"
UPDATE = "use the released mlcommons-loadgen, or a newer pytest-mlperf"
NEWEST_MAJOR = 6


class DialectError(ValueError):
    """A log whose LoadGen does not exist: what was found, and what it should be."""

    def __init__(self, key: str, found: str, required: str, remedy: str = "") -> None:
        super().__init__(found)
        self.key = key
        self.found = found
        self.required = required
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class LogDialect:
    """The LoadGen that wrote a log."""

    version: Version
    """As far as it is stated: ``(4, 1)``, ``(5, 0, 16)``."""
    commit: str
    date: datetime
    """Of the commit, UTC."""

    def has(self, trait: Trait) -> bool:
        """Return whether this LoadGen logs, or does, something."""
        return self.date >= trait.since

    def __str__(self) -> str:
        """``LoadGen 4.1 of 2024-07-18``."""
        version = ".".join(str(number) for number in self.version)
        return f"LoadGen {version} of {self.date:%Y-%m-%d}"


@lru_cache(maxsize=4096)
def read_dialect(build: str, commit_date: str) -> LogDialect:
    """Return the LoadGen of ``loadgen_version`` and ``loadgen_git_commit_date``.

    Raises ``DialectError`` for a version that is not known, for a date that is none,
    and for a version that had no commit on that date.
    """
    found = BUILD.fullmatch(build.strip())
    key = "loadgen_version"
    if not found:
        raise DialectError(key, f"{build[:40]!r}", NEEDED, UPDATE)
    text, commit = ("0.5" if found[1] == ".5a1" else found[1]), found[2]
    version = tuple(int(number) for number in text.split("."))
    since, until = find_days(version)
    if not since:
        raise DialectError(key, f"{build[:40]!r}", NEEDED, UPDATE)
    if commit_date.strip() in NO_DATE:
        return LogDialect(version, commit, find_undated(version, commit, until))
    key = "loadgen_git_commit_date"
    try:
        date = datetime.fromisoformat(commit_date.strip())
        if date.tzinfo is None:
            raise ValueError
        date = date.astimezone(UTC)
    except (ValueError, OverflowError):
        required = "a date with time and zone, as in '2025-07-30T12:45:05+00:00'"
        raise DialectError(key, f"{key} = {commit_date[:40]}", required) from None
    if not since <= f"{date:%Y-%m-%d}" <= (until or "9999"):
        required = f"{since} to {until or 'today'}, when LoadGen was {text}"
        raise DialectError(key, f"{key} = {commit_date[:40]}", required)
    return LogDialect(version, commit, date)


def find_undated(version: Version, commit: str, until: str) -> datetime:
    """Return the date of a build that does not state it.

    The strictest that is possible: that of the newest build of the version.
    """
    known = OLD_GIT.get(commit) or UNDATED.get(version)
    if known:
        return datetime.fromisoformat(known).replace(tzinfo=UTC)
    # On its last day the next version begins.
    return datetime.fromisoformat(until).replace(tzinfo=UTC) if until else FUTURE


@lru_cache(maxsize=256)
def find_days(version: Version) -> Days:
    """Return the first and the last day of a version, empty for no end.

    Both are empty for a version that LoadGen never had. One that is newer than the
    table begins where the table ends.
    """
    table = _read_versions()
    if version in table:
        return table[version]
    if version[:2] in table:
        return table[version[:2]]
    newest = max(table)
    if newest < version and version[0] <= NEWEST_MAJOR:
        return table[newest][0], ""
    same = [days for known, days in table.items() if known[:2] == version]
    if len(version) == 2 and same:
        return same[0][0], same[-1][1]
    return "", ""


@lru_cache(maxsize=1)
def _read_versions() -> dict[Version, Days]:
    words = _VERSIONS.split()
    rows = zip(words[::3], words[1::3], words[2::3], strict=True)
    return {
        tuple(int(number) for number in version.split(".")): (
            since,
            "" if until == "-" else until,
        )
        for version, since, until in rows
    }
