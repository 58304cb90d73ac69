# ruff: noqa: RUF009 - option() and switch() return fields
"""The options of power measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.config.option_spec import option
from pytest_mlperf.config.option_types import parse_address
from pytest_mlperf.config.option_types import parse_path
from pytest_mlperf.config.service_option_specs import ServiceOptionValues


@dataclass(frozen=True, slots=True)
class PowerOptionValues(ServiceOptionValues):
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

    @property
    def power_problem(self) -> str:
        """What a power measurement lacks, or has too much; empty for a whole one."""
        if self.power and not self.power_ntp:
            return (
                "--mlperf-power compares this machine's clock and the director's with "
                "an NTP server, and none is named; add --mlperf-power-ntp HOST"
            )
        if not self.power and (self.power_ntp or self.power_client):
            flag = "--mlperf-power-ntp" if self.power_ntp else "--mlperf-power-client"
            return (
                f"{flag} is about a power measurement, and none is asked for; add "
                "--mlperf-power HOST of the director"
            )
        if self.power and self.submission and not self.power_client:
            return (
                "--mlperf-submission with --mlperf-power: the rules ask for mlcommons' "
                "own client, whose sources the checker compares; clone "
                "mlcommons/power-dev and add --mlperf-power-client=DIR"
            )
        return ""
