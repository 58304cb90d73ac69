"""Workers are devices: how many, which one each owns, and who builds what.

Other people's sessions keep xdist's own behaviour: the worker count and the scheduler
change only where mlperf suites or options are named, and the limit on workers holds
only where mlperf items were collected.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_mlperf.core.matrix import build_key
from pytest_mlperf.measure.cells import known_cells
from pytest_mlperf.plugin import collection
from pytest_mlperf.plugin.options import is_configured
from pytest_mlperf.plugin.options import read_options
from pytest_mlperf.plugin.options import refuse_unused_aliases
from pytest_mlperf.plugin.selection import EMPTY
from pytest_mlperf.plugin.session import State

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling
    from xdist.workermanage import WorkerController

    from pytest_mlperf.core.cell import Cell
    from pytest_mlperf.machine.devices import Device

_MARK = re.compile(r"\bmlperf\(")
_OWN = re.compile(r"\bmlperf\(|\bpytest_mlperf\b")


def is_mlperf_session(config: pytest.Config) -> bool:
    """Return whether mlperf options or suites are named; cheap, before collection."""
    return is_configured(config) or has_suites(config)


def has_suites(config: pytest.Config) -> bool:
    """Return whether suites are named.

    A suite is a file, or a folder with a test file in it, that uses the mlperf mark.
    """
    for argument in config.args or [str(config.invocation_params.dir)]:
        name = argument.partition("::")[0]
        if "mlperf" in Path(name).name:
            return True
        if _is_suite(config.invocation_params.dir / name):
            return True
    return False


def has_suites_alone(config: pytest.Config) -> bool:
    """Return whether every test file that is named is about mlperf, and one is a suite.

    Known before collection; others' files may stand beside a suite in a folder.
    """
    files: list[Path] = []
    for argument in config.args:
        path = _find_path(config, argument.partition("::")[0])
        files += [path] if path.is_file() else path.rglob("test_*.py")
    return any(map(_is_marked, files)) and all(_has(_OWN, file) for file in files)


def _find_path(config: pytest.Config, name: str) -> Path:
    """Return what an argument names: a file or folder, or a module of --pyargs."""
    path = config.invocation_params.dir / name
    if config.getoption("pyargs", default=False) and not path.exists():
        # What cannot be found is pytest's to complain about.
        with contextlib.suppress(Exception):
            spec = importlib.util.find_spec(name)
            if spec and spec.origin:
                found = Path(spec.origin)
                return found.parent if found.name == "__init__.py" else found
    return path


def _is_suite(path: Path) -> bool:
    """Return whether a file, or a file of a folder, uses the mark."""
    # Anybody's session asks; what cannot be read there is theirs to complain about.
    with contextlib.suppress(OSError):
        files = [path] if path.is_file() else list(path.glob("test_*.py"))
        return any(_is_marked(file) for file in files)
    return False


def _is_marked(file: Path) -> bool:
    return _has(_MARK, file)


def _has(pattern: re.Pattern[str], file: Path) -> bool:
    with contextlib.suppress(OSError):
        return file.is_file() and bool(
            pattern.search(file.read_text("utf-8", "replace"))
        )
    return False


def refuse_workers(workers: int, state: State) -> None:
    """Raise ``UsageError`` for workers that would all measure the same, and for more
    than there are devices to own.

    A rehearsal measures nothing: its workers may share a device.
    """
    if workers > 1 and state.config.getoption("dist") == "each":
        raise pytest.UsageError(
            f"--dist each runs every item on each of {workers} workers at once: their "
            "runs would spoil each other's figures and write into one folder; omit "
            "--dist (for a run on each device, start a session for each of them)"
        )
    from pytest_mlperf.machine.devices import find_devices

    limit, what = count_room(find_devices(state.system))
    if workers > limit and not state.options.rehearsal:
        raise pytest.UsageError(
            f"-n {workers}, but this machine has {limit} {what}: runs that share a "
            f"device spoil each other's figures; try -n auto or -n {limit}"
        )


def count_room(devices: Sequence[Device]) -> tuple[int, str]:
    """Return how many workers these devices have room for, and what they are.

    Without a GPU the workers share the CPUs that may run at once (a container's quota
    can allow fewer than it shows), and each needs one of its own.
    """
    if devices[0].kind == "gpu":
        return len(devices), f"device{'s' * (len(devices) > 1)}"
    limit = max(1, min(devices[0].threads, len(devices[0].cpus)))
    return limit, f"usable CPU{'s' * (limit > 1)} and no GPU"


def describe_idle_workers(
    state: State, cells: Sequence[Cell], workers: int
) -> list[str]:
    """Say that some workers have nothing to do, and what gives them some.

    The items of one engine build stay together, unless ``--dist`` or a rehearsal
    spreads them.
    """
    builds = len({build_key(cell) for cell in cells})
    idle = workers - builds
    is_spread = state.options.rehearsal or state.config.getoption("dist") != "load"
    if idle <= 0 or is_spread:
        return []
    verbs = ("idles", "keeps") if idle == 1 else ("idle", "keep")
    advice = "without -n they have all CPUs"
    if len(cells) > builds:
        advice = f"--dist worksteal spreads the items, and {advice}"
    return [
        f"mlperf: note: {idle} of {workers} workers {verbs[0]}, and {verbs[1]} a share "
        "of the devices: the items of an engine build stay on one worker, and there "
        + ("is 1" if builds == 1 else f"are {builds}")
        + f"; {advice}"
    ]


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``-n auto`` is one worker a device, or for as many devices as an item takes; a
    rehearsal has xdist's own answer.

    First, because the order of plugins follows their folders: xdist may come before.
    """
    if not is_mlperf_session(config):
        return None
    options = read_options(config)
    if options.rehearsal:
        return None
    from pytest_mlperf.measure.placement import room_for

    return room_for(State(config, options).system, options.devices_per_item or 1)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[object]) -> None:
    """Refuse too many workers before any starts, where all will have mlperf items.

    First, because xdist's terminal counts the workers as created in its own call.
    """
    if has_suites_alone(config):
        refuse_workers(len(specs), State.of(config))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Tell a worker which device it owns and where the reports are."""
    state = State.of(node.config)
    taken = node.config.stash.setdefault(_TAKEN, {})
    free = (i for i in range(len(taken) + 1) if i not in taken.values())
    taken[node.gateway.id] = next(free)
    node.workerinput["mlperf_device"] = taken[node.gateway.id]
    is_certain = is_mlperf_session(node.config)
    node.workerinput["mlperf_reports"] = state.folder.tell(is_certain=is_certain)
    if is_certain:
        # Slurm's SIGTERM may come before the first worker tells what is to run.
        state.signals.catch()


@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_testnodedown(node: WorkerController, error: object | None) -> None:
    """Free a worker's device, for the worker that replaces it."""
    del error
    node.config.stash.setdefault(_TAKEN, {}).pop(node.gateway.id, None)
    output: dict[str, Any] = getattr(node, "workeroutput", None) or {}
    if output.get(EMPTY):
        State.of(node.config).selection.is_empty = True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(
    node: WorkerController, ids: Sequence[str]
) -> None:
    """Begin the session when the first worker tells what is to run."""
    state = State.of(node.config)
    if state.total:
        return
    every = known_cells(state.options) if any("[" in i for i in ids) else ()
    items = [
        (cell, collection.mode_in(i))
        for i in ids
        if (cell := collection.find_cell_in(i, every))
    ]
    if ids and not items and not has_suites(node.config):  # else -k left none
        refuse_unused_aliases(node.config)
    if items:
        workers = node.workerinput["workercount"]
        refuse_workers(workers, state)
        state.begin(items, workers)
        state.header += describe_idle_workers(
            state, [cell for cell, _ in items], workers
        )
        state.watch_workers()


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_make_scheduler(
    config: pytest.Config, log: Producer
) -> Scheduling | None:
    """Give all items of one build to one worker, so that it is built once.

    A rehearsal builds nothing: its cells run side by side, each in its own order.
    """
    if config.getvalue("dist") != "load" or not is_mlperf_session(config):
        return None
    return make_scheduler(config, log)


def make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Return a scheduler that groups mlperf items by build (in a rehearsal by cell),
    others one by one.
    """
    from xdist.scheduler import LoadScopeScheduling

    options = State.of(config).options
    every = known_cells(options)

    class BuildScheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            cell = collection.find_cell_in(nodeid, every)
            if cell is None:
                return nodeid
            return cell.id if options.rehearsal else "-".join(build_key(cell))

        def schedule(self) -> None:
            super().schedule()
            # A worker runs an item when it knows the next one; xdist hands a worker
            # that replaces a crashed one a single unit, and both would wait for ever.
            for node in self.nodes:
                while self.workqueue and self._pending_of(self.assigned_work[node]) < 2:
                    self._assign_work_unit(node)

        def remove_node(self, node: WorkerController) -> str | None:
            # The item that killed its worker must not kill the next one too, and
            # units that are done must not be handed out again.
            crashed: str | None = None
            for unit in self.assigned_work[node].values():
                pending = [nodeid for nodeid, done in unit.items() if not done]
                if pending and crashed is None:
                    crashed = pending[0]
                    unit[crashed] = True
            self.assigned_work[node] = {
                scope: unit
                for scope, unit in self.assigned_work[node].items()
                if not all(unit.values())
            }
            super().remove_node(node)
            return crashed

    return BuildScheduling(config, log)


_TAKEN = pytest.StashKey[dict[str, int]]()
