"""Every option, declared once: a field of ``OptionValues`` with its ``OptionSpec``.

The field's name makes the option (``--mlperf-batch``) and its ini twin
(``mlperf_batch``). Other harnesses' spellings of an option are in ``aliases``.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace

from pytest_mlperf.config.option_spec import OptionSpec
from pytest_mlperf.config.option_spec import option
from pytest_mlperf.config.option_spec import switch
from pytest_mlperf.config.option_types import parse_clock
from pytest_mlperf.config.power_option_specs import PowerOptionValues
from pytest_mlperf.config.run_option_specs import DEFAULT_ENGINE

__all__ = ["DEFAULT_ENGINE", "SPECS", "OptionSpec", "OptionValues"]


@dataclass(frozen=True, slots=True)
class OptionValues(PowerOptionValues):
    """The user's choices, validated; None is a choice left to what knows better.

    Durations are seconds where the name has no unit.
    """

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


SPECS: dict[str, OptionSpec] = {
    one.name: replace(one.metadata["spec"], name=one.name)
    for one in fields(OptionValues)
}
"""Name of the field -> its option, in the order of ``pytest --help``."""
