"""Says what to do where the suites are run without the plugin; nothing else."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """The plugin brings options, fixtures and cells: it has to be installed."""
    if not config.pluginmanager.has_plugin("mlperf"):
        raise pytest.UsageError(
            "pytest-mlperf is not installed in this environment, or was switched off "
            "by -p no:mlperf; install it with pip install -e '.[onnxruntime,xdist]'"
        )
