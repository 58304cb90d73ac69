"""Power logs in time: was the meter running while LoadGen was, and what did it say?

Source: mlcommons/inference b66003e1, tools/submission/power/power_checker.py
(phases_check, check_ptd_logs) and submission_checker/checks/power_check.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.lines import read_lines
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SUMMARY
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.power.figures import read_window
from pytest_mlperf.core.power.readings import STAMP
from pytest_mlperf.core.power.readings import Window
from pytest_mlperf.core.power.readings import find_mean_watts
from pytest_mlperf.core.power.readings import parse_stamp
from pytest_mlperf.core.power.readings import read_readings
from pytest_mlperf.core.submission.check import power
from pytest_mlperf.core.submission.check import power_meter
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.core.submission.check.logs import is_readable
from pytest_mlperf.core.submission.check.power import AGAIN
from pytest_mlperf.core.submission.check.power import PtdSession
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.check.since import find_clock_tolerance
from pytest_mlperf.core.submission.check.since import is_asked
from pytest_mlperf.core.submission.check.tree import Result
from pytest_mlperf.core.submission.check.tree import Tree

EDGE_S = 800
"""Seconds at either end of a run in which the checker lets uncertainty pass."""
HOUR_S = 3600
"""LoadGen's time may be off by daylight saving time."""
LESS = 0.05
"""Share by which the tested run's power may be below the ranging run's."""
ACTIVATED = re.compile(r"Uncertainty checking for Yokogawa\S+ is activated")
UNCERTAIN = re.compile(r"Uncertainty \d+.\d+%, which is above 1.00% limit")

phases_rule = make_fault("power_phases")
watts_rule = make_fault("power_watts")
meter_log = make_fault("power_meter_log")


def problems(tree: Tree, result: Result) -> Iterator[Problem]:
    """Yield what is wrong with the power logs of one result."""
    yield from power.file_list_problems(tree, result)
    home = power.find_folder(tree, result)
    yield from session_problems(tree.listing, home, tree.round.name)


def session_problems(listing: Listing, home: str, round_name: str) -> Iterator[Problem]:
    """Yield what is wrong with a session: ``power``, ``ranging`` and ``run_1``."""
    own = power.read_session(listing, home)
    if isinstance(own, list):
        yield from own
        return
    yield from power.agreement_problems(own)
    yield from power.digest_problems(listing, own)
    yield from power_meter.sources_problems(own, round_name)
    yield from power_meter.meter_problems(own, round_name)
    windows: dict[str, Window] = {}
    for name in ("ranging", "run_1"):
        if is_readable(listing, own.path(name), (SUMMARY, DETAIL)):
            try:
                log = Log.read(listing.root / own.path(name))
                windows[name] = read_window(log)
            except LogError as error:
                if name == "ranging":  # The judge says it of the other.
                    path = own.path(f"{name}/{DETAIL}")
                    yield phases_rule(path, error.found, error.required, AGAIN)
    yield from phase_problems(own, windows, find_clock_tolerance(round_name))
    yield from watts_problems(listing, own, windows, round_name)
    if "run_1" in windows:
        yield from meter_log_problems(listing, own, windows["run_1"])


def phase_problems(
    own: PtdSession, windows: dict[str, Window], tolerance_s: float
) -> Iterator[Problem]:
    """LoadGen ran inside the session's phases, on which both ends agree."""
    path = own.path("power/client.json")
    for name, key in (("ranging", "ranging"), ("run_1", "testing")):
        ours, theirs = (times(end["phases"], key) for end in (own.client, own.server))
        if len(ours) < 3 or len(ours) != len(theirs):
            shown = f"{len(ours)} and {len(theirs)} checkpoints of {key}"
            yield phases_rule(path, shown, "the same, and at least 3", AGAIN)
            continue
        apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
        if apart > tolerance_s:
            shown = f"checkpoints of {key} {apart:.3f} s apart"
            remedy = "let both clocks follow one NTP server, and measure again"
            yield phases_rule(path, shown, f"at most {tolerance_s} s", remedy)
        for moment_s in windows.get(name, ()):
            inside = (ours[1] < moment_s - slack < ours[2] for slack in (0, HOUR_S))
            if not any(inside):
                shown = f"a run {moment_s - ours[1]:.0f} s after {key} began"
                required = f"between 0 and {ours[2] - ours[1]:.0f} s"
                yield phases_rule(own.path(f"{name}/{DETAIL}"), shown, required, AGAIN)
                break


def times(phases: object, key: str) -> list[float]:
    """Return the checkpoints of a mode; none where they are not two numbers each."""
    found = phases.get(key) if isinstance(phases, dict) else None
    try:
        return [float(point[0]) for point in found or []]
    except (TypeError, ValueError, LookupError):
        return []


def watts_problems(
    listing: Listing, own: PtdSession, windows: dict[str, Window], round_name: str
) -> Iterator[Problem]:
    """Power was measured during both runs, and the tested one did not use less.

    The checker compares them since v3.1 (power_checker.py, phases_check).
    """
    means: dict[str, float | None] = {}
    for name, window in windows.items():
        path = own.path(f"{name}/spl.txt")
        if not listing.is_file(path):
            continue
        try:
            readings = read_readings(listing.root / path, listing.root)
            means[name] = find_mean_watts(readings, window)
        except LogError as error:
            yield Problem(
                path, "power_watts", error.found, error.required, AGAIN, error.line
            )
            continue
        if means[name] is None:
            required = "power while LoadGen ran"
            yield watts_rule(path, "no reading within the run", required, AGAIN)
    ranging, tested = means.get("ranging"), means.get("run_1")
    if ranging is None or tested is None or not is_asked("even_watts", round_name):
        return
    if tested < ranging * (1 - LESS):
        shown = f"{tested:.1f} W on average"
        required = f"at most {LESS:.0%} below ranging's {ranging:.1f} W"
        yield watts_rule(own.path("run_1/spl.txt"), shown, required, AGAIN)


def meter_log_problems(
    listing: Listing, own: PtdSession, window: Window
) -> Iterator[Problem]:
    """Uncertainty was watched, and the meter made no error while it counted."""
    path = own.path("power/ptd_logs.txt")
    if not listing.is_file(path):
        return
    mark = f": Go with mark '{own.server['session_name']}_ranging'"
    try:
        lines = read_lines(listing.root / path, root=listing.root)
        found = [
            (number, parse_stamp(stamp[1]), text[stamp.end() :])
            for number, text in lines
            if (stamp := STAMP.match(text))
        ]
    except (LogError, ValueError) as error:
        shown = error.found if isinstance(error, LogError) else str(error)
        yield meter_log(path, shown, "PTDaemon's log", AGAIN)
        return
    begin = next((when for _, when, text in found if text.strip() == mark), None)
    done = (
        when
        for _, when, text in found
        if begin is not None and when >= begin and text.strip() == ": Completed test"
    )
    end = next(done, None)
    if begin is None or end is None:
        yield meter_log(path, "no ranging run", "the session's ranging run", AGAIN)
        return
    watched = (when for _, when, text in found if ACTIVATED.search(text))
    if next(watched, begin) >= begin:
        shown = "no uncertainty checking before the ranging run"
        yield meter_log(path, shown, "uncertainty checking activated", AGAIN)
    for number, when, text in found:
        _, is_error, message = text.partition("ERROR:")
        late = bool(is_error) and message.strip() != "USB." and not begin < when < end
        wide = "WARNING:" in text and UNCERTAIN.search(text)
        if late or (wide and window[0] + EDGE_S < when < window[1] - EDGE_S):
            required = "no error after ranging, and at most 1 % uncertainty"
            yield Problem(
                path, "power_meter_log", text.strip()[:120], required, AGAIN, number
            )
            return
