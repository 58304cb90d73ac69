"""Failed builds of TensorRT: what they mean, and the search that they lead to."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.engines.tensorrt.build_search import CURED_BY_SMALLER_BATCH
from pytest_mlperf.engines.tensorrt.build_search import BuildFailure
from pytest_mlperf.engines.tensorrt.build_search import Cause
from pytest_mlperf.engines.tensorrt.build_search import SearchResult
from pytest_mlperf.engines.tensorrt.build_search import classify_failure
from pytest_mlperf.engines.tensorrt.build_search import find_largest_batch
from pytest_mlperf.engines.tensorrt.build_search import run_build
from pytest_mlperf.engines.tensorrt.builder import PlanRequest
from pytest_mlperf.engines.tensorrt.settings import BuildSettings

# The two logs that NVIDIA's tuning guide prints, without their timestamps' noise.
KERNEL_FAILS = """\
[TensorRT] INFO: [MemUsageSnapshot] Builder begin: CPU 1046 MiB, GPU 527 MiB
[TensorRT] INFO: [MemUsageChange] Init cuDNN: CPU +619, GPU +268, now: CPU 2412
[TensorRT] WARNING: Detected invalid timing cache, setup a local cache instead
[TensorRT] INFO: [MemUsageChange] Init cuBLAS/cuBLASLt: CPU +0, GPU +0, now: CPU 2602
[TensorRT] ERROR: 1: [convolutionRunner.cpp::executeConv::454] Error Code 1: Cudnn \
(CUDNN_STATUS_EXECUTION_FAILED)
Process Process-1:
Traceback (most recent call last):"""


PLUGIN_RUNS_OUT = """\
[TensorRT] INFO: Total Scratch Memory: 0
[TensorRT] INFO: [MemUsageStats] Peak memory usage of TRT CPU/GPU memory allocators
[TensorRT] INTERNAL ERROR: Assertion failed: out of memory
plugin/DLRMInteractionsPlugin/src/dlrmInteractionsPlugin.cpp:224
Aborting...
Traceback (most recent call last):"""


NO_DRIVER = (
    "[TensorRT] ERROR: [checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda "
    "Runtime (In catchCudaError at checkMacros.cpp:250 (cudaError 35: CUDA driver "
    "version is insufficient for CUDA runtime version))"
)


# Printed by TensorRT for RTX 1.7.1, but where a row says other.
SEEN = [
    (Cause.TACTIC, KERNEL_FAILS, 0),
    (Cause.MEMORY, PLUGIN_RUNS_OUT, -6),
    (
        Cause.MEMORY,
        (
            "[TensorRT] ERROR: [localCheckMacros.cpp::getErrorStr::132] Error Code 2: "
            "OutOfMemory (Requested size was 1091811336 bytes.)"
        ),
        3,
    ),
    (
        Cause.MEMORY,
        (
            "[TensorRT] ERROR: IBuilder::buildSerializedNetwork: Error Code 1: "
            "Myelin (enumerate_tactics] Tactic Selection: no tactics to implement the "
            "operation within workspace limit. Consider increase the allowed)"
        ),
        3,
    ),
    (Cause.MEMORY, "", -9),
    (
        Cause.OPERATOR,
        (
            "[TensorRT] ERROR: In node 0 with name: n0 and operator: StringNormalizer "
            "(checkStringNormalizer): UNSUPPORTED_NODE: false [an operator of ONNX]"
        ),
        3,
    ),
    (
        Cause.PLUGIN,
        (
            "[TensorRT] ERROR: In node 0 with name: n0 and operator: Frobnicate "
            '(checkFallbackPluginImporter): INVALID_NODE: creator && "Plugin not '
            'found, are the plugin name, version, and namespace correct?" [no '
            "operator of ONNX: a plugin's]"
        ),
        3,
    ),
    (
        Cause.MODEL,
        (
            "[TensorRT] ERROR: (deserializeOnnxModel): MODEL_DESERIALIZE_FAILED: "
            "Assertion failed: model->ParseFromCodedStream(&codedInput)"
        ),
        3,
    ),
    (
        Cause.PROFILE,
        (
            f"{NO_DRIVER}\n[TensorRT] ERROR: IBuilder::buildSerializedNetwork: Error "
            "Code 4: API Usage Error (Dimension mismatch for tensor x and profile 0. "
            "At dimension axis 1, profile has min=8, opt=8, max=8 but tensor has 4.)"
        ),
        3,
    ),
    (
        Cause.DEVICE,  # what it says on an H100
        (
            "[TensorRT] ERROR: The engine cannot run on this GPU, which has compute "
            "capability 9.0"
        ),
        1,
    ),
    (Cause.DEVICE, NO_DRIVER, 3),
    (Cause.CRASH, "[TensorRT] INFO: Detected 2 inputs", -11),
    (Cause.UNKNOWN, "[TensorRT] ERROR: something nobody has seen", 3),
    (Cause.UNKNOWN, "", 3),
]


@pytest.mark.parametrize(("kind", "printed", "status"), SEEN)
def test_a_failure_is_told_by_what_was_printed(
    kind: Cause, printed: str, status: int
) -> None:
    """The kind, a line of the log, and what to do are all in the text."""
    found = classify_failure(printed.splitlines(), status)

    assert found.cause == kind
    assert found.line
    assert "INFO" not in found.line or kind is Cause.CRASH
    assert str(found).startswith(f"{kind}: {found.line}; ")


def test_memory_that_is_merely_reported_is_no_failure_of_memory() -> None:
    """Every log of TensorRT speaks of memory; its informations decide nothing."""
    printed = [line for line in KERNEL_FAILS.splitlines() if "INFO" in line]

    assert classify_failure(printed, 3).cause is Cause.UNKNOWN


def memory(batch: int) -> BuildFailure:
    return BuildFailure(Cause.MEMORY, f"no room for {batch}")


def search(
    wanted: int, holds: int, holds_without: int, **named: bool
) -> SearchResult[str]:
    """Search where batches up to ``holds`` build, without graphs ``holds_without``."""

    def build(batch: int, graphs: bool) -> str | BuildFailure:
        most = holds if graphs else holds_without
        return f"{batch} {graphs}" if batch <= most else memory(batch)

    return find_largest_batch(build, wanted, **named)


@given(st.integers(1, 5000), st.data())
def test_the_largest_batch_that_builds_is_found(
    wanted: int, data: st.DataObject
) -> None:
    """With at most 2·log2 builds, rounded up; what is returned is that build."""
    holds = data.draw(st.integers(1, wanted))
    found = search(wanted, holds, holds)

    assert found.batch == holds
    assert found.plan == f"{holds} True"
    assert len(found.tried) <= max(1, 2 * math.ceil(math.log2(wanted)))
    assert (holds, "built") in found.tried
    assert len(found.tried) == len(set(found.tried))


@given(st.integers(1, 500), st.data())
def test_cuda_graphs_go_when_nothing_builds_with_them(
    wanted: int, data: st.DataObject
) -> None:
    """Only then; and then the largest batch without them is found."""
    holds = data.draw(st.integers(0, wanted))
    found = search(wanted, 0, holds)

    assert found.batch == holds
    assert not found.cuda_graphs
    assert found.plan == (f"{holds} False" if holds else None)
    assert all("without CUDA graphs" in said for _, said in found.tried[2:])


def test_the_order_is_the_wanted_batch_then_doubling_then_bisection() -> None:
    """As NVIDIA's tuning guide has it, and the failure that decided is kept."""
    found = search(64, 21, 64)

    assert [b for b, _ in found.tried] == [64, 1, 2, 4, 8, 16, 32, 24, 20, 22, 21]
    assert found.failure == memory(22)
    assert found.cuda_graphs


def test_graphs_that_are_off_already_are_not_tried_without() -> None:
    """There is nothing left to try."""
    found = search(4, 4, 0, cuda_graphs=False)

    assert [*found.tried] == [
        (4, "memory without CUDA graphs"),
        (1, "memory without CUDA graphs"),
    ]
    assert found.plan is None


@pytest.mark.parametrize("cause", sorted(set(Cause) - CURED_BY_SMALLER_BATCH))
def test_what_no_batch_cures_is_tried_once(cause: Cause) -> None:
    """An unsupported operator is unsupported in every batch."""

    def fail(batch: int, graphs: bool) -> str | BuildFailure:  # noqa: ARG001
        return BuildFailure(cause, "no")

    found = find_largest_batch(fail, 64)

    assert found.tried == ((64, str(cause)),)
    assert found.plan is None


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.fixture
def order(tmp_path: Path) -> PlanRequest:
    return PlanRequest(
        str(tmp_path / "x.onnx"), str(tmp_path / "x.plan"), "", 4, 0, BuildSettings()
    )


@pytest.fixture
def beats() -> list[int]:
    return []


def test_a_build_beats_and_hands_its_facts_back(
    order: PlanRequest, beats: list[int]
) -> None:
    """One beat a line; the order arrives whole; a success leaves no log."""
    code = (
        "import json, sys; o = json.load(sys.stdin)\n"
        "print(json.dumps({'step': 'one'}))\n"
        "print(json.dumps({'done': {'batch': str(o['max_batch'])}}))"
    )
    facts = run_build(order, lambda: beats.append(1), python(code))

    assert facts == {"batch": "4"}
    assert len(beats) == 2
    assert not Path(order.plan).with_suffix(".log").exists()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("import os; os.write(2, b'out of memory'); os.abort()", Cause.MEMORY),
        ("import os; os.kill(os.getpid(), 9)", Cause.MEMORY),
        ("import ctypes; ctypes.string_at(0)", Cause.CRASH),
        ("raise SystemExit(3)", Cause.UNKNOWN),
        ("pass", Cause.UNKNOWN),
    ],
)  # fmt: skip
def test_a_builder_that_dies_is_a_failure_and_no_more(
    order: PlanRequest, code: str, kind: Cause
) -> None:
    """Aborted, killed or crashed: what it half wrote goes, its log stays."""
    Path(order.plan).write_bytes(b"half a plan")
    found = run_build(order, lambda: None, python(code))

    assert isinstance(found, BuildFailure)
    assert found.cause is kind
    assert not Path(order.plan).exists()
    assert Path(found.log).is_file()


def test_a_plan_that_would_fail_at_its_largest_shapes_is_a_failure(
    order: PlanRequest,
) -> None:
    """TensorRT only warns; the run would meet it."""
    code = (
        "import json, sys\n"
        "print('[TensorRT] WARNING: Profile kMAX values are not self-consistent. "
        "1000 != 384', file=sys.stderr)\n"
        "print(json.dumps({'done': {}}))"
    )
    found = run_build(order, lambda: None, python(code))

    assert isinstance(found, BuildFailure)
    assert found.cause is Cause.PROFILE
    assert "1000 != 384" in found.line


def test_a_request_survives_its_journey() -> None:
    """What the builder reads is what was requested, tuples included."""
    settings = BuildSettings(512, 3, True, ("p.so",))
    request = PlanRequest("a", "b", "c", 8, 384, settings, trial=True)

    assert PlanRequest.from_json(request.to_json()) == request
