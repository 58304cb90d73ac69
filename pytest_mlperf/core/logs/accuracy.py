"""What an accuracy run leaves: the answers LoadGen logged, and accuracy.txt."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.core.catalog.metrics import METRICS
from pytest_mlperf.core.catalog.metrics import find_pattern
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.lines import open_log
from pytest_mlperf.core.logs.lines import parse_json
from pytest_mlperf.core.logs.lines import read_lines
from pytest_mlperf.core.logs.samples import MOST_SAMPLES

ACCURACY = "mlperf_log_accuracy.json"
ACCURACY_TXT = "accuracy.txt"

LONGEST_ANSWER = 1 << 26
"""Bytes of one record; the longest answers are pictures, two digits a byte."""
LONGEST_TEXT = 1 << 18
MOST_TEXT = 1 << 22
PUBLISHED = 10_240
"""Bytes that a published log may have (submission checker, MAX_ACCURACY_LOG_SIZE)."""
GAP = re.compile(rb"\r?\n\r?\n\.\.\.\r?\n\r?\n")
"""What truncate_accuracy_log.py puts where it cut."""
STRANGE = re.compile(rb"[^\w\s\"{}\[\]:,.]|[\x80-\xff]")
RESCORE = "score the accuracy log again, and keep one accuracy.txt"
HASH = re.compile(r"hash=((?!0{64})[0-9a-fA-F]{64})\s*$")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What accuracy.txt says."""

    metrics: Mapping[str, float]
    """Metric -> value, in the unit the file prints."""
    lines: Mapping[str, int]
    hashes: tuple[str, ...] = ()
    """sha256 of the accuracy logs it was computed from; empty when there is none. A log
    that was cut, and scored again, may have two."""

    def where(self, metric: str) -> str:
        """Return ``accuracy.txt:1``; the file alone when the metric is not there."""
        line = self.lines.get(metric)
        return f"{ACCURACY_TXT}:{line}" if line else ACCURACY_TXT


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in an accuracy log, without the answers."""

    entries: int
    samples: int
    """Different ones."""
    highest: int
    """Largest sample index; -1 without one."""
    empty: int
    """Entries with no data."""
    cut: bool = False
    """Only its beginning and end are there, as truncate_accuracy_log.py leaves them."""


def read_accuracy(folder: Path) -> dict[int, bytes]:
    """Return sample index -> answer from mlperf_log_accuracy.json, streaming.

    An index may come twice with the same answer, because MultiStream fills its last
    query up. Raises ``LogError`` for a log that is cut, that is no accuracy log, or
    that answers one sample in two ways.
    """
    path = folder / ACCURACY
    answers: dict[int, bytes] = {}
    for number, index, answer in read_entries(path, read_records(path)):
        if answers.setdefault(index, answer) != answer:
            raise _two_answers_error(path, number, index)
    return answers


def survey_answers(folder: Path) -> Survey:
    """Return what is in an accuracy log, whole or cut as for publication.

    Raises ``LogError`` where ``read_accuracy`` does, but for the legal cut. Holds no
    answers.
    """
    path = folder / ACCURACY
    if shown := _survey_cut_log(path):
        return shown
    seen: dict[int, int] = {}
    count = empty = 0
    for number, index, answer in read_entries(path, read_records(path)):
        count, empty = count + 1, empty + (not answer)
        if seen.setdefault(index, hash(answer)) != hash(answer):
            raise _two_answers_error(path, number, index)
    return Survey(count, len(seen), max(seen, default=-1), empty)


def _two_answers_error(path: Path, number: int, index: int) -> LogError:
    found = f"a second, different answer for sample {index}"
    remedy = "make the engine deterministic: LoadGen asked it twice"
    return LogError(path, number, found, "one answer a sample", remedy)


def read_records(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of every record and bracket of an accuracy log."""
    return join_records(read_lines(path, LONGEST_ANSWER))


def join_records(numbered: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield the lines with each record that was pretty-printed as one line.

    LoadGen writes one record a line; some submitters' tools wrote the log again.
    """
    parts: list[str] = []
    size = begun = 0
    for number, line in numbered:
        if not parts and line != "{":
            yield number, line
            continue
        begun = begun if parts else number
        parts.append(line)
        size += len(line)
        if line in ("}", "},") or size > LONGEST_ANSWER:
            yield begun, "".join(parts)
            parts, size = [], 0
    if parts:
        yield begun, "".join(parts)


def read_entries(
    path: Path, numbered: Iterable[tuple[int, str]]
) -> Iterator[tuple[int, int, bytes]]:
    """Yield line, sample index and answer of a whole log; ``LogError`` at damage."""
    opened = closed = False
    between = True
    number = 0
    for number, line in numbered:
        if closed:
            found = f"{line[:40]!r}"
            raise LogError(path, number, found, "nothing after the closing ]")
        if not opened:
            if line != "[":
                raise LogError(path, number, f"{line[:40]!r}", "an opening [")
            opened = True
        elif line == "]":
            closed = True
        else:
            if not between:
                raise LogError(path, number, "a record", "a comma before it")
            between = line.endswith(",")
            yield number, *_read_entry(path, number, line)
    if not closed:
        raise LogError(path, number, "the end of the log without ]", "a whole log")


def _read_entry(path: Path, number: int, line: str) -> tuple[int, bytes]:
    record = parse_json(path, number, line.removesuffix(","))
    try:
        index, data = record["qsl_idx"], record["data"]
        if type(index) is not int or not 0 <= index < MOST_SAMPLES:
            raise ValueError(f"qsl_idx {str(index)[:20]}")
        if type(record["seq_id"]) is not int:
            raise ValueError("seq_id is no number")
        return index, bytes.fromhex(data)
    except (KeyError, TypeError, ValueError) as error:
        found = f"{line[:60]!r} ({str(error)[:40]})"
        required = "a record with seq_id, qsl_idx and hexadecimal data"
        raise LogError(path, number, found, required) from None


def _survey_cut_log(path: Path) -> Survey | None:
    """Return what a log shows that was cut for publication; None for any other.

    The records on both sides of the gap are cut as well, and not read.
    """
    with open_log(path) as file:
        data = file.read(PUBLISHED + 1)
    if len(data) > PUBLISHED or not (gap := GAP.search(data)):
        return None
    if strange := STRANGE.search(data):
        number = data.count(b"\n", 0, strange.start()) + 1
        raise LogError(path, number, f"{strange[0]!r}", "a record, or a part of one")
    first = number_lines(data[: gap.start()], 1)
    last = number_lines(data[gap.end() :], data.count(b"\n", 0, gap.end()) + 1)[1:]
    if "{" in (line for _, line in first):
        # Pretty-printed: the rest of the record that was cut takes several lines.
        while last and last[0][1] not in ("{", "]"):
            last.pop(0)
    whole = [*list(join_records(first))[:-1], *join_records(last)]
    found_entries = list(read_entries(path, whole))
    indices = [index for _, index, _ in found_entries]
    empty = sum(not answer for _, _, answer in found_entries)
    highest = max(indices, default=-1)
    return Survey(len(indices), len(set(indices)), highest, empty, cut=True)


def number_lines(data: bytes, first: int) -> list[tuple[int, str]]:
    """Return number and text of the lines that are not blank."""
    lines = enumerate(data.decode().splitlines(), first)
    return [(number, text.strip()) for number, text in lines if text.strip()]


def read_accuracy_txt(
    folder: Path, name: str = ACCURACY_TXT, own: Iterable[str] = ()
) -> Accuracy:
    """Return the metrics of accuracy.txt by the official patterns, and its hash.

    ``own``: metrics to look for that may be in no round: ``NAME=VALUE``. Raises
    ``LogError`` for a missing or unreadable file, for a value that is no number, and
    for a second value that is another than the first.
    """
    path = folder / name
    patterns = _COMPILED | {one: re.compile(find_pattern(one)) for one in own}
    metrics: dict[str, float] = {}
    places: dict[str, int] = {}
    hashes: list[str] = []
    size = 0
    for number, text in read_lines(path, LONGEST_TEXT):
        size += len(text)
        if size > MOST_TEXT:
            found = f"more than {MOST_TEXT:,} characters"
            raise LogError(path, number, found, "what a scoring script prints")
        if hashed := HASH.match(text):
            hashes.append(hashed[1].lower())
            continue
        for metric, pattern in patterns.items():
            if not (match := pattern.search(text)):
                continue
            try:
                value = float(match[1])
            except ValueError:
                raise LogError(path, number, match[1][:40], "a number") from None
            if metrics.setdefault(metric, value) != value:
                found = f"{metric} {value:g}, at line {places[metric]}"
                found += f" {metrics[metric]:g}"
                raise LogError(path, number, found, "one value a metric", RESCORE)
            places.setdefault(metric, number)
    return Accuracy(metrics, places, tuple(hashes))


_COMPILED = {name: re.compile(metric.pattern) for name, metric in METRICS.items()}


def digest_log(folder: Path) -> str:
    """Return the sha256 of the accuracy log; ``LogError`` where it is missing."""
    path = folder / ACCURACY
    try:
        with open_log(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        found = f"{error.strerror or error}".lower()
        raise LogError(path, 0, found, "LoadGen's accuracy log") from None
