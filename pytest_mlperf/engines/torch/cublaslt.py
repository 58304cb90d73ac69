"""Matrix products by cuBLASLt with what PyTorch's own calls leave out: GELU and a
residual inside the product, and fp8 in and out. The library is the one PyTorch loaded.

Row-major throughout: ``out[rows, n] = act(x[rows, k] @ weight[n, k].T + bias) + add``.
Names and numbers are those of NVIDIA's cublasLt.h.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

WORKSPACE = 64 << 20
"""Bytes; NVIDIA's advice for Hopper is 32 MiB."""
CANDIDATES = 8
"""Algorithms that the heuristic may propose, best first."""

_COMPUTE_32F, _REAL_32F, _OP_T = 68, 0, 1
_TRANSA, _EPILOGUE, _BIAS, _FAST_ACCUM, _BIAS_TYPE = 3, 7, 8, 25, 26
_SCALE_A, _SCALE_B, _SCALE_D = 17, 18, 20
_PREFER_WORKSPACE = 1
_EPILOGUES = {None: 4, "relu": 6, "gelu": 36}  # each of them with a bias
_Word = ctypes.c_void_p


class _Heuristic(ctypes.Structure):
    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


class BlasError(Exception):
    """cuBLASLt refused; the text names call, status and problem."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One product's shape and types; plans are kept by it."""

    rows: int
    n: int
    k: int
    into: Any
    """torch dtype of ``out``."""
    of: Any
    """torch dtype of ``x`` and ``weight``."""
    activation: str | None
    add: bool


class Blas:
    """A cuBLASLt handle with its workspace: one a stream, used by one thread."""

    def __init__(self, device: Any, choices: dict[Problem, int] | None = None) -> None:
        import torch

        self._torch = torch
        self._lib = _library()
        self._handle = _Word()
        self._call("cublasLtCreate", ctypes.byref(self._handle))
        self.workspace = torch.empty(WORKSPACE, dtype=torch.uint8, device=device)
        self._codes = {
            torch.float32: 0,
            torch.float16: 2,
            torch.bfloat16: 14,
            torch.float8_e4m3fn: 28,
        }
        self.choices = {} if choices is None else choices
        """Problem -> the algorithm that ``tune`` found fastest; may be shared."""
        self._plans: dict[tuple[Problem, int, int], tuple[Any, ...]] = {}
        self._found: dict[Problem, list[_Heuristic]] = {}
        self._one, self._zero = ctypes.c_float(1.0), ctypes.c_float(0.0)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._lib, name)(*arguments)
        if status:
            raise BlasError(f"{name} returned status {status}, but should return 0")

    def _set(self, descriptor: Any, attribute: int, value: Any) -> None:
        self._call(
            "cublasLtMatmulDescSetAttribute",
            descriptor,
            attribute,
            ctypes.byref(value),
            ctypes.c_size_t(ctypes.sizeof(value)),
        )

    def linear(
        self,
        x: Any,
        weight: Any,
        bias: Any,
        out: Any,
        *,
        activation: str | None = None,
        add: Any = None,
        scales: tuple[Any, Any, Any] | None = None,
        choice: int | None = None,
    ) -> None:
        """Compute one product on the current stream.

        ``scales`` (fp8 only): float32 scalars on the device that ``x`` and ``weight``
        are multiplied by, and that ``out`` is multiplied by where it is fp8.
        """
        rows, n = out.shape
        problem = Problem(
            rows, n, x.shape[1], out.dtype, x.dtype, activation, add is not None
        )
        if choice is None:
            choice = self.choices.get(problem, 0)
        # A plan holds pointers to bias and scales: those of one layer.
        key = (problem, bias.data_ptr(), choice)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._plan(problem, bias, scales, choice)
        product, a, b, c, d, found = plan
        # Unread where nothing is added; it may not be ``out`` itself when types differ.
        source = self.workspace if add is None else add
        status = self._lib.cublasLtMatmul(
            self._handle,
            product,
            ctypes.byref(self._one),
            _Word(weight.data_ptr()),
            a,
            _Word(x.data_ptr()),
            b,
            ctypes.byref(self._zero if add is None else self._one),
            _Word(source.data_ptr()),
            c,
            _Word(out.data_ptr()),
            d,
            ctypes.byref(found.algorithm),
            _Word(self.workspace.data_ptr()),
            ctypes.c_size_t(WORKSPACE),
            _Word(self._torch.cuda.current_stream().cuda_stream),
        )
        if status:
            raise BlasError(f"cublasLtMatmul returned status {status} for {problem}")

    def tune(self, x: Any, weight: Any, bias: Any, out: Any, **more: Any) -> None:
        """Time the proposed algorithms for one product and keep the fastest."""
        torch = self._torch
        rows, n = out.shape
        added, activation = more.get("add") is not None, more.get("activation")
        problem = Problem(rows, n, x.shape[1], out.dtype, x.dtype, activation, added)
        if problem in self.choices:
            return
        times = []
        for choice in range(CANDIDATES):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self.linear(x, weight, bias, out, choice=choice, **more)
            # The device waits while the calls are queued: their own cost is hidden.
            torch.cuda._sleep(100_000)
            start.record()
            for _ in range(4):
                self.linear(x, weight, bias, out, choice=choice, **more)
            end.record()
            end.synchronize()
            times.append((start.elapsed_time(end), choice))
        self.choices[problem] = min(times)[1]

    def _plan(
        self, problem: Problem, bias: Any, scales: Any, choice: int
    ) -> tuple[Any, ...]:
        product = _Word()
        self._call(
            "cublasLtMatmulDescCreate", ctypes.byref(product), _COMPUTE_32F, _REAL_32F
        )
        self._set(product, _TRANSA, ctypes.c_int32(_OP_T))
        self._set(product, _EPILOGUE, ctypes.c_uint32(_EPILOGUES[problem.activation]))
        self._set(product, _BIAS, ctypes.c_uint64(bias.data_ptr()))
        self._set(product, _BIAS_TYPE, ctypes.c_int32(self._codes[bias.dtype]))
        if scales is not None:
            self._set(product, _FAST_ACCUM, ctypes.c_int8(1))
            self._set(product, _SCALE_A, ctypes.c_uint64(scales[1].data_ptr()))
            self._set(product, _SCALE_B, ctypes.c_uint64(scales[0].data_ptr()))
            if problem.into == self._torch.float8_e4m3fn:
                self._set(product, _SCALE_D, ctypes.c_uint64(scales[2].data_ptr()))
        a = self._layout(problem.of, problem.k, problem.n)
        b = self._layout(problem.of, problem.k, problem.rows)
        d = self._layout(problem.into, problem.n, problem.rows)
        c = d
        if problem.into == self._torch.float8_e4m3fn:
            # An fp8 result is described with a source of the bias's type.
            c = self._layout(bias.dtype, problem.n, problem.rows)
        if problem not in self._found:
            self._found[problem] = self._search(problem, product, (a, b, c, d))
        found = self._found[problem]
        return product, a, b, c, d, found[min(choice, len(found) - 1)]

    def _layout(self, dtype: Any, rows: int, columns: int) -> Any:
        layout = _Word()
        self._call(
            "cublasLtMatrixLayoutCreate",
            ctypes.byref(layout),
            self._codes[dtype],
            ctypes.c_uint64(rows),
            ctypes.c_uint64(columns),
            ctypes.c_int64(rows),
        )
        return layout

    def _search(
        self, problem: Problem, product: Any, layouts: tuple[Any, ...]
    ) -> list[_Heuristic]:
        preference = _Word()
        self._call("cublasLtMatmulPreferenceCreate", ctypes.byref(preference))
        room = ctypes.c_size_t(WORKSPACE)
        self._call(
            "cublasLtMatmulPreferenceSetAttribute",
            preference,
            _PREFER_WORKSPACE,
            ctypes.byref(room),
            ctypes.c_size_t(ctypes.sizeof(room)),
        )
        found = (_Heuristic * CANDIDATES)()
        count = ctypes.c_int()
        status = self._lib.cublasLtMatmulAlgoGetHeuristic(
            self._handle, product, *layouts, preference,
            CANDIDATES, found, ctypes.byref(count),
        )  # fmt: skip
        if status or not count.value:
            raise BlasError(
                f"cuBLASLt has no algorithm (status {status}) for {problem}"
            )
        return list(found[: count.value])


def _library() -> Any:
    """Return the cuBLASLt that this process has loaded with PyTorch."""
    from pathlib import Path

    names = ["libcublasLt.so.13", "libcublasLt.so.12"]
    maps = Path("/proc/self/maps").read_text(errors="replace").split()
    names = sorted({m for m in maps if "libcublasLt.so" in m}) + names
    for name in names:
        try:
            lib = ctypes.CDLL(name)
        except OSError:
            continue
        lib.cublasLtMatmul.restype = ctypes.c_int
        return lib
    raise BlasError(
        "libcublasLt.so is not loaded, but PyTorch's CUDA build should bring it; "
        "install torch with CUDA"
    )
