"""Completion of batches whose results stay on the device (``end_on_device``).

LoadGen gets the time of the completion first. Only where it wants to see an answer
(accuracy runs, and the samples that an audit logs) does it call back for the bytes, and
only then are they copied to the host: loadgen.cc, ``SampleComplete``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.engine import Resting
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import Workload
from pytest_mlperf.sut.completion import Work
from pytest_mlperf.sut.completion import address
from pytest_mlperf.sut.completion import checked


def completion(
    engine: Engine,
    workload: Workload,
    gather: Callable[[list[int]], Batch],
    count: Callable[[int], None],
) -> Work:
    """Return the function that infers and completes one batch before it is fetched."""
    from pytest_mlperf.sut.loadgen import complete
    from pytest_mlperf.sut.loadgen import response

    def work(ids: list[int], indices: list[int]) -> None:
        size = len(ids)
        outputs: Resting = engine.infer(gather(indices), size)
        spots: dict[int, tuple[int, int]] = {}
        kept: list[Any] = []  # LoadGen copies from it inside the call
        failures: list[BaseException] = []

        def bring(wanted: Any) -> None:
            try:
                if not spots:
                    rows, sizes = workload.respond(outputs.fetch(), indices)
                    kept.append(checked(rows, size))
                    base, row = address(rows), rows.nbytes // size
                    for place, one in enumerate(ids):
                        length = sizes[place] if sizes else row
                        spots[one] = (base + place * row, length)
                wanted.data, wanted.size = spots[wanted.id]
            except BaseException as error:  # noqa: BLE001 - must not reach LoadGen
                failures.append(error)

        complete([response(one, 0, 0) for one in ids], bring)
        if failures:
            raise failures[0]
        count(size)

    return work
