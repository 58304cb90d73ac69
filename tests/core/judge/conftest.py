"""Runs that keep a bound are judged; a machine that stands still is not."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support import pauses


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Skip a test that failed because the machine held its runs up, and say so.

    A module says in ``PAUSE_S`` how long a pause its runs bear.
    """
    try:
        return (yield)
    except AssertionError:
        folders = [pyfuncitem.funcargs.get("tmp_path")]
        runs = pyfuncitem.funcargs.get("runs")
        folders += runs.values() if isinstance(runs, dict) else []
        known = [folder for folder in folders if isinstance(folder, Path)]
        bearable_s = getattr(pyfuncitem.module, "PAUSE_S", float("inf"))
        if (longest_s := pauses.find_longest_s(known)) <= bearable_s:
            raise
        pytest.skip(
            f"this machine held a run up for {longest_s * 1000:.0f} ms, and the test "
            f"bears {bearable_s * 1000:g}: run it where nothing else runs"
        )
