"""Who observes a run: merged facts, failures that are told, refusals that are not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from types import TracebackType

import pytest

from pytest_mlperf.api.observer import Observed
from pytest_mlperf.api.observer import ObservedRun
from pytest_mlperf.api.observer import Observer
from pytest_mlperf.api.observer import RunHeartbeat
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.cpu_usage import CpuTime
from pytest_mlperf.machine.nvml import Reading
from pytest_mlperf.machine.sampler import Sample
from pytest_mlperf.machine.sampler import Sampler
from pytest_mlperf.machine.system import detect_system
from pytest_mlperf.measure.observe import BrokenObserver
from pytest_mlperf.measure.observe import Observation
from pytest_mlperf.measure.observe import find_observers
from pytest_mlperf.measure.observe import observe
from pytest_mlperf.measure.observers.clock_lock import ClockLock
from pytest_mlperf.measure.observers.cpu_times import CpuTimes
from pytest_mlperf.measure.observers.cpu_times import ObservedCpus
from pytest_mlperf.measure.observers.device_samples import ObservedDevices
from pytest_mlperf.measure.observers.host_settings import HostSettings
from pytest_mlperf.measure.observers.other_sessions import OtherSessions
from pytest_mlperf.runner.messages import Heartbeat
from tests.support.cells import cell_of

RUN = Heartbeat(
    "run", issued=10, completed=8, elapsed_s=2.0, is_measuring=True, measured_s=1.5
)


@dataclass(frozen=True, slots=True)
class Run:
    """A run on CPU 0, or on these GPUs."""

    folder: Path = Path("nowhere")
    """The current folder would be littered with what an observer writes."""
    cell: Cell = field(default_factory=lambda: cell_of("bert", "99", Scenario.SERVER))
    cpus: tuple[int, ...] = (0,)
    visible: tuple[str, ...] = ()


@dataclass(slots=True)
class Counter:
    """Counts heartbeats; fails where it is told to."""

    name: str
    log: list[str]
    fails: str = ""
    seen: int = 0

    @contextmanager
    def around(self, task: ObservedRun) -> Iterator[Observed]:
        self._fail("enter")
        self.log.append(f"{self.name} in {task.cell.benchmark}")
        try:
            yield self
        finally:
            self.log.append(f"{self.name} out")
            self._fail("exit")

    def see(self, heartbeat: RunHeartbeat) -> None:
        self.seen += 1
        self._fail(heartbeat.phase)

    @property
    def facts(self) -> Mapping[str, str]:
        self._fail("facts")
        return {f"{self.name} saw": str(self.seen)}

    def _fail(self, moment: str) -> None:
        if moment == self.fails:
            raise ZeroDivisionError(f"{moment} of {self.name}\nand more")


def observe_twice(observers: dict[str, Observer]) -> RunFacts:
    """Return the facts of a run of two heartbeats."""
    with observe(observers, Run()) as observation:
        assert observation.see(RUN) is RUN
        observation.see(RUN)
    return observation.complete_facts(RunFacts(texts={"own": "kept"}))


def test_the_last_observer_encloses_the_others_and_facts_keep_their_order() -> None:
    """Clocks, which are last, are locked before anything is read."""
    log: list[str] = []
    facts = observe_twice({"a": Counter("a", log), "b": Counter("b", log)})

    assert log == ["b in bert", "a in bert", "a out", "b out"]
    assert list(facts.texts.items()) == [
        ("own", "kept"),
        ("a saw", "2"),
        ("b saw", "2"),
    ]


@pytest.mark.parametrize(
    ("moment", "seen"), [("enter", None), ("run", "1"), ("exit", "2"), ("facts", None)]
)
def test_an_observer_that_fails_is_told_and_fails_nothing(
    moment: str, seen: str | None
) -> None:
    """Wherever it fails; the others see the whole run."""
    log: list[str] = []
    bad, good = Counter("bad", log, fails=moment), Counter("good", log)
    facts = observe_twice({"bad": bad, "good": good})

    assert facts.texts["observer bad"] == f"failed: ZeroDivisionError: {moment} of bad"
    assert facts.texts.get("bad saw") == seen
    assert facts.texts["good saw"] == "2"
    assert "observer good" not in facts.texts


def test_an_observer_that_cannot_be_imported_is_told() -> None:
    """The cause is the registry's."""
    facts = observe_twice({"lost": BrokenObserver(ValueError("no module"))})

    assert facts.texts["observer lost"] == "failed: ValueError: no module"


class Refusing:
    """Asks for root."""

    def around(self, task: ObservedRun) -> AbstractContextManager[Observed]:
        raise RunRefused(f"{task.cell.id}: be root")


def test_a_refusal_comes_before_the_run_and_ends_what_had_begun() -> None:
    """The item fails with the observer's own words."""
    log: list[str] = []
    with (
        pytest.raises(RunRefused, match="be root"),
        observe({"no": Refusing(), "a": Counter("a", log)}, Run()),
    ):
        log.append("ran")

    assert log == ["a in bert", "a out"]


class Swallowing:
    """A context that would hide the run's own error, and overwrite its facts."""

    facts: Mapping[str, str] = {"own": "theirs", "number": 1}  # type: ignore[dict-item]

    def around(self, task: ObservedRun) -> Swallowing:  # noqa: ARG002 - one shape
        return self

    def __enter__(self) -> Swallowing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return True

    def see(self, heartbeat: RunHeartbeat) -> None: ...

    def complete_facts(self, facts: RunFacts) -> RunFacts:
        return replace(facts, is_disturbed=True)


def test_no_observer_hides_the_runs_error() -> None:
    """It reaches whoever started the run."""
    with (
        pytest.raises(RuntimeError, match="the run broke"),
        observe({"s": Swallowing()}, Run()),
    ):
        raise RuntimeError("the run broke")


def test_an_observers_values_complete_the_runs_and_its_texts_replace_none() -> None:
    """What is decided on is a value; a text is a text, whatever it was."""
    facts = observe_twice({"s": Swallowing()})

    assert facts.is_disturbed
    assert facts.texts == {"own": "kept", "number": "1"}


def test_facts_that_are_none_are_told() -> None:
    """An observer that forgets to return the facts loses its own only."""

    class Forgetful(Swallowing):
        def complete_facts(self, facts: RunFacts) -> RunFacts:  # noqa: ARG002
            return None  # type: ignore[return-value]

    facts = observe_twice({"f": Forgetful()})

    assert facts.texts["observer f"].startswith("failed: TypeError: complete_facts()")


def test_a_session_has_the_suites_observers(tmp_path: Path) -> None:
    """The clock's is the last: it encloses the others."""
    options = Options(lock_clocks="1500")
    system = detect_system(rootdir=tmp_path)
    found = find_observers(options, system, "reports/a")
    rehearsed = find_observers(replace(options, rehearsal=True), system, "reports/a")

    assert [*found] == [
        "host settings", "devices", "CPUs", "rates", "chip power", "sessions", "clocks",
    ]  # fmt: skip
    assert found["sessions"] == OtherSessions("reports/a")
    assert "sessions" not in rehearsed
    assert found["clocks"] == ClockLock("1500")
    assert rehearsed["clocks"] == ClockLock(None)


def test_clocks_without_a_gpu_refuse_the_run() -> None:
    """The option says what to lock, and there is nothing."""
    with (
        pytest.raises(RunRefused, match="there is no GPU to lock the clock of"),
        observe({"clocks": ClockLock("1500")}, Run()),
    ):
        pass


def test_host_settings_are_facts_with_the_advice(tmp_path: Path) -> None:
    """As /sys and /proc say, and NUMA as the system file does."""
    pages = tmp_path / "sys/kernel/mm/transparent_hugepage/enabled"
    pages.parent.mkdir(parents=True)
    pages.write_text("always [madvise] never\n")
    facts = observe_twice({"host": HostSettings("0:0-1", tmp_path)}).texts

    assert facts["huge pages"] == "madvise (advised: always for Server)"
    assert facts["numa"] == "0:0-1"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OMP_NUM_THREADS": "4", "LD_PRELOAD": "/lib/libjemalloc.so.2", "HOME": "/"},
         "LD_PRELOAD=/lib/libjemalloc.so.2, OMP_NUM_THREADS=4"),
        ({"MALLOC_ARENA_MAX": "", "COMP_X": "1"}, None),
    ],
)  # fmt: skip
def test_what_chooses_allocator_and_threads_from_outside_is_told(
    tmp_path: Path, environ: dict[str, str], expected: str | None
) -> None:
    """No other variable is repeated: they may hold secrets."""
    facts = observe_twice({"host": HostSettings("", tmp_path, environ)}).texts

    assert facts.get("environment") == expected


def write_cpu(root: Path, *, busy: int, throttles: int, idle: int = 100) -> None:
    """Write what a kernel tells of CPU 0."""
    count = root / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    for path, text in {
        count: f"{throttles}\n",
        root / "proc/stat": f"cpu0 {busy} 0 0 {idle} 0 0 0 0 0 0\n",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_cpu_throttling_during_the_run_is_counted(tmp_path: Path) -> None:
    """Only what was added while the run ran."""
    write_cpu(tmp_path, busy=0, throttles=3)
    with observe({"cpus": CpuTimes(tmp_path)}, Run(tmp_path)) as observation:
        observation.see(RUN)
        write_cpu(tmp_path, busy=0, throttles=5)
    facts = observation.complete_facts(RunFacts())

    assert facts.texts["cpu throttling"] == "2 times too hot"


@pytest.mark.parametrize(("busy", "is_disturbed"), [(4, False), (50, True)])
def test_other_load_is_a_text_and_a_value(busy: int, is_disturbed: bool) -> None:
    """The advice stands where the value is set."""
    observed = ObservedCpus((0,), Path("/"))
    observed.first = CpuTime(total=0, busy=0, stolen=0, own=0)
    observed.last = CpuTime(total=100, busy=busy, stolen=0, own=0)
    facts = observed.complete_facts(RunFacts())

    assert facts.is_disturbed is is_disturbed
    assert ("advised" in observed.facts["other load"]) is is_disturbed


def test_a_short_run_is_measured_too(tmp_path: Path) -> None:
    """The second heartbeat has the others' share, half a second after the first."""
    write_cpu(tmp_path, busy=0, throttles=0)
    with observe({"cpus": CpuTimes(tmp_path)}, Run(tmp_path)) as observation:
        observation.see(RUN)
        write_cpu(tmp_path, busy=300, throttles=0)
        observation.see(RUN)
    facts = observation.complete_facts(RunFacts())

    assert facts.others_share == 1.0
    assert facts.texts["other load"].startswith("1.00 of 1 CPUs (advised")
    assert facts.disturbance == "other load of 100% of its CPUs"


def test_the_busiest_second_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mean over the run hides a burst that made queries late."""
    clock = iter([10.0, 11.0, 12.0, 13.0])
    monkeypatch.setattr(
        "pytest_mlperf.measure.observers.cpu_times.time",
        SimpleNamespace(monotonic=lambda: next(clock)),
    )
    write_cpu(tmp_path, busy=0, throttles=0)
    run = Run(folder=tmp_path)
    with observe({"cpus": CpuTimes(tmp_path)}, run) as observation:
        for busy, idle in [(0, 100), (1, 199), (41, 259), (42, 1358)]:
            write_cpu(tmp_path, busy=busy, throttles=0, idle=idle)
            observation.see(RUN)
    facts = observation.complete_facts(RunFacts())
    lines = (tmp_path / "cpus.jsonl").read_text().splitlines()

    assert facts.others_share < 0.04
    assert not facts.is_disturbed
    assert (facts.others_peak, facts.others_peak_at_s) == (0.4, 2.0)
    assert facts.texts["busiest second"] == (
        "0.40 of 1 CPUs were others', 2 s after the start"
    )
    assert [json.loads(line)["others_share"] for line in lines] == [0.01, 0.4, 0.001]


def test_other_sessions_are_named_and_hear_of_this_one(tmp_path: Path) -> None:
    """Workers of one session are no others; who has left before the run is none."""

    def observe_as(session: str) -> AbstractContextManager[Observation]:
        return observe({"sessions": OtherSessions(session, tmp_path)}, Run())

    with observe_as("reports/gone"):
        pass
    with (
        observe_as("reports/a") as first,
        observe_as("reports/a") as worker,
        observe_as("reports/b") as other,
    ):
        for observation in (first, worker, other):
            observation.see(RUN)
    facts = [o.complete_facts(RunFacts()) for o in (first, worker, other)]

    assert [one.sessions_beside for one in facts] == [
        ("reports/b",),
        ("reports/b",),
        ("reports/a",),
    ]
    assert f"pid {os.getpid()}, session reports/b" in facts[0].texts["other sessions"]
    assert facts[0].disturbance == "another session (reports/b)"
    crowded = replace(facts[0], sessions_beside=("a", "b", "c", "d"))
    assert crowded.disturbance == "another session (a, b, 2 more)"


def test_an_attached_servers_load_is_no_disturbance() -> None:
    """It may be on this machine, and nobody can tell it from other programs'."""
    facts = RunFacts(others_share=0.9, is_attached=True)

    assert facts.disturbance == ""


def test_power_and_heat_are_those_of_the_measurement() -> None:
    """A device cools while LoadGen writes its logs: that is no unsteady device."""
    sampler = Sampler()
    devices = ObservedDevices([sampler])
    beats = [replace(RUN, is_measuring=False, measured_s=0.0)] * 9
    beats += [RUN] * 9 + [replace(RUN, is_measuring=False)] * 9
    for number, beat in enumerate(beats):
        devices.see(beat)
        reading = Reading(
            temperature_c=64.0 if beat.is_measuring else 46.0,
            power_w=690.0 if beat.is_measuring else 120.0,
        )
        sampler.samples.append(Sample(float(number), sampler.phase, reading))

    assert {sample.phase for sample in sampler.samples} == {"prepare", "run", "log"}
    assert devices.facts == {
        "device temperature": "64 to 64 °C, max 64 °C; steady",
        "device power": "mean 690 W, max 690 W",
    }


def test_several_devices_have_a_number_each() -> None:
    """One has none: its facts are the run's."""
    samplers = [Sampler(), Sampler()]
    for sampler in samplers:
        sampler.samples = [Sample(0.0, "run", Reading(power_w=9.0, held_back=()))]
    one, two = ObservedDevices(samplers[:1]), ObservedDevices(samplers)
    two.see(RUN)

    assert [*one.facts] == ["device power", "throttling"]
    assert [*two.facts] == [
        "device 0 power", "device 0 throttling",
        "device 1 power", "device 1 throttling",
    ]  # fmt: skip
    assert [sampler.phase for sampler in samplers] == ["run", "run"]
