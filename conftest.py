"""What holds for the suites alone: they need the plugin, and skips have reasons."""

from __future__ import annotations

import pytest

DEFAULT_REPORT = "fE"
"""What pytest has in its short summary where nobody asks for more."""


def pytest_configure(config: pytest.Config) -> None:
    """The plugin brings options, fixtures and cells: it has to be installed.

    A skip's reason says what to install, so it is shown where no ``-r`` was given.
    """
    if not config.pluginmanager.has_plugin("mlperf"):
        raise pytest.UsageError(
            "pytest-mlperf is not installed in this environment, or was switched off "
            "by -p no:mlperf; install it with pip install -e '.[onnxruntime,xdist]'"
        )
    if getattr(config.option, "reportchars", "") == DEFAULT_REPORT:
        config.option.reportchars = "a"
