"""How samples are fetched: addresses, and the CUDA runtime's calls by its version."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.api.samples import Batch
from pytest_mlperf.engines.torch import host_fetch
from pytest_mlperf.engines.torch import padded

ROW = 12
STREAM = 1


@pytest.fixture(
    scope="module",
    params=[(12040, 13000), (12080, 12080), (13000, 13000), (13000, 12040)],
    ids=lambda pair: f"runtime {pair[0]} driver {pair[1]}",
)
def runtime(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, str]:
    """Return what CUDA runtime and driver both know, and the runtime's interface."""
    version, driver = request.param
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler (cc) to make a library with CUDA's interface")
    path = tmp_path_factory.mktemp("cuda") / f"libcudart.so.{version}"
    source = Path(__file__).parents[2] / "support" / "cudart_double.c"
    defined = (f"-DVERSION={version}", f"-DDRIVER={driver}")
    subprocess.run(
        [compiler, "-shared", "-fPIC", *defined, "-o", path, source], check=True
    )
    return min(version, driver), str(path)


class Place:
    """A device tensor, as far as its address."""

    def __init__(self, rows: int) -> None:
        self.memory = np.zeros((rows, ROW), np.int8)

    def data_ptr(self) -> int:
        return self.memory.ctypes.data


def samples() -> Any:
    return np.arange(20 * ROW).reshape(20, ROW).astype(np.int8)


def test_every_runtime_fetches_the_chosen_samples(runtime: tuple[int, str]) -> None:
    """The two signatures of the batch call, and one call a sample before it."""
    version, path = runtime
    copier = host_fetch.choose_copier(path)
    chosen, library, place = np.array([7, 3, 4, 19, 0], np.int32), samples(), Place(6)
    spans = host_fetch.find_spans(chosen, place.data_ptr(), library.ctypes.data, ROW)
    copier.copy(*spans, STREAM)
    calls = ctypes.c_int.in_dll(ctypes.CDLL(path), "calls")

    assert library[chosen].tolist() == place.memory[:5].tolist()
    assert not place.memory[5].any()
    assert calls.value == (1 if version >= host_fetch.BATCH_SINCE else 4)
    assert ("Batch" in copier.name) == (version >= host_fetch.BATCH_SINCE)


def test_runs_of_rows_are_fetched_one_after_another(
    runtime: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ragged batch of two inputs, whose rows have different sizes."""
    copier = host_fetch.choose_copier(runtime[1])
    monkeypatch.setattr(host_fetch, "find_copier", lambda: copier)
    wide, narrow = samples(), samples()[:, :4].copy()
    registered = host_fetch.RegisteredArrays({"wide": wide, "narrow": narrow})
    places = {"wide": Place(8), "narrow": Place(8)}
    spans = np.array([[7, 10], [2, 3], [15, 18]])
    registered.fetch_spans(spans, places, STREAM)
    rows = [7, 8, 9, 2, 15, 16, 17]

    assert places["wide"].memory[:7].tolist() == wide[rows].tolist()
    assert not places["wide"].memory[7].any()
    flat = places["narrow"].memory.ravel()
    assert flat[:28].reshape(7, 4).tolist() == narrow[rows].tolist()
    assert not flat[28:].any()


def test_a_refused_copy_is_an_error_with_its_code(runtime: tuple[int, str]) -> None:
    """The double refuses what has no stream, as it would any wrong parameter."""
    copier = host_fetch.choose_copier(runtime[1])
    library, place = samples(), Place(1)
    spans = host_fetch.find_spans(
        np.zeros(1, np.int32), place.data_ptr(), library.ctypes.data, ROW
    )

    with pytest.raises(RuntimeError, match=r"returned 1.*should be 0"):
        copier.copy(*spans, 0)


def test_what_is_no_cuda_runtime_is_no_copier() -> None:
    """A library without its calls is told from one with them."""
    with pytest.raises(AttributeError):
        host_fetch.choose_copier("libc.so.6")


@given(st.lists(st.integers(0, 50), max_size=60))
def test_spans_are_the_samples_in_their_order(chosen: list[int]) -> None:
    """One copy a run of neighbours moves exactly what one a sample would."""
    target, source = 1 << 40, 1 << 33
    places, firsts, sizes = host_fetch.find_spans(
        np.array(chosen, np.int32), target, source, ROW
    )
    copied = [
        (place + step, first + step)
        for place, first, size in zip(
            places.tolist(), firsts.tolist(), sizes.tolist(), strict=True
        )
        for step in range(0, size, ROW)
    ]
    wanted = [(target + i * ROW, source + n * ROW) for i, n in enumerate(chosen)]

    assert copied == wanted
    assert all(kind == np.uint64 for kind in (places.dtype, firsts.dtype, sizes.dtype))


@given(st.integers(0, 49), st.integers(1, 50))
def test_neighbours_are_one_copy(first: int, count: int) -> None:
    """Samples in the library's order cross the bus in one transfer."""
    _, _, sizes = host_fetch.find_spans(np.arange(first, first + count), 0, 0, ROW)

    assert sizes.tolist() == [count * ROW]


def test_streams_that_ask_at_once_register_the_samples_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver refuses memory that is registered already; nobody fetches before."""
    registered: list[int] = []

    def pin(array: Any) -> bool:
        address = array.ctypes.data
        if address in registered:
            return False
        time.sleep(0.01)
        registered.append(address)
        return True

    monkeypatch.setattr(host_fetch, "_pin", pin)
    monkeypatch.setattr(host_fetch, "find_copier", lambda: host_fetch.HostCopier)
    monkeypatch.setattr(host_fetch.RegisteredArrays, "release", lambda _: None)
    library, arrays = (
        host_fetch.RegisteredArrays(),
        {"pictures": samples(), "more": samples()},
    )
    with ThreadPoolExecutor(6) as pool:
        held = list(pool.map(library.register, [arrays] * 6))

    assert held == [True] * 6
    assert len(registered) == len(arrays)
    assert library.arrays is arrays


def test_a_dataset_in_a_refused_ones_place_is_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python gives the memory of what is gone, and so its number, to the next one."""
    answers = [False, True]
    monkeypatch.setattr(host_fetch, "_pin", lambda _: answers.pop(0))
    monkeypatch.setattr(host_fetch, "find_copier", lambda: host_fetch.HostCopier)
    monkeypatch.setattr(host_fetch.RegisteredArrays, "release", lambda _: None)
    library, arrays = host_fetch.RegisteredArrays(), {"pictures": samples()}
    number = id(arrays)

    assert not library.register(arrays)
    assert not library.register(arrays)  # nor asked again
    del arrays
    others = [{"pictures": samples()} for _ in range(100)]
    (same,) = [other for other in others if id(other) == number]

    assert library.register(same)


class Eager(padded.PaddedStream):
    """A stream that shows what it would compute without a CUDA graph."""

    def __init__(self) -> None:
        self.model = padded.PaddedModel(None, fixed=True)  # type: ignore[arg-type]

    def _run_eagerly(self, batch: Batch, size: int) -> Any:
        return batch, size


def test_a_batch_beyond_every_graph_is_gathered_on_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its indices are not what the model is fed."""
    library = host_fetch.RegisteredArrays({"pictures": samples()})
    monkeypatch.setattr(padded, "REGISTERED", library)
    size = padded.GRAPH_SIZES[-1] + 1
    chosen = np.arange(size, dtype=np.int32) % 20
    found: Any = Eager().infer({host_fetch.INDICES: chosen}, size)
    batch, count = found

    assert count == size
    assert list(batch) == ["pictures"]
    assert np.array_equal(samples()[chosen], batch["pictures"])
