"""A clock of their own for the tests of probes."""

from __future__ import annotations

import pytest

from pytest_mlperf.tuning import bare_loop
from pytest_mlperf.tuning import engine_probe
from tests.support import calls
from tests.support.probing import Clock


@pytest.fixture
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times candidates by a clock of their own, and for less long."""
    clock = Clock()
    for module in (calls, bare_loop, engine_probe):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(engine_probe, "SLICE_S", 0.05)
