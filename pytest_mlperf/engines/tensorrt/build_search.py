"""Searches the largest batch that builds: one process a build, its failure classified.

A builder's exit status says little. What it and its plugins printed decides whether a
smaller batch may cure a failure, and what the user is told to do.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Generic
from typing import TypeVar

from pytest_mlperf.engines.tensorrt.builder import PlanRequest

COMMAND = (sys.executable, "-m", "pytest_mlperf.engines.tensorrt.builder")
SUSPECT = "values are not self-consistent"
"""Only a warning, but such a plan fails at its largest shapes, in a measured run."""
MAX_LOG_LINES = 5000
"""Lines of a log that are read: its first and its last ones matter."""


class Cause(StrEnum):
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


CURED_BY_SMALLER_BATCH = frozenset({Cause.MEMORY, Cause.TACTIC, Cause.CRASH})
"""Failures that a smaller batch may cure; the others occur at every batch."""

# The first that matches decides, so that a consequence does not hide its cause: an
# allocation that fails also fails a kernel, and an unknown operator looks for a plugin.
_PATTERNS = (
    (Cause.MEMORY, r"out of memory|OutOfMemory|OUT_OF_MEMORY|std::bad_alloc|Killed$"),
    (Cause.MEMORY, r"ALLOC_FAILED|FAILED_ALLOCATION|insufficient memory"),
    (Cause.MEMORY, r"no tactics .* within workspace limit"),
    (Cause.OPERATOR, r"\[an operator of ONNX\]|UNSUPPORTED_(NODE|GRAPH)"),
    (Cause.OPERATOR, r"No importer registered|Unsupported operator"),
    (Cause.PLUGIN, r"Plugin not found|could not find plugin|getPluginCreator"),
    (Cause.MODEL, r"DESERIALIZE_FAILED|Failed to parse the ONNX model"),
    (Cause.PROFILE, r"optimization profile|self-consistent|[Dd]imension|profile \d+"),
    (Cause.DEVICE, r"compute capability|incompatible device|no kernel image"),
    (Cause.DEVICE, r"CUDA driver version|no CUDA-capable|CUDA initialization failure"),
    (
        Cause.TACTIC,
        r"EXECUTION_FAILED|any implementation for node|cudaError|CUDA_ERROR",
    ),
)
_NO_ERROR = re.compile(r"\] (INFO|VERBOSE|WARNING): ")
_NO_DRIVER = re.compile(r"cudaError 35\b")
_REMEDIES = {
    Cause.MEMORY: "free the device (nvidia-smi lists who holds it), lower "
    "--mlperf-batch, or raise workspace-mib in --mlperf-engine-options",
    Cause.TACTIC: "lower --mlperf-batch; if that does not help, try cuda-graphs=off in "
    "--mlperf-engine-options and another TensorRT or driver",
    Cause.CRASH: "lower --mlperf-batch, and try another TensorRT or driver",
    Cause.OPERATOR: "export the model without that operator, or use another "
    "--mlperf-engine",
    Cause.PLUGIN: "name the library that holds the plugin with plugins=PATH in "
    "--mlperf-engine-options, or export the model without it",
    Cause.DEVICE: "use a TensorRT and a driver that support this GPU "
    "(docs/reference/tensorrt.md has the list)",
    Cause.PROFILE: "give a --mlperf-batch that the model takes; it may have been "
    "exported for one batch size or a shorter sequence",
    Cause.MODEL: "download or export the model file again",
    Cause.UNKNOWN: "read the log; with --mlperf-engine onnxruntime you see whether the "
    "model itself works",
}


@dataclass(frozen=True, slots=True)
class BuildFailure:
    """A failed build: its cause and the line that shows it."""

    cause: Cause
    line: str
    log: str = ""
    """File with everything that was printed."""
    tried: tuple[tuple[int, str], ...] = field(default=())
    """(batch, outcome) of the search that ended here, in order."""

    def __str__(self) -> str:
        tried = ", ".join(f"{batch}: {outcome}" for batch, outcome in self.tried)
        batches = f" [tried batch {tried}]" if tried else ""
        log = f" ({self.log} has all of it)" if self.log else ""
        return f"{self.cause}: {self.line}{batches}{log}; {_REMEDIES[self.cause]}"


def classify_failure(lines: Iterable[str], status: int = 0) -> BuildFailure:
    """Return what a failed build's output means.

    Errors decide; other lines only where no error matches a pattern. ``status`` is the
    builder's exit status, negative for a signal.
    """
    printed = [line.strip() for line in lines if line.strip()]
    errors = [line for line in printed if not _NO_ERROR.search(line)]
    if status == -9:
        # Only the kernel ends a builder like that, when memory runs out.
        errors.append("the builder was killed: Killed")
    for candidates in (errors, printed):
        # A machine without a driver reports that beside every other failure.
        relevant = [x for x in candidates if not _NO_DRIVER.search(x)] or candidates
        for cause, pattern in _PATTERNS:
            if matches := [line for line in relevant if re.search(pattern, line)]:
                # A line that names the operator says more than its assertion.
                line = next((x for x in matches if "operator: " in x), matches[0])
                return BuildFailure(cause, _shorten(line))
    last = _shorten(errors[-1]) if errors else "nothing was printed"
    if status < 0:
        return BuildFailure(
            Cause.CRASH, f"the builder ended by signal {-status}; {last}"
        )
    return BuildFailure(Cause.UNKNOWN, last)


def _shorten(line: str) -> str:
    return line if len(line) <= 400 else f"{line[:400]} …"


def run_build(
    request: PlanRequest,
    beat: Callable[[], None],
    command: Sequence[str] = COMMAND,
) -> dict[str, str] | BuildFailure:
    """Build in a process of its own; return the plan's facts, or why there is none.

    ``beat`` is called at every step that the builder reports. The log lies beside the
    plan and is deleted after a success.
    """
    log = Path(request.plan).with_suffix(".log")
    facts: dict[str, str] | None = None
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(request.to_json())
                process.stdin.close()
            except BrokenPipeError:
                pass  # it ended at once; its output says why
            for line in process.stdout:
                beat()
                facts = json.loads(line).get("done", facts)
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    lines = _read_ends(log)
    suspect = [line for line in lines if SUSPECT in line]
    if status == 0 and facts is not None and not suspect:
        log.unlink()
        return facts
    Path(request.plan).unlink(missing_ok=True)
    return replace(classify_failure(suspect or lines, status), log=str(log))


def _read_ends(log: Path) -> list[str]:
    lines = log.read_text(errors="replace").splitlines()
    half = MAX_LOG_LINES // 2
    return lines if len(lines) <= MAX_LOG_LINES else lines[:half] + lines[-half:]


Plan = TypeVar("Plan")

Attempt = Callable[[int, bool], "Plan | BuildFailure"]
"""(batch, with CUDA graphs) -> what was built, or why not."""


@dataclass(frozen=True, slots=True)
class SearchResult(Generic[Plan]):
    """What a search ended with; ``failure`` is the last one, if any."""

    plan: Plan | None
    batch: int
    cuda_graphs: bool
    tried: tuple[tuple[int, str], ...]
    """(batch, outcome) in order; the outcome is ``built`` or the failure's cause."""
    failure: BuildFailure | None = None


def find_largest_batch(
    attempt: Attempt[Plan], wanted: int, *, cuda_graphs: bool = True
) -> SearchResult[Plan]:
    """Find the largest batch up to ``wanted`` that builds.

    The wanted batch first; where it fails for a reason that a smaller batch may cure,
    1, 2, 4 … and then bisection: at most 2·log2(wanted) builds, rounded up. When not
    even batch 1 builds with CUDA graphs, the same once more without. What builds at a
    batch is assumed to build at every smaller one.
    """
    search = _Search(attempt, cuda_graphs)
    batch = search.largest(wanted)
    if not batch and cuda_graphs and search.curable:
        search.cuda_graphs = False
        batch = 1 if search.builds(1) else 0
        if batch and wanted > 1:
            # What graphs took may be all that the wanted batch lacked.
            batch = search.largest(wanted, floor=1)
    plan = search.plan if batch else None
    return SearchResult(
        plan, batch, search.cuda_graphs, tuple(search.tried), search.failure
    )


class _Search(Generic[Plan]):
    def __init__(self, attempt: Attempt[Plan], cuda_graphs: bool) -> None:
        self.attempt, self.cuda_graphs = attempt, cuda_graphs
        self.tried: list[tuple[int, str]] = []
        self.plan: Plan | None = None
        self.failure: BuildFailure | None = None

    @property
    def curable(self) -> bool:
        return self.failure is not None and self.failure.cause in CURED_BY_SMALLER_BATCH

    def builds(self, batch: int) -> bool:
        """Try one batch; what it built replaces what a smaller one had built."""
        outcome = self.attempt(batch, self.cuda_graphs)
        without = "" if self.cuda_graphs else " without CUDA graphs"
        if isinstance(outcome, BuildFailure):
            self.failure = outcome
            self.tried.append((batch, f"{outcome.cause}{without}"))
            return False
        self.plan = outcome
        self.tried.append((batch, f"built{without}"))
        return True

    def largest(self, wanted: int, floor: int = 0) -> int:
        """Return the largest batch that builds; ``floor`` is known to build."""
        if self.builds(wanted):
            return wanted
        low, high = floor, wanted
        step = 2 * floor or 1
        while self.curable and step < high:
            if self.builds(step):
                low, step = step, 2 * step
            else:
                high = step
        while self.curable and low and high - low > 1:
            middle = (low + high) // 2
            if self.builds(middle):
                low = middle
            else:
                high = middle
        return low
