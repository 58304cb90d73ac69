"""The pytest plugin: hooks that call one function each and store what it returns."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.plugin import collection
from pytest_mlperf.plugin import home
from pytest_mlperf.plugin import options
from pytest_mlperf.plugin import other_plugins
from pytest_mlperf.plugin import submission
from pytest_mlperf.plugin import xdist
from pytest_mlperf.plugin.progress_display import wrap_lines
from pytest_mlperf.plugin.records import redact_report
from pytest_mlperf.plugin.records import require_measured
from pytest_mlperf.plugin.report import NOT_ALL_MEASURED
from pytest_mlperf.plugin.report import NOTHING_MEASURED
from pytest_mlperf.plugin.session import KEY
from pytest_mlperf.plugin.session import State
from pytest_mlperf.plugin.session import preview
from pytest_mlperf.plugin.usage_errors import as_usage_errors

Wrapper = Generator[None, Any, Any]


def pytest_addoption(
    parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager
) -> None:
    """Register options, and the xdist hooks, which act before configuration."""
    options.add_options(parser)
    pluginmanager.register(xdist, "mlperf-xdist")


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> Wrapper:
    """Claim other harnesses' spellings after the conftests had their chance, and
    explain what nobody claims.
    """
    result = yield
    options.add_aliases(parser, args)
    options.suggest_options(parser, args)
    return result


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, make the state and rewrite aliases in ids."""
    config.addinivalue_line("markers", collection.MARKER)
    state = State.start(config)
    config.args[:] = [collection.rewrite_aliases(a, state.options) for a in config.args]
    if config.getoption("markers", default=False):
        # Collection reports a benchmark that cannot be imported.
        with contextlib.suppress(ValueError):
            collection.register_markers(config, state.options)
    config.pluginmanager.register(ReportTaker(state), "mlperf-report-taker")
    home.register_fixtures(config.pluginmanager)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Open the live line, where a reporter writes the lines around it."""
    state = State.of(session.config)
    state.display.open(session.config, state.options.progress)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of the terminal and of the signals, and of a folder that nobody used:
    after Ctrl-C while xdist starts its workers, no session finishes.
    """
    if state := config.stash.get(KEY, None):
        state.display.close()
        state.signals.release()
        if not state.worker:
            state.folder.remove_unused()


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Collector, obj: object
) -> list[pytest.Item] | None:
    """Leave out compliance tests that nobody asked for, without a trace of them."""
    state = State.of(collector.config)
    return [] if state.selection.hide_audit(obj, state.options) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every mlperf test function its cells."""
    state = State.of(metafunc.config)
    try:
        with as_usage_errors():
            collection.parametrize(metafunc, state.options)
    except pytest.UsageError as error:
        state.selection.note_refusal(str(error))
        # Of what happens while collecting, pytest shows this kind without traceback.
        raise pytest.Collector.CollectError(str(error)) from None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the suites that a submission carries as the code that ran, and the
    bare engines and deployments where nobody asks for them.
    """
    if home.is_bare_suite(collection_path) and not config.getoption(
        "benchmark_only", default=False
    ):
        return True
    if home.is_deployment_suite(collection_path):
        return True  # pytest does not ask for a path that was typed
    chosen = State.of(config).options
    return submission.is_tree(chosen, config.rootpath, collection_path) or None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, items: list[pytest.Item]
) -> Wrapper:
    """Sort by build, and notice a selection that leaves no cell."""
    state = State.of(session.config)
    with state.selection.narrow(session, items, state.options):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the reports folder when mlperf items are about to run, or say what would.

    First, because the terminal asks for the header in its own call of this hook.
    """
    state, asked = State.of(session.config), session.config.option
    if found := collection.list_items(session.items):
        if asked.collectonly:
            # Of -q's list programs read each line; without a terminal none is printed.
            is_shown = getattr(asked, "verbose", -1) >= 0
            state.header = preview(state, found) if is_shown else []
        elif state.worker:
            state.signals.catch()
            state.signals.end_with_parent()
        else:
            state.begin(found)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say what runs; nothing in sessions without mlperf items."""
    return wrap_lines(config, State.of(config).header)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Note what comes next: devices that it takes too are kept."""
    State.of(item.config).following = nextitem


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note the item's cell, which skipped and failed setups report too."""
    State.of(item.config).enter(item)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Wrapper:
    """Fail a test that ran to its end and measured nothing; next to the test itself, so
    that other plugins see this failure as the test's own.
    """
    __tracebackhide__ = True
    result = yield
    require_measured(item)
    return result


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport(item: pytest.Item) -> Wrapper:
    """Show the verdict in reports of passed items, and no secret in any; before others
    read the report.
    """
    report = yield
    other_plugins.add_section(item, report)
    if collection.cell_of(item):
        redact_report(report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write submission and reports; a bad submission fails the session, and nothing
    measured is no success.
    """
    state = State.of(session.config)
    status = state.selection.choose_status(int(exitstatus))
    state.signals.ignore()  # the session is ending, and its results are being written
    if state.report.has_measured_nothing(session.testscollected):
        status = status or NOTHING_MEASURED
    if state.options.require and not state.report.has_measured_all():
        status = status or NOT_ALL_MEASURED
    status = state.end(status)
    if status != exitstatus:
        session.exitstatus = status


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table."""
    State.of(config).print_summary(terminalreporter)


class ReportTaker:
    """Hooks that get no config: they hold the session's state themselves."""

    def __init__(self, state: State) -> None:
        self._state = state

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note the item, which may be interrupted before its first report."""
        self._state.report.begin_item(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect verdicts on the controller."""
        self._state.report.take(report)

    def pytest_runtest_logfinish(self) -> None:
        """Forget a finished item's progress."""
        self._state.display.end_item()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Wrapper:
        """Print the table all the same where junit's file cannot be written."""
        try:
            return (yield)
        except OSError as error:
            if not self._state.report.is_open:
                raise
            self._state.report.add_note(other_plugins.describe_unwritten(error))
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
            return None

    def pytest_keyboard_interrupt(self, excinfo: Any) -> None:
        """Mark the results as partial; -x under xdist is no interruption: then the
        records tell whether items are missing.
        """
        is_xdists = excinfo.type.__module__.partition(".")[0] == "xdist"
        self._state.interrupted |= not is_xdists
