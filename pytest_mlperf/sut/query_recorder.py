"""Notes when each query was issued, begun and completed, at the hot path's pace.

What is noted while LoadGen runs is a few integers in arrays, most of them once a batch;
columns are made of them afterwards. Two clocks are read a batch and one a query.

A query that a stream's queue keeps has a number, in a dictionary from LoadGen's id as
long as it is outstanding. Where a call of LoadGen's is answered whole or in known parts
(streams, Offline), the batches say it all.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import Protocol
from typing import runtime_checkable

import numpy as np

from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.reporting.query_record import QueryRecord
from pytest_mlperf.sut.completion import Complete
from pytest_mlperf.sut.completion import CompleteBatch
from pytest_mlperf.sut.completion import Ids

MOST = 1 << 18
"""Rows that are kept, about: 262,144 of them are 5 MB in the file. Of more queries
every second, third … is recorded."""
Columns = dict[str, Any]
now = time.perf_counter_ns


@dataclass(slots=True)
class StreamNotes:
    """What one stream answered."""

    batches: array[int] = field(default_factory=lambda: array("q"))
    """Four a batch: begun, completed, samples, rows of it."""
    rows: array[int] = field(default_factory=lambda: array("q"))
    """Queries' numbers, in the order of the batches; empty where a row is a batch."""
    tokens: array[int] = field(default_factory=lambda: array("q"))
    """Of each row, where the round times tokens."""
    every: int = 1
    """One batch of so many was kept, where a row is a batch."""
    last: Sequence[int] | None = None
    """Tokens of the answers to the batch at hand."""
    completed_at: int = 0
    """When the batch at hand was given to LoadGen."""

    def see_tokens(self, tokens: Sequence[int] | None) -> None:
        """Note the tokens of the answers that are about to be completed."""
        self.last = tokens

    def time_completion(self, complete: Complete) -> Complete:
        """Return ``complete``, which then notes when it is called."""

        def complete_noted(*made: Any) -> None:
            self.completed_at = now()
            complete(*made)

        return complete_noted

    def thin(self, factor: int) -> None:
        """Keep one batch of ``factor``."""
        kept = np.array(self.batches, np.int64).reshape(-1, 4)[::factor]
        self.batches = array("q", kept.tobytes())
        self.tokens = self.tokens[::factor]
        self.every *= factor


class QueryRecorder:
    """One run's notes. Streams write their own; LoadGen's thread the issue."""

    def __init__(self, planned: int | None, devices: int = 1) -> None:
        """``planned``: queries of the run, where that is known; ``devices``: whose
        streams alternate.
        """
        self.every = -(-(planned or 1) // MOST)
        """Of the queries that have a number."""
        self.streams: list[StreamNotes] = []
        self.issued = array("q")
        """When each of those was issued, as ``now`` has it."""
        self.firsts: dict[int, int] = {}
        """Query's number -> when its first token came."""
        self._devices = devices
        self._numbers: dict[int, int] = {}
        """LoadGen's id of an outstanding query -> its number, if it is recorded."""
        self._count = 0

    def open_stream(self) -> StreamNotes:
        """Return the notes of the next stream."""
        notes = StreamNotes()
        self.streams.append(notes)
        return notes

    def issue(self, ids: Ids) -> None:
        """Number queries that are about to be queued."""
        at, count, every = now(), self._count, self.every
        for one in ids:
            if not count % every:
                self._numbers[one] = count
                self.issued.append(at)
            count += 1
        self._count = count

    def issue_whole(self) -> None:
        """Note when the one query of Offline came."""
        self.issued.append(now())

    def see_firsts(self, ids: Ids) -> None:
        """Note that these queries' first tokens have come."""
        at, known = now(), self._numbers
        self.firsts.update((known[one], at) for one in ids if one in known)

    def complete(
        self, notes: StreamNotes, ids: Ids, tokens: Sequence[int], at: int
    ) -> None:
        """Note that a service's answers to these queries were completed ``at``."""
        pop, found = self._numbers.pop, []
        for one, count in zip(ids, tokens, strict=True):
            if (number := pop(one, -1)) >= 0:
                found.append(number)
                notes.tokens.append(count)
        notes.rows.extend(found)
        notes.batches.extend((-1, at, 0, len(found)))

    def note_queries(self, work: CompleteBatch, notes: StreamNotes) -> CompleteBatch:
        """Return ``work`` for batches of queries that have numbers.

        Its completions are timed by ``notes.time_completion``.
        """
        pop, batches, rows = self._numbers.pop, notes.batches, notes.rows

        def work_noted(ids: Ids, indices: list[int]) -> None:
            began = now()
            work(ids, indices)
            numbers = [pop(one, -1) for one in ids]
            if notes.last is not None:
                pairs = zip(numbers, notes.last, strict=True)
                notes.tokens.extend(count for number, count in pairs if number >= 0)
            if self.every > 1:
                numbers = [number for number in numbers if number >= 0]
            if numbers:
                rows.extend(numbers)
                batches.extend((began, notes.completed_at, len(ids), len(numbers)))

        return work_noted

    @staticmethod
    def note_batches(work: CompleteBatch, notes: StreamNotes) -> CompleteBatch:
        """Return ``work`` for batches that are a row each."""
        skip = 0
        full = 8 * MOST

        def work_noted(ids: Ids, indices: list[int]) -> None:
            nonlocal skip
            began = now()
            work(ids, indices)
            if skip:
                skip -= 1
                return
            notes.batches.extend((began, now(), len(ids), 1))
            if notes.last is not None:
                notes.tokens.append(sum(notes.last))
            if len(notes.batches) > full:
                notes.thin(2)
            skip = notes.every - 1

        return work_noted

    def make_record(self, settings: Settings) -> QueryRecord | None:
        """Return the run's columns; None where nothing was answered."""
        widest = max((notes.every for notes in self.streams), default=1)
        for notes in self.streams:
            notes.thin(widest // notes.every)
        parts = [
            self._stream_columns(stream, notes)
            for stream, notes in enumerate(self.streams)
            if notes.batches
        ]
        if not parts:
            return None
        columns = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        self._add_issue(columns, widest)
        _add_schedule(columns, settings)
        if settings.token_latencies and not self.firsts:
            # An engine hands over whole answers: the first token comes with the last.
            columns["first_token_ns"] = columns["completed_ns"].copy()
        _begin_at_zero(columns)
        order = np.lexsort((columns["completed_ns"], columns["query"]))
        return QueryRecord(
            {name: values[order] for name, values in columns.items()},
            max(widest, self.every),
        )

    def _stream_columns(self, stream: int, notes: StreamNotes) -> Columns:
        began, ended, size, rows = np.array(notes.batches, np.int64).reshape(-1, 4).T
        count = int(rows.sum())
        tokens = np.array(notes.tokens, np.int64)
        whole = not notes.rows
        return {
            "query": np.full(count, -1) if whole else np.array(notes.rows, np.int64),
            "started_ns": np.repeat(began, rows),
            "completed_ns": np.repeat(ended, rows),
            "batch": np.repeat(size, rows),
            "samples": size.copy() if whole else np.ones(count, np.int64),
            "tokens": tokens if len(tokens) == count else np.full(count, -1),
            "stream": np.full(count, stream),
            "device": np.full(count, stream % self._devices),
        }

    def _add_issue(self, columns: Columns, every: int) -> None:
        """Add when each query was issued, and when its first token came."""
        query, issued = columns["query"], np.array(self.issued, np.int64)
        columns["first_token_ns"] = np.full(len(query), -1)
        if self._count:
            columns["issued_ns"] = issued[query // self.every]
        elif len(issued):  # Offline
            columns["query"] = np.zeros_like(query)
            columns["issued_ns"] = np.full(len(query), issued[0])
        else:  # answered inside LoadGen's call
            columns["query"] = np.arange(len(query)) * every
            columns["issued_ns"] = columns["started_ns"].copy()
        if self.firsts:
            get = self.firsts.get
            firsts = (get(number, -1) for number in query.tolist())
            columns["first_token_ns"] = np.fromiter(firsts, np.int64, len(query))


@runtime_checkable
class RecordsQueries(Protocol):
    """A system under test whose queries can be noted one by one."""

    def record(self, recorder: QueryRecorder) -> None:
        """Note the queries from now on; called before LoadGen starts."""


def _add_schedule(columns: Columns, settings: Settings) -> None:
    """Add when each query was due, on the clock of the notes.

    LoadGen does not tell. Its Server schedule follows from seed and rate, though
    (loadgen.cc, ``GenerateQueries``: std::exponential_distribution over std::mt19937),
    and no query is issued early: the one that was least late was late by nothing.
    """
    issued, query = columns["issued_ns"], columns["query"]
    columns["scheduled_ns"] = issued.copy()
    is_server = settings.scenario in BOUNDED
    if is_server and settings.target_qps:
        due = _list_due(settings.seeds.schedule, settings.target_qps, query)
        columns["scheduled_ns"] = due + (issued - due).min()


def _list_due(seed: int, rate: float, query: Any) -> Any:
    """Return when each of these queries is due, ns after the first."""
    last = int(query.max())
    # init_genrand takes 32 bits, as std::mt19937 does of a larger seed.
    bits = np.random.RandomState(seed & 0xFFFFFFFF)._bit_generator
    due, base, step = np.empty(len(query), np.int64), 0, 1 << 20
    order = np.argsort(query, kind="stable")
    ranked = query[order]
    for start in range(0, last + 1, step):
        low, high = bits.random_raw(2 * step).reshape(-1, 2).astype(np.float64).T
        share = np.minimum((low + high * 2.0**32) / 2.0**64, np.nextafter(1.0, 0.0))
        gaps = (-np.log(1.0 - share) / rate * 1e9).astype(np.int64)
        times = base + np.concatenate(([0], np.cumsum(gaps)))
        mine = slice(*np.searchsorted(ranked, (start, start + step)))
        due[order[mine]] = times[ranked[mine] - start]
        base = int(times[-1])
    return due


def _begin_at_zero(columns: Columns) -> None:
    first = columns["scheduled_ns"].min()
    for name, values in columns.items():
        if name.endswith("_ns"):
            columns[name] = np.where(values < 0, -1, values - first)
