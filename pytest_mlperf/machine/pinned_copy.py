"""Measures copies between pinned host memory and one GPU, with torch or pycuda.

The device's clock times the copies: two events around them, on separate streams.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from typing import Protocol

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core.residency.rules import Probe

SIZE = 256 << 20
"""Bytes of one copy: large enough to make its start-up negligible."""
COPIES = 8
ROUNDS = 3


class Copies(Protocol):
    """Copies of one size on one device."""

    name: str

    def time_copies(self, ways: Sequence[str], copies: int) -> float:
        """Copy ``copies`` times each way, all ways at once; return seconds."""

    def close(self) -> None: ...


def measure_bandwidth(
    size: int = SIZE,
    copies: int = COPIES,
    rounds: int = ROUNDS,
    open_: Callable[[int], Copies] | None = None,
) -> Probe:
    """Return the bandwidth of the first visible GPU, the best of some rounds.

    Raises ``RequirementMissing`` when neither torch nor pycuda can use a GPU.
    """
    pair = (open_ or open_copies)(size)
    try:
        pair.time_copies(("in", "out"), 1)  # the first copy pays for mapping and clocks
        best = {
            ways: max(
                len(ways) * copies * size / pair.time_copies(ways, copies)
                for _ in range(rounds)
            )
            for ways in (("in",), ("out",), ("in", "out"))
        }
        name = pair.name
    finally:
        pair.close()
    return Probe(best["in",], best["out",], best["in", "out"], name, size)


def open_copies(size: int) -> Copies:
    """Return copies by torch, else by pycuda."""
    problems = []
    for package, make in (("torch", _Torch), ("pycuda", _Pycuda)):
        if importlib.util.find_spec(package) is None:
            problems.append(f"{package} is not installed")
            continue
        try:
            return make(size)
        except (ImportError, RuntimeError) as error:
            problems.append(f"{package}: {error}")
    raise RequirementMissing(
        f"no GPU to copy to ({'; '.join(problems)}): run on a machine with one and "
        "install torch with CUDA, or pycuda"
    )


class _Torch:
    def __init__(self, size: int) -> None:
        self.torch: Any = importlib.import_module("torch")
        if not self.torch.cuda.is_available():
            raise RuntimeError("torch sees no CUDA device")
        self.name = f"{self.torch.cuda.get_device_name(0)} (torch)"
        self.host: dict[str, Any] = {}
        self.device: dict[str, Any] = {}
        self.streams: dict[str, Any] = {}
        for way in ("in", "out"):
            kinds = {"dtype": self.torch.uint8}
            self.host[way] = self.torch.empty(size, pin_memory=True, **kinds)
            self.device[way] = self.torch.empty(size, device="cuda", **kinds)
            self.streams[way] = self.torch.cuda.Stream()

    def time_copies(self, ways: Sequence[str], copies: int) -> float:
        cuda = self.torch.cuda
        began, ended = (cuda.Event(enable_timing=True) for _ in range(2))
        cuda.synchronize()
        began.record()
        for way in ways:
            self.streams[way].wait_event(began)
        for _ in range(copies):
            for way in ways:
                with cuda.stream(self.streams[way]):
                    pair = self.device[way], self.host[way]
                    target, source = pair if way == "in" else pair[::-1]
                    target.copy_(source, non_blocking=True)
        for way in ways:
            cuda.current_stream().wait_stream(self.streams[way])
        ended.record()
        ended.synchronize()
        return float(began.elapsed_time(ended)) / 1e3

    def close(self) -> None:
        self.torch.cuda.synchronize()
        self.host, self.device, self.streams = {}, {}, {}


class _Pycuda:
    def __init__(self, size: int) -> None:
        self.driver: Any = importlib.import_module("pycuda.driver")
        try:
            self.driver.init()
            device = self.driver.Device(0)
        except self.driver.Error as error:
            raise RuntimeError(str(error)) from error
        self.context = device.make_context()
        self.name = f"{device.name()} (pycuda)"
        self.host: dict[str, Any] = {}
        self.device: dict[str, Any] = {}
        self.streams: dict[str, Any] = {}
        try:
            for way in ("in", "out"):
                self.host[way] = self.driver.pagelocked_empty(size, "uint8")
                self.device[way] = self.driver.mem_alloc(size)
                self.streams[way] = self.driver.Stream()
        except self.driver.Error as error:
            self.close()
            raise RuntimeError(str(error)) from error

    def time_copies(self, ways: Sequence[str], copies: int) -> float:
        driver = self.driver
        began = driver.Event()
        ends = [driver.Event() for _ in ways]
        self.context.synchronize()
        first = self.streams[ways[0]]
        began.record(first)
        for way in ways[1:]:
            self.streams[way].wait_for_event(began)
        for _ in range(copies):
            for way in ways:
                host, device, stream = self._of(way)
                if way == "in":
                    driver.memcpy_htod_async(device, host, stream)
                else:
                    driver.memcpy_dtoh_async(host, device, stream)
        for way, end in zip(ways, ends, strict=True):
            end.record(self.streams[way])
            end.synchronize()
        return max(float(began.time_till(end)) for end in ends) / 1e3

    def _of(self, way: str) -> tuple[Any, Any, Any]:
        return self.host[way], self.device[way], self.streams[way]

    def close(self) -> None:
        with suppress(self.driver.Error):
            self.context.synchronize()
        self.host, self.device, self.streams = {}, {}, {}
        self.context.pop()
        self.context.detach()
