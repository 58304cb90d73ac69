"""Compiles kernels of CUDA C++ for the device at hand, and launches them.

What Triton cannot say (a matrix unit's operand read at overlapping addresses) is in
``.cu`` files. NVRTC, which PyTorch brings, compiles them when a model is built; the
package ``cuda-bindings``, which PyTorch for CUDA 13 brings too, calls it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

POINTER, FLOAT, INTEGER = ctypes.c_void_p, ctypes.c_float, ctypes.c_int
STRUCT = None
"""A parameter that the binding itself puts into memory: a tensor map."""
HOPPER = (9, 0)
"""Compute capability of H100, H200 and GH200."""
SHARED_BY_DEFAULT = 48 << 10
"""Bytes of shared memory that a kernel may have without asking for more."""


class CudaSourceError(Exception):
    """NVRTC or the driver refused; the text has the call and its code, or the log."""


class CudaLaunchError(Exception):
    """The driver refused a kernel that it had loaded: no other one is to hide that."""


@dataclass(frozen=True, slots=True)
class CudaKernel:
    """A compiled kernel in the context that PyTorch uses."""

    context: Any
    function: Any
    types: tuple[Any, ...]
    """Of its parameters: ``POINTER``, ``FLOAT``, ``INTEGER`` or ``STRUCT``."""
    shared_bytes: int

    def launch(self, grid: Sequence[int], threads: int, *values: Any) -> None:
        """Enqueue it on PyTorch's current stream; tensors are passed by address."""
        import torch
        from cuda.bindings import driver

        plain = tuple(v.data_ptr() if hasattr(v, "data_ptr") else v for v in values)
        stream = torch.cuda.current_stream().cuda_stream
        # A thread in which PyTorch has done nothing yet has no context.
        current = driver.cuCtxSetCurrent(self.context)
        check("cuCtxSetCurrent", current, CudaLaunchError)
        launched = driver.cuLaunchKernel(
            self.function, *grid, threads, 1, 1, self.shared_bytes, stream,
            (plain, self.types), 0,
        )  # fmt: skip
        check("cuLaunchKernel", launched, CudaLaunchError)


def find_missing() -> str | None:
    """Return what is missing to compile CUDA C++, or None."""
    try:
        from cuda.bindings import nvrtc
    except ImportError:
        return "no cuda-bindings: pip install cuda-bindings"
    try:
        check("nvrtcVersion", nvrtc.nvrtcVersion())
    except (RuntimeError, CudaSourceError) as error:  # the library is not there
        return f"NVRTC does not load: {first_line(error)}"
    return None


def first_line(error: Exception) -> str:
    """Return an error's first line, for a fact that says why another kernel runs."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(": ")


def compile_source(
    path: Path, defines: Mapping[str, int], architecture: str
) -> tuple[bytes, str]:
    """Return a file's machine code and the compiler's log; needs no device.

    ``architecture`` is NVRTC's: ``sm_90``. Raises ``CudaSourceError``.
    """
    from cuda.bindings import nvrtc

    (program,) = check(
        "nvrtcCreateProgram",
        nvrtc.nvrtcCreateProgram(path.read_bytes(), path.name.encode(), 0, [], []),
    )
    options = [
        f"--gpu-architecture={architecture}",
        f"--include-path={path.parent}",
        "--std=c++17",
        *(f"--define-macro={name}={value}" for name, value in defines.items()),
    ]
    encoded = [option.encode() for option in options]
    (code,) = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
    (size,) = check("nvrtcGetProgramLogSize", nvrtc.nvrtcGetProgramLogSize(program))
    # Written in place, so never of one byte: Python has that object only once, and
    # every space that is written afterwards would be a zero.
    log = b" " * (size + 1)
    check("nvrtcGetProgramLog", nvrtc.nvrtcGetProgramLog(program, log))
    text = log.rstrip(b" \0").decode(errors="replace")
    if int(code):
        raise CudaSourceError(f"{path.name} does not compile: {text}")
    (size,) = check("nvrtcGetCUBINSize", nvrtc.nvrtcGetCUBINSize(program))
    binary = b" " * size
    check("nvrtcGetCUBIN", nvrtc.nvrtcGetCUBIN(program, binary))
    nvrtc.nvrtcDestroyProgram(program)
    return binary, text


@cache
def load_kernel(
    path: Path,
    name: str,
    defines: tuple[tuple[str, int], ...],
    types: tuple[Any, ...],
    shared_bytes: int,
    device: int,
) -> CudaKernel:
    """Compile a kernel for a device and load it; a second call returns the same one."""
    import torch
    from cuda.bindings import driver

    major, minor = torch.cuda.get_device_capability(device)
    # The matrix units of sm_90 are in sm_90a only: code that no later card runs.
    architecture = f"sm_{major}{minor}" + ("a" if major >= 9 else "")
    binary, _ = compile_source(path, dict(defines), architecture)
    torch.cuda.synchronize(device)  # makes this thread's context PyTorch's
    (context,) = check("cuCtxGetCurrent", driver.cuCtxGetCurrent())
    (module,) = check("cuModuleLoadData", driver.cuModuleLoadData(binary))
    (function,) = check(
        "cuModuleGetFunction", driver.cuModuleGetFunction(module, name.encode())
    )
    if shared_bytes > SHARED_BY_DEFAULT:
        attributes = driver.CUfunction_attribute
        limit = attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        set_up = driver.cuFuncSetAttribute(function, limit, shared_bytes)
        check("cuFuncSetAttribute", set_up)
    return CudaKernel(context, function, types, shared_bytes)


def describe_tensor(
    address: int, number: str, sizes: list[int], steps: list[int], box: list[int]
) -> Any:
    """Return the tensor map of memory whose boxes are fetched in swizzled rows of 128
    bytes; what is outside of ``sizes`` comes as 0. The innermost axis is first.

    ``number``: its type as the driver names it, ``UINT8``; ``steps``: bytes from one to
    the next, of all axes but the innermost; ``box``: numbers of a fetch on each axis.
    """
    from cuda.bindings import driver

    large, small = driver.cuuint64_t, driver.cuuint32_t
    types = driver.CUtensorMapDataType
    (tensor_map,) = check(
        "cuTensorMapEncodeTiled",
        driver.cuTensorMapEncodeTiled(
            getattr(types, f"CU_TENSOR_MAP_DATA_TYPE_{number}"),
            len(sizes),
            address,
            [large(size) for size in sizes],
            [large(step) for step in steps],
            [small(size) for size in box],
            [small(1) for _ in sizes],
            driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
            driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
            driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        ),
    )
    return tensor_map


def check(
    call: str, answer: tuple[Any, ...], kind: type[Exception] = CudaSourceError
) -> tuple[Any, ...]:
    """Return what a call returns besides its code, which should be 0; else raise."""
    code, *rest = answer
    if int(code):
        raise kind(f"{call} returned {code!r}, but should return 0")
    return tuple(rest)
