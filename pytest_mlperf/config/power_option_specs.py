# ruff: noqa: RUF009 - option() and switch() return fields
"""The options of power measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.config.option_spec import option
from pytest_mlperf.config.option_types import parse_address
from pytest_mlperf.config.option_types import parse_path


@dataclass(frozen=True)
class PowerOptionValues:
    """The choices of how power is measured."""

    power: str | None = option(
        parse_address, "HOST[:PORT]",
        "measure performance items' power by the director there: a ranging run, then "
        "the run that counts; PORT is 4950 unless given",
    )  # fmt: skip
    power_ntp: str | None = option(
        parse_address, "HOST[:PORT]", "NTP server that both clocks are compared with"
    )
    power_client: Path | None = option(
        parse_path, "DIR",
        "clone of mlcommons/power-dev whose client measures, as a submission's has to",
        unset="this suite's own client, whose results are unofficial",
    )  # fmt: skip
