"""A batch from its indices to LoadGen: gathered, inferred, completed in one call."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any
from typing import Protocol
from typing import runtime_checkable

import numpy as np

from pytest_mlperf.api.engine import DeviceOutputs
from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.engine import GathersItself
from pytest_mlperf.api.engine import RunsItself
from pytest_mlperf.api.engine import ends_on_device
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.samples import check_responses
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import Infer
from pytest_mlperf.api.workload import RunsModel
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Scenario

NO_BATCH: Batch = {}

Ids = list[int]
CompleteBatch = Callable[[Ids, list[int]], None]
"""(LoadGen's ids, sample indices) -> the batch is answered and completed."""
CompleteRows = Callable[
    [Ids, int, int, Sequence[int] | None, Sequence[int] | None], None
]
"""(ids, address of the first row, bytes of a row, bytes of each row that count, output
tokens of each) -> all of them are completed in one call."""


@dataclass(frozen=True, slots=True)
class TokenTiming:
    """What LoadGen wants to hear of tokens."""

    tokens: bool = False
    """The round uses token latencies: every completion states its output tokens."""
    firsts: bool = False
    """LoadGen times first tokens: everywhere but in Offline."""


@runtime_checkable
class Remote(Protocol):
    """A stream whose engine is in another process: batches are handed over whole."""

    def complete_batch(
        self, complete_rows: CompleteRows, count: Callable[[int], None]
    ) -> CompleteBatch:
        """Return the function that has a batch answered and completes it."""


BatchStream = Engine | Remote
"""What answers batches: an engine here, or a stream of another process."""


Complete = Callable[..., None]
"""``QuerySamplesComplete``: LoadGen's responses, and what fetches their bytes late."""
SeeTokens = Callable[[Sequence[int] | None], None]
"""Is told the output tokens of answers before they are completed."""


def row_completer(
    timing: TokenTiming, see_tokens: SeeTokens | None, complete: Complete
) -> CompleteRows:
    """Return the function that completes rows lying one after another.

    One ``QuerySamplesComplete`` a batch: the largest single gain of the Python
    binding. LoadGen copies the bytes inside that call, so that they need to live no
    longer. Without sizes the whole row counts.

    An engine hands over whole answers: their first token arrives with the last.
    """
    from pytest_mlperf.sut.loadgen import first_token
    from pytest_mlperf.sut.loadgen import responses

    def complete_rows(
        ids: Ids,
        base: int,
        row: int,
        sizes: Sequence[int] | None,
        tokens: Sequence[int] | None,  # noqa: ARG001 - one shape
    ) -> None:
        spots = range(base, base + len(ids) * row, row) if row else repeat(base)
        complete(responses(ids, spots, sizes or repeat(row)))

    def complete_timed(
        ids: Ids,
        base: int,
        row: int,
        sizes: Sequence[int] | None,
        tokens: Sequence[int] | None,
    ) -> None:
        if tokens is None:
            raise ValueError(
                "the workload's respond() gave no tokens, but the round times them: "
                "return Responses(rows, sizes, tokens) with each answer's output tokens"
            )
        spots = range(base, base + len(ids) * row, row) if row else repeat(base)
        made = responses(ids, spots, sizes or repeat(row), tokens)
        if see_tokens:
            see_tokens(tokens)
        if timing.firsts:
            first_token(made)
        complete(made)

    return complete_timed if timing.tokens else complete_rows


def batch_completer(
    engine: BatchStream,
    workload: TensorWorkload,
    count: Callable[[int], None],
    timing: TokenTiming,
    see_tokens: SeeTokens | None = None,
    wrap: Callable[[Complete], Complete] | None = None,
) -> CompleteBatch:
    """Return the function that gathers, infers and completes one batch.

    A stream of another process has a way of its own. ``count`` hears how many samples
    were completed; ``wrap`` is put around each call that completes.
    """
    from pytest_mlperf.sut import loadgen

    complete: Complete = wrap(loadgen.complete) if wrap else loadgen.complete
    complete_rows = row_completer(timing, see_tokens, complete)
    if isinstance(engine, Remote):
        return engine.complete_batch(complete_rows, count)
    if engine.answers:
        return _answer_completer(engine, complete_rows, count, timing, complete)
    if isinstance(workload, RunsModel):
        return _run_completer(batch_answerer(engine, workload), complete_rows, count)
    gather = batch_gatherer(engine, workload.dataset)
    if ends_on_device(engine):
        return _late_completer(engine, workload, gather, count, complete)
    infer, respond = engine.infer, workload.respond

    def complete_batch(ids: Ids, indices: list[int]) -> None:
        size = len(ids)
        answers = respond(infer(gather(indices), size), indices)
        if type(answers) is not Responses:
            answers = check_responses(answers)
        rows, sizes, tokens = answers
        rows = check_rows(rows, size)
        complete_rows(ids, address(rows), rows.nbytes // size, sizes, tokens)
        count(size)

    return complete_batch


def _answer_completer(
    engine: Engine,
    complete_rows: CompleteRows,
    count: Callable[[int], None],
    timing: TokenTiming,
    complete: Complete,
) -> CompleteBatch:
    """Return the completion of an engine that gives finished answers (``null``)."""
    from pytest_mlperf.sut.loadgen import response

    infer, tokens = engine.infer, timing.tokens
    last: Array | None = None
    base = row = known = 0

    def complete_batch(ids: Ids, indices: list[int]) -> None:  # noqa: ARG001 - one shape
        nonlocal last, base, row, known
        size = len(ids)
        rows = infer(NO_BATCH, size)
        if rows is not last or size != known:
            last, known = check_rows(rows, size), size
            base, row = address(last), last.nbytes // size
        if size == 1 and not tokens:
            # SingleStream's latency: one call less.
            complete([response(ids[0], base, row)])
        else:
            complete_rows(ids, base, row, None, [1] * size if tokens else None)
        count(size)

    return complete_batch


def _run_completer(
    answer: Callable[[list[int]], Responses],
    complete_rows: CompleteRows,
    count: Callable[[int], None],
) -> CompleteBatch:
    """Return the completion of a workload that runs the model itself."""

    def complete_batch(ids: Ids, indices: list[int]) -> None:
        size = len(ids)
        rows, sizes, tokens = answer(indices)
        complete_rows(ids, address(rows), rows.nbytes // size, sizes, tokens)
        count(size)

    return complete_batch


def _late_completer(
    engine: Engine,
    workload: TensorWorkload,
    gather: Callable[[list[int]], Batch],
    count: Callable[[int], None],
    complete: Complete,
) -> CompleteBatch:
    """Return the completion of an engine whose outputs stay on the device.

    LoadGen gets the time of the completion first. Only where it wants to see an answer
    (accuracy runs, and the samples that an audit logs) does it call back for the
    bytes, and only then are they copied to the host: loadgen.cc, ``SampleComplete``.
    """
    from pytest_mlperf.sut.loadgen import response

    def complete_batch(ids: Ids, indices: list[int]) -> None:
        size = len(ids)
        outputs: DeviceOutputs = engine.infer(gather(indices), size)
        spots: dict[int, tuple[int, int]] = {}
        alive: list[Any] = []  # LoadGen copies from it inside the call
        failures: list[BaseException] = []

        def fetch(wanted: Any) -> None:
            try:
                if not spots:
                    rows, sizes, _ = workload.respond(outputs.fetch(), indices)
                    alive.append(check_rows(rows, size))
                    base, row = address(rows), rows.nbytes // size
                    for place, one in enumerate(ids):
                        length = sizes[place] if sizes else row
                        spots[one] = (base + place * row, length)
                wanted.data, wanted.size = spots[wanted.id]
            except BaseException as error:  # noqa: BLE001 - must not reach LoadGen
                failures.append(error)

        complete([response(one, 0, 0) for one in ids], fetch)
        if failures:
            raise failures[0]
        count(size)

    return complete_batch


def batch_answerer(
    engine: Engine, workload: TensorWorkload
) -> Callable[[list[int]], Responses]:
    """Return the function that gathers, infers and answers one batch, for a process
    that hands its answers on.
    """
    infer = engine.infer
    if engine.answers:

        def answer_blank(indices: list[int]) -> Responses:
            size = len(indices)
            rows = check_rows(infer(NO_BATCH, size), size)
            return Responses(rows, None, [1] * size)

        return answer_blank
    if isinstance(workload, RunsModel):
        run = model_runner(engine, workload)

        def answer_runs(indices: list[int]) -> Responses:
            rows, sizes, tokens = run(indices)
            return Responses(check_rows(rows, len(indices)), sizes, tokens)

        return answer_runs
    gather = batch_gatherer(engine, workload.dataset)
    respond = workload.respond

    def answer(indices: list[int]) -> Responses:
        size = len(indices)
        rows, sizes, tokens = respond(infer(gather(indices), size), indices)
        return Responses(check_rows(rows, size), sizes, tokens)

    return answer


def model_runner(
    engine: Engine, workload: RunsModel
) -> Callable[[Sequence[int]], Responses]:
    """Return what answers a batch whose samples take several runs of the model: the
    engine's own way where it has one.
    """
    own = engine.runner_for(workload) if isinstance(engine, RunsItself) else None
    return own or partial(workload.run_model, host_infer(engine))


def host_infer(engine: Engine) -> Infer:
    """Return the engine's ``infer`` with its outputs on the host."""
    infer = engine.infer
    if not ends_on_device(engine):
        return infer

    def fetch(batch: Batch, size: int) -> Sequence[Array]:
        outputs: DeviceOutputs = infer(batch, size)
        return outputs.fetch()

    return fetch


def batch_gatherer(
    engine: Engine, dataset: Dataset
) -> Callable[[Sequence[int]], Batch]:
    """Return what gathers a batch: the engine's own way where it has one."""
    own = engine.gather_from(dataset) if isinstance(engine, GathersItself) else None
    return own or dataset.gather


def check_rows(rows: Any, size: int) -> Array:
    """Return answers that LoadGen may read by address, or raise ``ValueError``."""
    if not isinstance(rows, np.ndarray) or rows.ndim < 1 or len(rows) != size:
        is_array = isinstance(rows, np.ndarray)
        found = rows.shape if is_array else type(rows).__name__
        raise ValueError(
            f"the engine answered with {found}, but should return {size} rows "
            f"for {size} samples: one answer a sample, in the order of the batch"
        )
    if not rows.flags.c_contiguous:
        raise ValueError(
            "answers must be C-contiguous to be handed over by address; "
            "use numpy.ascontiguousarray"
        )
    return rows


def address(array: Array) -> int:
    """Return the address of an array's first byte."""
    spot: int = array.__array_interface__["data"][0]
    return spot


def token_timing(settings: Settings) -> TokenTiming:
    """Return what LoadGen wants to hear of tokens."""
    timed = settings.token_latencies
    return TokenTiming(timed, timed and settings.scenario is not Scenario.OFFLINE)
