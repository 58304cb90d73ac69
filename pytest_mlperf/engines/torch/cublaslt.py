"""Matrix products by cuBLASLt with what PyTorch's own calls lack: GELU and a residual
inside the product, and fp8 in and out. The library is the one that PyTorch has loaded.

Row-major throughout: ``out[rows, n] = act(x[rows, k] @ weight[n, k].T + bias) + add``.
Names and numbers are those of NVIDIA's cublasLt.h.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pytest_mlperf.engines.torch.launch_timing import find_fastest

WORKSPACE = 64 << 20
"""Bytes; NVIDIA's advice for Hopper is 32 MiB."""
CANDIDATES = 8
"""Algorithms that the heuristic may propose, best first; as many without workspace."""

_COMPUTE_32F, _REAL_32F, _OP_T = 68, 0, 1
_TRANSA, _EPILOGUE, _BIAS, _FAST_ACCUM, _BIAS_TYPE = 3, 7, 8, 25, 26
_SCALE_A, _SCALE_B, _SCALE_D = 17, 18, 20
_PREFER_WORKSPACE, _NOT_SUPPORTED = 1, 15
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


class CublasLtError(Exception):
    """cuBLASLt refused; the text names call, status and problem."""


@dataclass(frozen=True, slots=True)
class GemmProblem:
    """One product's shape and types; the key of its plans."""

    rows: int
    n: int
    k: int
    out_dtype: Any
    in_dtype: Any
    """torch dtype of ``x`` and ``weight``."""
    activation: str | None
    add: bool


class CublasLt:
    """A cuBLASLt handle with its workspace: one a stream, used by one thread."""

    def __init__(
        self, device: Any, choices: dict[GemmProblem, int] | None = None
    ) -> None:
        import torch

        self._torch = torch
        self._lib = _load_library()
        self._handle = _Word()
        self._call("cublasLtCreate", ctypes.byref(self._handle))
        self.workspace = torch.empty(WORKSPACE, dtype=torch.uint8, device=device)
        self._type_codes = {
            torch.float32: 0,
            torch.float16: 2,
            torch.bfloat16: 14,
            torch.float8_e4m3fn: 28,
        }
        self.choices = {} if choices is None else choices
        """Problem -> the algorithm that ``tune`` found fastest; may be shared."""
        self._plans: dict[tuple[GemmProblem, int, int], tuple[Any, ...]] = {}
        self._algorithms: dict[GemmProblem, list[_Heuristic]] = {}
        self._one, self._zero = ctypes.c_float(1.0), ctypes.c_float(0.0)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._lib, name)(*arguments)
        if status:
            raise CublasLtError(f"{name} returned status {status}, but should return 0")

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
        problem = GemmProblem(
            rows, n, x.shape[1], out.dtype, x.dtype, activation, add is not None
        )
        if choice is None:
            choice = self.choices.get(problem, 0)
        # A plan holds pointers to one layer's bias and scales.
        key = (problem, bias.data_ptr(), choice)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._plan(problem, bias, scales, choice)
        product, a, b, c, d, heuristic = plan
        # Unread where nothing is added; it must not be ``out`` where types differ.
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
            ctypes.byref(heuristic.algorithm),
            _Word(self.workspace.data_ptr()),
            ctypes.c_size_t(heuristic.workspace),
            _Word(self._torch.cuda.current_stream().cuda_stream),
        )
        if status:
            raise CublasLtError(
                f"cublasLtMatmul returned status {status} for {problem}"
            )

    def tune(self, x: Any, weight: Any, bias: Any, out: Any, **options: Any) -> None:
        """Time the proposed algorithms for one product and choose the fastest."""
        rows, n = out.shape
        activation, add = options.get("activation"), options.get("add") is not None
        problem = GemmProblem(rows, n, x.shape[1], out.dtype, x.dtype, activation, add)
        if problem in self.choices:
            return
        self.linear(x, weight, bias, out, choice=0, **options)  # finds the algorithms
        launches = [
            partial(self.linear, x, weight, bias, out, choice=choice, **options)
            for choice in range(len(self._algorithms[problem]))
        ]
        self.choices[problem] = find_fastest(launches)

    def _plan(
        self, problem: GemmProblem, bias: Any, scales: Any, choice: int
    ) -> tuple[Any, ...]:
        product = _Word()
        self._call(
            "cublasLtMatmulDescCreate", ctypes.byref(product), _COMPUTE_32F, _REAL_32F
        )
        self._set(product, _TRANSA, ctypes.c_int32(_OP_T))
        self._set(product, _EPILOGUE, ctypes.c_uint32(_EPILOGUES[problem.activation]))
        self._set(product, _BIAS, ctypes.c_uint64(bias.data_ptr()))
        self._set(product, _BIAS_TYPE, ctypes.c_int32(self._type_codes[bias.dtype]))
        if scales is not None:
            self._set(product, _FAST_ACCUM, ctypes.c_int8(1))
            self._set(product, _SCALE_A, ctypes.c_uint64(scales[1].data_ptr()))
            self._set(product, _SCALE_B, ctypes.c_uint64(scales[0].data_ptr()))
            if problem.out_dtype == self._torch.float8_e4m3fn:
                self._set(product, _SCALE_D, ctypes.c_uint64(scales[2].data_ptr()))
        a = self._layout(problem.in_dtype, problem.k, problem.n)
        b = self._layout(problem.in_dtype, problem.k, problem.rows)
        d = self._layout(problem.out_dtype, problem.n, problem.rows)
        c = d
        if problem.out_dtype == self._torch.float8_e4m3fn:
            # An fp8 result is described with a source of the bias's type.
            c = self._layout(bias.dtype, problem.n, problem.rows)
        if problem not in self._algorithms:
            self._algorithms[problem] = self._search(problem, product, (a, b, c, d))
        algorithms = self._algorithms[problem]
        return product, a, b, c, d, algorithms[min(choice, len(algorithms) - 1)]

    def _layout(self, dtype: Any, rows: int, columns: int) -> Any:
        layout = _Word()
        self._call(
            "cublasLtMatrixLayoutCreate",
            ctypes.byref(layout),
            self._type_codes[dtype],
            ctypes.c_uint64(rows),
            ctypes.c_uint64(columns),
            ctypes.c_int64(rows),
        )
        return layout

    def _search(
        self, problem: GemmProblem, product: Any, layouts: tuple[Any, ...]
    ) -> list[_Heuristic]:
        """Return algorithms, the proposed ones first, then those without workspace.

        On Hopper the proposed ones count their tiles in the workspace, which costs a
        memset before each product.
        """
        found: dict[tuple[bytes, int], _Heuristic] = {}
        for room in (WORKSPACE, 0):
            for one in self._propose(product, layouts, room):
                found.setdefault((bytes(one.algorithm), one.workspace), one)
        if not found:
            raise CublasLtError(f"cuBLASLt has no algorithm for {problem}")
        return list(found.values())

    def _propose(
        self, product: Any, layouts: tuple[Any, ...], room: int
    ) -> list[_Heuristic]:
        """Return what the heuristic proposes for so many bytes of workspace."""
        preference = _Word()
        self._call("cublasLtMatmulPreferenceCreate", ctypes.byref(preference))
        workspace = ctypes.c_size_t(room)
        self._call(
            "cublasLtMatmulPreferenceSetAttribute",
            preference,
            _PREFER_WORKSPACE,
            ctypes.byref(workspace),
            ctypes.c_size_t(ctypes.sizeof(workspace)),
        )
        proposed = (_Heuristic * CANDIDATES)()
        count = ctypes.c_int()
        status = self._lib.cublasLtMatmulAlgoGetHeuristic(
            self._handle, product, *layouts, preference,
            CANDIDATES, proposed, ctypes.byref(count),
        )  # fmt: skip
        self._call("cublasLtMatmulPreferenceDestroy", preference)
        if status == _NOT_SUPPORTED:
            return []
        if status:
            raise CublasLtError(
                f"cublasLtMatmulAlgoGetHeuristic returned status {status}, but should "
                "return 0"
            )
        return list(proposed[: count.value])


def _load_library() -> Any:
    """Return the cuBLASLt that this process has loaded with PyTorch."""
    maps = Path("/proc/self/maps").read_text(errors="replace").split()
    loaded = sorted({m for m in maps if "libcublasLt.so" in m})
    for name in (*loaded, "libcublasLt.so.13", "libcublasLt.so.12"):
        try:
            lib = ctypes.CDLL(name)
        except OSError:
            continue
        lib.cublasLtMatmul.restype = ctypes.c_int
        return lib
    raise CublasLtError(
        "libcublasLt.so is not loaded, but PyTorch's CUDA build should bring it; "
        "install torch with CUDA"
    )
