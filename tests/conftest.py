"""What tests of the plugin share: pytester, and a suite that needs no LoadGen."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import numpy  # noqa: F401 - sessions inside a test must not be the first to load it
import pytest

from pytest_mlperf.config.options import find_cache
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support.slow_files import SLOW_FILES

pytest_plugins = ["pytester"]
with suppress(ImportError):
    # As numpy: a session inside a test forgets what it was the first to load, and
    # vl_convert can be loaded only once in a process.
    import vl_convert  # noqa: F401
# A mistyped word makes pytest load this file in environments without hypothesis too:
# its own message, which names the word, has to be what the user reads.
with suppress(ImportError):
    from hypothesis import HealthCheck
    from hypothesis import settings

    settings.register_profile(
        "thorough", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    # A busy machine fails no property, and a slow one is done in time.
    settings.register_profile(
        "any machine", settings.get_profile("thorough"), max_examples=40
    )
    settings.load_profile("any machine")
WITHOUT_OTHERS = "-p no:hypothesispytest -p no:benchmark -p no:anyio"
"""For sessions that tests start: half of a short one is other people's plugins."""
CACHE = find_cache(os.environ, Path.cwd()).parent
"""The user's: pytester's sessions have a home of their own, and each would bundle the
plots' library and build its engines again, for seconds."""
HANG_S = 300
"""No test of a fault may take as long."""

SUITE = """
import pytest
from pytest_mlperf.core.verdict import Check, Metric, Status, Verdict
from pytest_mlperf.reporting.progress import Progress
from pytest_mlperf.plugin.session import State

def judge(request, cell, mode):
    state = State.of(request.config)
    state.display.show(Progress(cell.id, mode, "run", issued=10, completed=8, rate=4.0))
    slow = cell.benchmark == "resnet50" and cell.scenario.slug == "server"
    check = Check("latency", Status.FAIL if slow else Status.PASS, "20 ms", "15 ms",
                  "mlperf_log_summary.txt:7", "lower the target QPS")
    verdict = Verdict(
        benchmark=cell.model, scenario=cell.scenario.value, engine=cell.engine,
        mode=mode, round=cell.round, metric=Metric("rate", 68.5, "samples/s"),
        checks=(check,), labels=state.options.labels,
        facts={"device": str(state.device), "worker": state.worker},
    )
    state.attach(request.node, verdict)
    if not verdict.valid:
        pytest.fail(verdict.explain(), pytrace=False)

@pytest.mark.mlperf(mode="performance")
def test_performance(cell, request):
    if cell.scenario.slug == "multistream":
        pytest.skip("no such device; install one")
    judge(request, cell, "performance")

@pytest.mark.mlperf(mode="accuracy")
def test_accuracy(cell, request):
    judge(request, cell, "accuracy")
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow files, in the order of their list."""
    root = Path(__file__).parent
    places = {root / name: place for place, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True)
def _sessions_without_others(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions that a test starts load our plugin, xdist, and no other, and have the
    user's cache.
    """
    if "pytester" in request.fixturenames:
        request.getfixturevalue("pytester")  # which takes the variable away
    monkeypatch.setenv("PYTEST_ADDOPTS", WITHOUT_OTHERS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(CACHE))


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with an mlperf suite whose only INVALID cells are resnet50 server."""
    pytester.makepyfile(test_suite=SUITE)
    return pytester


@pytest.fixture
def make_verdict() -> Callable[..., Verdict]:
    """Makes a verdict of one passed rule; keywords change its fields."""

    def make(**changes: object) -> Verdict:
        passed = Check("latency", Status.PASS, "9 ms", "15 ms", "summary:7")
        fields: dict[str, object] = {
            "benchmark": "bert-99",
            "scenario": "Server",
            "engine": "onnxruntime",
            "mode": "performance",
            "round": "v4.1",
            "metric": Metric("result_completed_samples_per_sec", 68.5, "queries/s"),
            "checks": (passed,),
        }
        return Verdict(**(fields | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def bounded() -> Iterator[None]:
    """Ends a test that hangs, the runner's child with it."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"the fault was not noticed within {HANG_S} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANG_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
