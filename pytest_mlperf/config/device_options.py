"""The options about what a device is given beforehand, and how it is set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_mlperf.machine.clocks import parse

SWITCHES: dict[str, tuple[str, str]] = {
    "mlperf_start_from_device": (
        "--mlperf-start-from-device",
        (
            "samples lie on the device before the run; refused unless the system "
            "file's [on_device] has the evidence that the rules ask for"
        ),
    ),
    "mlperf_end_on_device": (
        "--mlperf-end-on-device",
        "results stay on the device; likewise, and for 3d-unet alone",
    ),
}
"""Option that is on or off -> its flag and help; the ini twin is a bool."""
FOREIGN_SWITCHES = {
    "mlperf_start_from_device": "--start_from_device",
    "mlperf_end_on_device": "--end_on_device",
}
"""Option -> how NVIDIA's harness spells it; taken where nobody else claims it."""
DEVICE: tuple[tuple[str, Callable[[str], Any], str, str], ...] = (
    (
        "--mlperf-lock-clocks",
        parse,
        "MHZ",
        (
            "lock the GPU's clock during each run, max or MHz, and reset it after "
            "(default: the system file's [settings], else nothing is set)"
        ),
    ),
)
"""Flag, parser, metavar and help."""
