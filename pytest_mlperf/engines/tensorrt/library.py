"""TensorRT in whichever form is installed: ``tensorrt``, or TensorRT for RTX."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

NAMES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
"""In order of preference. The last is the module that the wheels of the bindings
install; the second is a package that only forwards to it."""
INSTALL = (
    "pip install 'pytest-mlperf[tensorrt]' (needs NVIDIA's package index), or "
    "'pytest-mlperf[tensorrt-rtx]' for GeForce and RTX cards"
)


@dataclass(frozen=True, slots=True)
class TensorRT:
    """An imported TensorRT."""

    module: Any
    rtx: bool

    @property
    def version(self) -> str:
        """Name and version: ``tensorrt_rtx 1.7.1.116``."""
        name = "tensorrt_rtx" if self.rtx else "tensorrt"
        return f"{name} {self.module.__version__}"

    def explain_refusal(self, capability: tuple[int, int]) -> str | None:
        """Say why a device of that compute capability cannot be used, or None."""
        legal = getattr(self.module, "ComputeCapability", None)
        if not self.rtx or legal is None:
            return None
        names = [n.removeprefix("SM") for n in legal.__members__ if n.startswith("SM")]
        if "".join(map(str, capability)) in names:
            return None
        listed = ", ".join(f"{n[:-1]}.{n[-1]}" for n in names)
        return (
            f"{self.version} runs on compute capability {listed}, but this device has "
            f"{capability[0]}.{capability[1]}; install the full TensorRT "
            "(pip install 'pytest-mlperf[tensorrt]')"
        )


def find_library() -> str | None:
    """Return the name of the TensorRT that would be imported, or None."""
    return next((name for name in NAMES if importlib.util.find_spec(name)), None)


def load_library() -> TensorRT:
    """Import TensorRT.

    Raises ``ImportError`` where there is none, or one whose libraries do not load.
    """
    problem = f"no TensorRT is installed: {INSTALL}"
    for name in NAMES:
        if not importlib.util.find_spec(name):
            continue
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            # Bindings whose libraries are missing must not hide another TensorRT.
            problem = f"{name} is installed, but cannot be imported: {error}"
            continue
        return TensorRT(module, "rtx" in name)
    raise ImportError(problem)
