"""The pytest plugin: hooks that call one function each and keep what it returns."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.config import options
from pytest_mlperf.measure import cells
from pytest_mlperf.plugin import collection
from pytest_mlperf.plugin import submission
from pytest_mlperf.plugin import xdist
from pytest_mlperf.plugin.session import KEY
from pytest_mlperf.plugin.session import State
from pytest_mlperf.reporting import progress
from pytest_mlperf.reporting.progress import ProgressLine

Wrapper = Generator[None, Any, Any]


def pytest_addoption(
    parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager
) -> None:
    """Register options, and the xdist hooks, which act before configuration."""
    options.add_options(parser)
    pluginmanager.register(xdist, "mlperf-xdist")


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(parser: pytest.Parser) -> Wrapper:
    """Claim the short option names after the conftests had their chance."""
    result = yield
    options.add_short_options(parser)
    return result


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, make the state and rewrite aliases in ids."""
    config.addinivalue_line("markers", collection.MARKER)
    state = State.start(config)
    submission.settle(state)
    cells.check_engines(state.options)
    config.args[:] = [collection.rewrite(a, state.options) for a in config.args]
    if config.getoption("markers", default=False):
        # A benchmark that does not import is told where items are collected.
        with contextlib.suppress(ValueError):
            collection.register_markers(config, state.options)
    config.pluginmanager.register(Recorder(state), "mlperf-recorder")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Open the live line, where a reporter writes the lines around it."""
    config = session.config
    state = State.of(config)
    if state.worker or config.getoption("collectonly"):
        return
    if not config.pluginmanager.has_plugin("terminalreporter"):  # -p no:terminal
        return
    state.line = progress.open_line(
        state.options.progress,
        lambda: config.get_terminal_writer().width_of_current_line,
    )
    if state.line:
        config.pluginmanager.register(Quiet(state.line), "mlperf-quiet")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of the terminal."""
    if (state := config.stash.get(KEY, None)) and state.line:
        state.line.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Collector, obj: object
) -> list[pytest.Item] | None:
    """Leave out compliance tests that nobody asked for, without a trace of them."""
    state = State.of(collector.config)
    if not collection.is_unasked(obj, state.options):
        return None
    state.unasked = True
    return []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every mlperf test function its cells."""
    try:
        collection.parametrize(metafunc, State.of(metafunc.config).options)
    except pytest.UsageError as error:
        # Of what happens while collecting, pytest shows this kind without traceback.
        raise pytest.Collector.CollectError(str(error)) from None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the suites that a submission carries as the code that ran."""
    return submission.is_tree(State.of(config), collection_path) or None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Wrapper:
    """Sort by build, and notice a selection that leaves no cell."""
    state = State.of(config)
    had_cells = bool(collection.found_in(items))
    state.alone = state.unasked and not had_cells
    collection.sort(items)
    result = yield
    if (had_cells or state.alone) and not items:
        state.deselect()
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the reports folder when mlperf items are about to run.

    First, because the terminal asks for the header in its own call of this hook.
    """
    state = State.of(session.config)
    if state.worker or session.config.getoption("collectonly"):
        return
    if found := collection.found_in(session.items):
        state.begin(found)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say what runs; nothing in sessions without mlperf items."""
    return State.of(config).header


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Note what comes next: devices that it takes too are kept."""
    State.of(item.config).following = nextitem


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note the item's cell, which skipped and failed setups report too."""
    State.of(item.config).enter(item)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write submission and closing line; a bad submission fails the session."""
    ended = State.of(session.config).end(int(exitstatus))
    if ended != exitstatus:
        session.exitstatus = ended


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table."""
    State.of(config).print_summary(terminalreporter)


class Recorder:
    """Hooks that get no config: they hold the session's state themselves."""

    def __init__(self, state: State) -> None:
        self._state = state

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect verdicts on the controller."""
        self._state.take(report)

    def pytest_runtest_logfinish(self) -> None:
        """Forget a finished item's progress."""
        self._state.leave()

    def pytest_keyboard_interrupt(self) -> None:
        """Mark the results as partial."""
        self._state.interrupted = True


class Quiet:
    """Takes the live line away while pytest itself writes."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line

    @pytest.hookimpl(wrapper=True, tryfirst=True, optionalhook=True)
    def _pause(self) -> Wrapper:
        with self._line.paused():
            return (yield)

    pytest_runtest_logstart = _pause
    pytest_runtest_logreport = _pause
    pytest_runtest_logfinish = _pause
    pytest_testnodedown = _pause
    pytest_keyboard_interrupt = _pause
    pytest_internalerror = _pause
    pytest_sessionfinish = _pause
    pytest_enter_pdb = _pause
