"""The options of GPUs."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mlperf.config.option_spec import option
from pytest_mlperf.config.option_spec import switch
from pytest_mlperf.config.option_types import parse_clock


@dataclass(frozen=True)
class GpuOptionValues:
    """The choices of where samples and results lie, and of a GPU's clock."""

    start_from_device: bool = switch(
        "samples lie on the device before the run; refused unless the system file's "
        "[on_device] has the evidence that the rules ask for"
    )
    end_on_device: bool = switch(
        "results stay on the device; likewise, and for 3d-unet alone"
    )
    lock_clocks: str | None = option(
        parse_clock, "MHZ",
        "lock the GPU's clock during each run, max or MHz, and reset it after",
        unset="the system file's [settings], else nothing is set",
    )  # fmt: skip
