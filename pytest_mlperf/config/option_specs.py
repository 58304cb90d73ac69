"""Every option, declared once: a field of ``OptionValues`` with its ``OptionSpec``.

The field's name makes the option (``--mlperf-batch``) and its ini twin
(``mlperf_batch``). Other harnesses' spellings of an option are in ``aliases``.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace

from pytest_mlperf.config.gpu_option_specs import GpuOptionValues
from pytest_mlperf.config.option_spec import OptionSpec
from pytest_mlperf.config.power_option_specs import PowerOptionValues
from pytest_mlperf.config.result_option_specs import ResultOptionValues
from pytest_mlperf.config.run_option_specs import DEFAULT_ENGINE
from pytest_mlperf.config.run_option_specs import RunOptionValues
from pytest_mlperf.config.service_option_specs import ServiceOptionValues

__all__ = ["DEFAULT_ENGINE", "SPECS", "OptionSpec", "OptionValues"]


@dataclass(frozen=True)
class OptionValues(
    GpuOptionValues,
    PowerOptionValues,
    ServiceOptionValues,
    ResultOptionValues,
    RunOptionValues,
):
    """The user's choices, validated; None is a choice left to what knows better.

    Durations are seconds where the name has no unit. Of several bases a dataclass has
    the last one's fields first.
    """


SPECS: dict[str, OptionSpec] = {
    one.name: replace(one.metadata["spec"], name=one.name)
    for one in fields(OptionValues)
}
"""Name of the field -> its option, in the order of ``pytest --help``."""
