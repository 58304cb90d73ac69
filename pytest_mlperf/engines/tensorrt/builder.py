"""Builds one plan in a process of its own: ``python -m …engines.tensorrt.builder``.

Builders abort, die by signals and keep device memory after a failure; plugins print
and end the process. A process of its own limits the damage to one attempt. The request
comes as JSON on stdin; JSON lines go back on the original stdout, and everything that
is printed goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pytest_mlperf.config.shape_options import Shape
from pytest_mlperf.core.whole_file import replace_whole
from pytest_mlperf.engines.tensorrt.library import load_library
from pytest_mlperf.engines.tensorrt.settings import BuildSettings
from pytest_mlperf.engines.tensorrt.settings import choose_profiles
from pytest_mlperf.engines.tensorrt.settings import shape_limits

MIB = 1 << 20
Limits = Callable[[Shape, str], tuple[Shape, Shape, Shape]]
"""(an input's shape in the graph, its name) -> its min, opt and max."""
FAILED = 3
"""Exit status of a build that printed why it failed."""


class PlanNotBuilt(Exception):
    """The build ends here; the cause has been printed."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What to build."""

    onnx: str
    plan: str
    timing_cache: str
    max_batch: int
    max_length: int
    """Longest sequence; 0 for a model without a dynamic length."""
    settings: BuildSettings
    trial: bool = False
    """Open the plan afterwards and run its largest batch; needs a device."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PlanRequest:
        values = json.loads(text)
        settings = values.pop("settings")
        plugins = tuple(settings.pop("plugins"))
        return cls(settings=BuildSettings(plugins=plugins, **settings), **values)


def build_plan(request: PlanRequest, report: Callable[..., None]) -> dict[str, str]:
    """Build, write the plan, return facts. Raises ``PlanNotBuilt``."""
    settings, library = request.settings, load_library()
    trt = library.module
    logger = _make_logger(trt)
    _load_plugins(trt, logger, settings.plugins)
    builder = trt.Builder(logger)
    strongly = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(strongly))
    report(step="parse")
    _parse(trt, network, logger, request.onnx)
    config = builder.create_builder_config()
    monitor = _make_monitor(trt, report)
    config.progress_monitor = monitor
    # TensorRT would compute fp32 in TF32, which has 10 bits of mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)
    if settings.workspace_mib:
        pool = trt.MemoryPoolType.WORKSPACE
        config.set_memory_pool_limit(pool, settings.workspace_mib * MIB)
    if settings.level >= 0:
        config.builder_optimization_level = settings.level
    profiles = choose_limits(request)
    count = _add_profiles(builder, config, network, profiles)
    timing_cache = Path(request.timing_cache)
    if not library.rtx:
        _load_timing_cache(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise PlanNotBuilt
    Path(request.plan).write_bytes(memoryview(plan))
    facts = {
        "profiles": str(count),
        "timing cache": "none: kernels compile at run time",
    }
    if not library.rtx:
        content = config.get_timing_cache().serialize()
        with replace_whole(timing_cache) as partial:
            partial.write_bytes(bytes(content))
        facts["timing cache"] = timing_cache.name
    return facts


def _make_logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            name = severity.name.replace("_", " ")
            text = message.replace("\n", " ")
            if name != "VERBOSE":
                print(f"[TensorRT] {name}: {text}", file=sys.stderr)  # noqa: T201

    return Logger()


def _make_monitor(trt: Any, report: Callable[..., None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:  # noqa: ARG002
            report(step=name)

        def step_complete(self, name: str, step: int) -> bool:  # noqa: ARG002
            report(step=name)
            return True

        def phase_finish(self, name: str) -> None:
            """The start of the next phase shows that this one is over."""

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
        origin = f" {_describe_origin(operator)}" if operator else ""
        print(f"[TensorRT] ERROR: {error}{origin}", file=sys.stderr)  # noqa: T201
    raise PlanNotBuilt


def _describe_origin(operator: str) -> str:
    """Return whether an operator that TensorRT lacks is ONNX's or a plugin's."""
    import onnx

    if onnx.defs.has(operator):
        return "[an operator of ONNX]"
    return "[no operator of ONNX: a plugin's]"


def choose_limits(request: PlanRequest) -> list[Limits]:
    """Return what tells (min, opt, max) of an input, one a profile."""
    settings = request.settings
    if settings.max_shapes:
        return [lambda shape, name: settings.shape_limits(name)]  # noqa: ARG005
    chosen = choose_profiles(request.max_batch, request.max_length)
    return [partial(shape_limits, profile) for profile in chosen]


def _add_profiles(
    builder: Any, config: Any, network: Any, profiles: Sequence[Limits]
) -> int:
    """Add the profiles and return their number; a graph of fixed shapes needs none."""
    inputs = [network.get_input(n) for n in range(network.num_inputs)]
    if all(size >= 0 for tensor in inputs for size in tensor.shape):
        return 0
    for find_limits in profiles:
        profile = builder.create_optimization_profile()
        for tensor in inputs:
            try:
                limits = find_limits(tuple(tensor.shape), tensor.name)
            except ValueError as error:
                print(f"optimization profile: {error}", file=sys.stderr)  # noqa: T201
                raise PlanNotBuilt from error
            profile.set_shape(tensor.name, *limits)
        if config.add_optimization_profile(profile) < 0:
            raise PlanNotBuilt
    return len(profiles)


def _load_timing_cache(config: Any, path: Path) -> None:
    """Give the builder what earlier builds measured on this device."""
    content = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(content)
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=True)


def main() -> int:
    """Build what stdin asks for; return the exit status."""
    from pytest_mlperf.machine.process import die_with_parent

    die_with_parent()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def report(**message: object) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    request = PlanRequest.from_json(sys.stdin.read())
    try:
        facts = build_plan(request, report)
        if request.trial:
            from pytest_mlperf.engines.tensorrt.stream import try_plan

            report(step="trial")
            graphs = request.settings.cuda_graphs
            facts |= try_plan(Path(request.plan), cuda_graphs=graphs)
    except PlanNotBuilt:
        return FAILED
    report(done=facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
