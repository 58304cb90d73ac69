"""What a failed TensorRT build means, read from what builder and plugins printed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from enum import StrEnum


class Kind(StrEnum):
    """Why a build failed."""

    MEMORY = "memory"
    TACTIC = "failing kernel"
    CRASH = "crash"
    OPERATOR = "unsupported operator"
    PLUGIN = "missing plugin"
    DEVICE = "wrong device"
    PROFILE = "impossible profile"
    MODEL = "unreadable model"
    UNKNOWN = "unknown"


SMALLER_HELPS = frozenset({Kind.MEMORY, Kind.TACTIC, Kind.CRASH})
"""Failures that a smaller batch may cure; the others are the same at every batch."""

# The first that matches decides, so that a consequence does not hide its cause: an
# allocation that fails also fails a kernel, and an unknown operator looks for a plugin.
_PATTERNS = (
    (Kind.MEMORY, r"out of memory|OutOfMemory|OUT_OF_MEMORY|std::bad_alloc|Killed$"),
    (Kind.MEMORY, r"ALLOC_FAILED|FAILED_ALLOCATION|insufficient memory"),
    (Kind.MEMORY, r"no tactics .* within workspace limit"),
    (Kind.OPERATOR, r"\[an operator of ONNX\]|UNSUPPORTED_(NODE|GRAPH)"),
    (Kind.OPERATOR, r"No importer registered|Unsupported operator"),
    (Kind.PLUGIN, r"Plugin not found|could not find plugin|getPluginCreator"),
    (Kind.MODEL, r"DESERIALIZE_FAILED|Failed to parse the ONNX model"),
    (Kind.PROFILE, r"optimization profile|self-consistent|[Dd]imension|profile \d+"),
    (Kind.DEVICE, r"compute capability|incompatible device|no kernel image"),
    (Kind.DEVICE, r"CUDA driver version|no CUDA-capable|CUDA initialization failure"),
    (Kind.TACTIC, r"EXECUTION_FAILED|any implementation for node|cudaError|CUDA_ERROR"),
)
_CHATTER = re.compile(r"\] (INFO|VERBOSE|WARNING): ")
_NO_DRIVER = re.compile(r"cudaError 35\b")
_REMEDIES = {
    Kind.MEMORY: "free the device (nvidia-smi lists who holds it), lower "
    "--mlperf-batch, or raise workspace-mib in --mlperf-engine-options",
    Kind.TACTIC: "lower --mlperf-batch; if that does not help, try cuda-graphs=off in "
    "--mlperf-engine-options and another TensorRT or driver",
    Kind.CRASH: "lower --mlperf-batch, and try another TensorRT or driver",
    Kind.OPERATOR: "export the model without that operator, or use another "
    "--mlperf-engine",
    Kind.PLUGIN: "name the library that holds the plugin with plugins=PATH in "
    "--mlperf-engine-options, or export the model without it",
    Kind.DEVICE: "use a TensorRT and a driver that support this GPU (docs/tensorrt.md "
    "has the list)",
    Kind.PROFILE: "give a --mlperf-batch that the model takes; it may have been "
    "exported for one batch size or a shorter sequence",
    Kind.MODEL: "download or export the model file again",
    Kind.UNKNOWN: "read the log; with --mlperf-engine onnxruntime you see whether the "
    "model itself works",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed build: its kind and the line that shows it."""

    kind: Kind
    line: str
    log: str = ""
    """File with everything that was printed."""
    tried: tuple[tuple[int, str], ...] = field(default=())
    """(batch, outcome) of the search that ended here, in order."""

    def __str__(self) -> str:
        tried = ", ".join(f"{batch}: {outcome}" for batch, outcome in self.tried)
        batches = f" [tried batch {tried}]" if tried else ""
        log = f" ({self.log} has all of it)" if self.log else ""
        return f"{self.kind}: {self.line}{batches}{log}; {_REMEDIES[self.kind]}"


def classify(lines: Iterable[str], status: int = 0) -> Failure:
    """Return what a failed build's output means.

    Errors speak first; what was merely reported only where no error says anything.
    ``status`` is the builder's exit status, negative for a signal.
    """
    shown = [line.strip() for line in lines if line.strip()]
    errors = [line for line in shown if not _CHATTER.search(line)]
    if status == -9:
        # Nobody else ends a builder like that but the kernel when memory runs out.
        errors.append("the builder was killed: Killed")
    for spoken in (errors, shown):
        # A machine without a driver says so beside every other failure.
        telling = [line for line in spoken if not _NO_DRIVER.search(line)] or spoken
        for kind, pattern in _PATTERNS:
            if found := [line for line in telling if re.search(pattern, line)]:
                # A line that names the operator says more than its assertion.
                line = next((x for x in found if "operator: " in x), found[0])
                return Failure(kind, _short(line))
    last = _short(errors[-1]) if errors else "nothing was printed"
    if status < 0:
        return Failure(Kind.CRASH, f"the builder ended by signal {-status}; {last}")
    return Failure(Kind.UNKNOWN, last)


def _short(line: str) -> str:
    return line if len(line) <= 400 else f"{line[:400]} …"
