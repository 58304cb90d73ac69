"""Options that exclude one another, and what an endpoint needs from elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping

from pytest_mlperf.config.option_specs import SPECS
from pytest_mlperf.config.option_specs import OptionValues
from pytest_mlperf.config.option_types import TOKEN_ENV
from pytest_mlperf.config.option_types import find_token_problem
from pytest_mlperf.config.option_types import number_for
from pytest_mlperf.core.types import BOUNDED

ORACLE = "oracle"
"""The engine of a rehearsal, and of nothing else."""
OFFICIAL = "official"
"""What ``--mlperf-compare`` calls the best published results."""


def refuse_contradictions(options: OptionValues) -> None:
    """Raise ``ValueError`` for options of which one excludes another."""
    if problem := next(find_contradictions(options), ""):
        raise ValueError(problem)


def find_contradictions(options: OptionValues) -> Iterator[str]:
    """Yield what is wrong with each pair of options, and how to mend it."""
    yield from _find_rehearsal_problems(options)
    yield from _find_load_problems(options)
    yield from _find_power_problems(options)
    yield from _find_network_problems(options)
    yield from _find_result_problems(options)
    if options.workload == "official" and not options.scratch:
        yield (
            "--mlperf-workload official needs the folder of official models and data; "
            "add --mlperf-scratch DIR, or set MLPERF_SCRATCH_PATH"
        )


def _find_rehearsal_problems(options: OptionValues) -> Iterator[str]:
    if ORACLE in options.engine and not options.rehearsal:
        yield (
            f"--mlperf-engine {ORACLE} answers from the ground truth and measures "
            "nothing; ask for it with --mlperf-rehearsal, which labels its results"
        )
    of_devices = ("start_from_device", "end_on_device", "devices_per_item")
    asked = [SPECS[name].flag for name in of_devices if getattr(options, name)]
    if options.rehearsal and asked:
        yield (
            f"{asked[0]} is about a device, and --mlperf-rehearsal uses none; keep one "
            "of the two"
        )
    if options.find_peak and options.rehearsal:
        yield (
            "--mlperf-find-peak looks for this machine's largest load, and "
            "--mlperf-rehearsal measures nothing; keep one of the two"
        )


def _find_load_problems(options: OptionValues) -> Iterator[str]:
    if options.find_peak and any(
        number_for(options.target_qps, one) is not None for one in BOUNDED
    ):
        yield (
            "--mlperf-find-peak looks for the load that --mlperf-target-qps gives; "
            "keep one of the two, or give the other scenarios' alone: offline=X"
        )
    if options.fast and options.duration is not None:
        yield (
            "--fast sets the minimum duration to 60 s and --mlperf-duration to "
            f"{options.duration:g} s; keep one of the two"
        )


def _find_power_problems(options: OptionValues) -> Iterator[str]:
    if options.power and not options.power_ntp:
        yield (
            "--mlperf-power compares this machine's clock and the director's with "
            "an NTP server, and none is named; add --mlperf-power-ntp HOST"
        )
    if not options.power and (options.power_ntp or options.power_client):
        flag = "--mlperf-power-ntp" if options.power_ntp else "--mlperf-power-client"
        yield (
            f"{flag} is about a power measurement, and none is asked for; add "
            "--mlperf-power HOST of the director"
        )
    if options.power and options.submission and not options.power_client:
        yield (
            "--mlperf-submission with --mlperf-power: the rules ask for mlcommons' "
            "own client, whose sources the checker compares; clone "
            "mlcommons/power-dev and add --mlperf-power-client=DIR"
        )
    if options.stop_early and options.power:
        yield (
            "--mlperf-stop-early ends a run that --mlperf-power's meter waits for; "
            "keep one of the two"
        )


def _find_network_problems(options: OptionValues) -> Iterator[str]:
    if options.division == "network" and not options.triton:
        yield (
            "--mlperf-division network measures servers on other hosts; name them "
            "with --mlperf-triton http://HOST:8000 (pytest-mlperf serve starts one,"
            " for a rehearsal with --rehearsal)"
        )
    if options.division == "network" and "edge" in (options.category or ""):
        yield (
            f"--mlperf-category {options.category}: the network division has "
            "datacenter systems only; leave out edge"
        )


def _find_result_problems(options: OptionValues) -> Iterator[str]:
    if options.repeat > 1 and options.submission:
        yield (
            f"--mlperf-repeat {options.repeat} makes several runs of a cell, and a "
            "submission has one; keep one of --mlperf-repeat and --mlperf-submission"
        )
    if options.fail_below is not None and options.compare == OFFICIAL:
        yield (
            "--mlperf-fail-below is a share of an earlier session's speed, and the "
            "published results are other machines'; name a session with "
            "--mlperf-compare, or leave --mlperf-fail-below out"
        )
    if options.fail_below is not None and not options.compare:
        yield (
            "--mlperf-fail-below is a share of an earlier session's speed, and none is "
            "named; add --mlperf-compare latest, or its reports folder"
        )


def refuse_unused(options: OptionValues, typed: Collection[str]) -> None:
    """Raise ``ValueError`` for a typed option that nothing of the session would read.

    ``typed``: names of what the command line gives; an ini value is a default.
    """
    if "checker" in typed and not options.submission and not options.tree:
        raise ValueError(
            f"--mlperf-checker {options.checker} judges a submission's tree, and none "
            "is asked for; add --mlperf-submission ORG to write one, or --mlperf-tree "
            "DIR to check one that is there (pytest suites/test_submission.py)"
        )


def refuse_missing_credentials(
    options: OptionValues, environ: Mapping[str, str]
) -> None:
    """Raise ``ValueError`` for what an endpoint needs and is not there."""
    name = options.endpoint_token_env
    if name and not environ.get(name, "").strip():
        raise ValueError(
            f"--mlperf-endpoint-token-env {name}: that environment variable is not "
            "set, but should hold the endpoints' bearer token; set it, or leave the "
            "option out where no token is asked for"
        )
    if options.endpoint or name:
        used = name or TOKEN_ENV
        if problem := find_token_problem(environ.get(used, "").strip()):
            option = (
                f"--mlperf-endpoint-token-env {name}" if name else "--mlperf-endpoint"
            )
            raise ValueError(f"{option}: the environment variable {used} {problem}")
    ca_file = options.endpoint_ca
    if ca_file and not ca_file.is_file():
        raise ValueError(
            f"--mlperf-endpoint-ca {ca_file}: no such file; name the PEM file of the "
            "authority that signed the endpoints' certificates"
        )
