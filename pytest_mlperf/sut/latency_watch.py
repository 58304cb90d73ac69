"""Reads, a few times a second, how late a running test's queries are.

It looks at what the hot path has noted anyway (``QueryRecorder``), on the heartbeat's
thread, and only at what is new since its last look: a copy of some integers and a
histogram, so that the hot path does nothing for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pytest_mlperf.core.late_queries import LatencySoFar
from pytest_mlperf.core.late_queries import count_most_late
from pytest_mlperf.core.late_queries import count_most_queries
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.sut import query_recorder
from pytest_mlperf.sut.query_recorder import QueryRecorder
from pytest_mlperf.sut.query_recorder import StreamNotes

EDGES = np.geomspace(1e2, 1e13, 2546)
"""Of the histogram's latencies: 100 ns to 2.8 hours in steps of 1 %."""
FIRST_ROOM = 4096
TPOT_SLACK = 1.02
"""A time per output token is late beyond doubt above so much of its bound: LoadGen
notes the first token some microseconds after the recorder."""


class Histogram:
    """Latencies by 1 %, and how many of them were above the bound."""

    def __init__(self, name: str, bound_ns: int | None, slack: float = 1.0) -> None:
        self.name = name
        self.bound_ns = bound_ns
        self.late = 0
        self._late_ns = np.inf if bound_ns is None else bound_ns * slack
        self._counts = np.zeros(len(EDGES) + 1, np.int64)

    def add(self, latencies: Any) -> None:
        """Count an array of latencies, ns."""
        places = np.searchsorted(EDGES, latencies)
        self._counts += np.bincount(places, minlength=len(self._counts))
        self.late += int((latencies > self._late_ns).sum())

    def at(self, percentile: float) -> int | None:
        """Return the latency at a percentile, ns; None without any."""
        sums = self._counts.cumsum()
        if not sums[-1]:
            return None
        place = int(np.searchsorted(sums, int(sums[-1] * percentile), side="right"))
        return int(EDGES[min(place, len(EDGES) - 1)])


class LatencyWatch:
    """One run's latencies so far.

    A query counts from its issue, which LoadGen schedules no later, to the call that
    completes it: what is late here is late in LoadGen's log. Of a run whose recorder
    notes every second, third ... query, only those are counted.
    """

    def __init__(
        self, recorder: QueryRecorder, settings: Settings, *, must_prove: bool
    ) -> None:
        """``must_prove``: the round has early stopping."""
        self._recorder = recorder
        self._percentile = settings.percentile
        self._queries = count_most_queries(settings)
        self._most_late = self._queries and count_most_late(
            self._queries, settings.percentile or 1.0, must_prove=must_prove
        )
        self._tokens = settings.token_latencies
        bound = settings.ttft_ns if self._tokens else settings.target_latency_ns
        name = "TTFT" if self._tokens else "latency"
        self._latency = Histogram(name, bound if self._queries else None)
        self._tpot = Histogram("TPOT", settings.tpot_ns, TPOT_SLACK)
        self._issued = np.zeros(FIRST_ROOM, np.int64)
        self._is_answered = np.zeros(FIRST_ROOM, bool)
        self._count = 0
        """Of both arrays, how much is filled: copying all of them at each look would
        take the longer the more queries there are."""
        self._read: dict[int, tuple[int, int, int]] = {}
        """Stream -> batches' integers and rows that were read, and its ``every``."""
        self._looked_ns = 0
        self._overdue = 0

    def look(self) -> tuple[LatencySoFar, ...]:
        """Return the percentiles so far; nothing where none is asked for (Offline)."""
        if self._percentile is None:
            return ()
        if fresh := self._recorder.issued[self._count :]:
            self._add_issued(np.array(fresh, np.int64))
        for number, notes in enumerate(self._recorder.streams):
            self._read_stream(number, notes)
        self._overdue = self._count_overdue()
        self._looked_ns = query_recorder.now()
        return tuple(
            found
            for one in (self._latency, self._tpot)
            if (found := self._describe(one)) is not None
        )

    def _add_issued(self, fresh: Any) -> None:
        count = self._count + len(fresh)
        if count > len(self._issued):
            room = 2 * count
            self._issued = np.resize(self._issued, room)
            answered, self._is_answered = self._is_answered, np.zeros(room, bool)
            self._is_answered[: self._count] = answered[: self._count]
        self._issued[self._count : count] = fresh
        self._count = count

    def _read_stream(self, number: int, notes: StreamNotes) -> None:
        seen, seen_rows, every = self._read.get(number, (0, 0, notes.every))
        if every != notes.every:  # thinned: what is left was read before
            seen = len(notes.batches) // 4 * 4
            self._read[number] = (seen, seen_rows, notes.every)
            return
        batches = notes.batches[seen : len(notes.batches) // 4 * 4]
        if not batches:
            return
        began, ended, _, counts = np.array(batches, np.int64).reshape(-1, 4).T
        rows = seen_rows
        if self._count:
            # Rows are noted before their batch.
            rows += int(counts.sum())
            places = np.array(notes.rows[seen_rows:rows], np.int64)
            places //= self._recorder.every
            tokens = np.array(notes.tokens[seen_rows:rows], np.int64)
            self._add_queries(places, np.repeat(ended, counts), tokens)
        else:  # a batch is a query of a stream
            self._latency.add(ended - began)
        self._read[number] = (seen + len(batches), rows, every)

    def _add_queries(self, places: Any, ended: Any, tokens: Any) -> None:
        """Count queries by their place among the issued ones."""
        is_known = places < self._count
        places, ended = places[is_known], ended[is_known]
        self._is_answered[places] = True
        firsts = ended
        if self._recorder.firsts:
            get, every = self._recorder.firsts.get, self._recorder.every
            pairs = zip((places * every).tolist(), ended.tolist(), strict=True)
            firsts = np.array([get(one, at) for one, at in pairs], np.int64)
            if len(tokens) == len(is_known):
                later = tokens[is_known] - 1
                timed = later > 0
                self._tpot.add((ended - firsts)[timed] / later[timed])
        self._latency.add((firsts if self._tokens else ended) - self._issued[places])

    def _count_overdue(self) -> int:
        """Return how many queries are late without an answer.

        Those that were overdue at the last look already: a stream that stands between
        LoadGen's call and its note has had a heartbeat's time to write it.
        """
        bound = self._latency.bound_ns
        if bound is None or self._tokens:
            return 0
        issued = self._issued[: self._count]
        due = np.searchsorted(issued, self._looked_ns - bound)
        return int(due) - int(self._is_answered[:due].sum())

    def _describe(self, one: Histogram) -> LatencySoFar | None:
        assert self._percentile is not None
        value = one.at(self._percentile)
        if value is None:
            return None
        most, late = None, one.late
        if self._queries is not None and one.bound_ns is not None:
            late += self._overdue if one is self._latency else 0
            most = self._most_late
        return LatencySoFar(
            one.name, self._percentile, value, one.bound_ns, late, most,
            self._queries or 0,
        )  # fmt: skip
