"""One build of a plan, in a process of its own: ``python -m …tensorrt_build``.

Builders abort, run into signals and keep device memory after a failure; plugins print
and end the process. Here that costs one attempt. The job comes as JSON on stdin; JSON
lines go back on what was stdout, while all that anybody prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.engines.tensorrt.library import load_library
from pytest_mlperf.engines.tensorrt.profiles import Span
from pytest_mlperf.engines.tensorrt.profiles import ranges
from pytest_mlperf.engines.tensorrt.profiles import spans

MIB = 1 << 20
FAILED = 3
"""Exit status of a build that said why it failed."""


class Failed(Exception):
    """A build that ends here; what is wrong was printed."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to build."""

    onnx: str
    plan: str
    timing_cache: str
    batch: int
    longest: int
    """Longest sequence; 0 for a model without a dynamic length."""
    workspace_mib: int = 0
    """What a kernel may use as scratch; 0 leaves it to TensorRT."""
    level: int = -1
    """Builder optimization level 0 to 5; -1 leaves it to TensorRT."""
    plugins: tuple[str, ...] = ()
    graphs: bool = True
    trial: bool = False
    """Open the plan afterwards and run its largest batch; needs a device."""

    def text(self) -> str:
        return json.dumps(asdict(self))


def build(order: Order, tell: Callable[..., None]) -> dict[str, str]:
    """Build, write the plan, return facts. Raises ``Failed``."""
    library = load_library()
    trt = library.module
    logger = _logger(trt)
    _load_plugins(trt, logger, order.plugins)
    builder = trt.Builder(logger)
    strongly = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(strongly))
    tell(step="parse")
    _parse(trt, network, logger, order.onnx)
    config = builder.create_builder_config()
    monitor = _monitor(trt, tell)
    config.progress_monitor = monitor
    # fp32 is to be fp32: TensorRT would take TF32, which has 10 bits of mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)
    if order.workspace_mib:
        pool = trt.MemoryPoolType.WORKSPACE
        config.set_memory_pool_limit(pool, order.workspace_mib * MIB)
    if order.level >= 0:
        config.builder_optimization_level = order.level
    wanted = spans(order.batch, order.longest)
    count = _add_profiles(builder, config, network, wanted)
    timing = None if library.rtx else _timing_cache(config, Path(order.timing_cache))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Failed
    Path(order.plan).write_bytes(memoryview(plan))
    facts = {
        "profiles": str(count),
        "timing cache": "none: kernels compile at run time",
    }
    if timing is not None:
        used = config.get_timing_cache().serialize()
        _replace(Path(order.timing_cache), bytes(used))
        facts["timing cache"] = Path(order.timing_cache).name
    return facts


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            name = severity.name.replace("_", " ")
            text = message.replace("\n", " ")
            if name != "VERBOSE":
                print(f"[TensorRT] {name}: {text}", file=sys.stderr)  # noqa: T201

    return Logger()


def _monitor(trt: Any, tell: Callable[..., None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:  # noqa: ARG002
            tell(step=name)

        def step_complete(self, name: str, step: int) -> bool:  # noqa: ARG002
            tell(step=name)
            return True

        def phase_finish(self, name: str) -> None:
            """The next phase says that this one is over."""

    return Monitor()


def _load_plugins(trt: Any, logger: Any, paths: tuple[str, ...]) -> None:
    trt.init_libnvinfer_plugins(logger, "")
    for path in paths:
        trt.get_plugin_registry().load_library(path)


def _parse(trt: Any, network: Any, logger: Any, path: str) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(path):
        return
    for number in range(parser.num_errors):
        error = parser.get_error(number)
        operator = error.node_operator()
        known = f" {_standing(operator)}" if operator else ""
        print(f"[TensorRT] ERROR: {error}{known}", file=sys.stderr)  # noqa: T201
    raise Failed


def _standing(operator: str) -> str:
    """Say whether an operator that TensorRT lacks is ONNX's own, or somebody's."""
    import onnx

    own = onnx.defs.has(operator)
    return "[an operator of ONNX]" if own else "[no operator of ONNX: a plugin's]"


def _add_profiles(
    builder: Any, config: Any, network: Any, wanted: tuple[Span, ...]
) -> int:
    """Add one profile a span; a graph whose shapes are all fixed needs none."""
    inputs = [network.get_input(n) for n in range(network.num_inputs)]
    if all(size >= 0 for tensor in inputs for size in tensor.shape):
        return 0
    for span in wanted:
        profile = builder.create_optimization_profile()
        for tensor in inputs:
            try:
                limits = ranges(span, tuple(tensor.shape), tensor.name)
            except ValueError as error:
                print(f"optimization profile: {error}", file=sys.stderr)  # noqa: T201
                raise Failed from error
            profile.set_shape(tensor.name, *limits)
        if config.add_optimization_profile(profile) < 0:
            raise Failed
    return len(wanted)


def _timing_cache(config: Any, path: Path) -> Any:
    """Give the builder what earlier builds measured on this device."""
    known = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(known)
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=True)
    return cache


def _replace(path: Path, content: bytes) -> None:
    scratch = path.with_suffix(f".{os.getpid()}")
    scratch.write_bytes(content)
    scratch.replace(path)


def main() -> int:
    """Build what stdin asks for; return the exit status."""
    from pytest_mlperf.machine.process import die_with_parent

    die_with_parent()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**message: object) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    order = Order(**json.load(sys.stdin))
    try:
        facts = build(order, tell)
        if order.trial:
            from pytest_mlperf.engines.tensorrt.runtime import trial

            tell(step="trial")
            facts |= trial(Path(order.plan), graphs=order.graphs)
    except Failed:
        return FAILED
    tell(done=facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
