"""Options that exclude one another, and what an endpoint needs from elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from typing import Any

from pytest_mlperf.config.option_specs import SPECS
from pytest_mlperf.config.option_types import TOKEN_ENV
from pytest_mlperf.config.option_types import find_token_problem
from pytest_mlperf.config.option_types import number_for
from pytest_mlperf.core.types import Scenario

ORACLE = "oracle"
"""The engine of a rehearsal, and of nothing else."""
OFFICIAL = "official"
"""What ``--mlperf-compare`` calls the best published results."""


def refuse_contradictions(options: Any) -> None:
    """Raise ``ValueError`` for ``Options`` of which one excludes another."""
    if ORACLE in options.engine and not options.rehearsal:
        raise ValueError(
            f"--mlperf-engine {ORACLE} answers from the ground truth and measures "
            "nothing; ask for it with --mlperf-rehearsal, which labels its results"
        )
    of_devices = ("start_from_device", "end_on_device", "devices_per_item")
    asked = [SPECS[name].flag for name in of_devices if getattr(options, name)]
    if options.rehearsal and asked:
        raise ValueError(
            f"{asked[0]} is about a device, and --mlperf-rehearsal uses none; keep one "
            "of the two"
        )
    if options.find_peak and options.rehearsal:
        raise ValueError(
            "--mlperf-find-peak looks for this machine's largest load, and "
            "--mlperf-rehearsal measures nothing; keep one of the two"
        )
    if options.find_peak and any(
        number_for(options.target_qps, one) is not None
        for one in (Scenario.SERVER, Scenario.INTERACTIVE)
    ):
        raise ValueError(
            "--mlperf-find-peak looks for the load that --mlperf-target-qps gives; "
            "keep one of the two, or give the other scenarios' alone: offline=X"
        )
    if options.fast and options.duration is not None:
        raise ValueError(
            "--fast sets the minimum duration to 60 s and --mlperf-duration to "
            f"{options.duration:g} s; keep one of the two"
        )
    if problem := options.power_problem or options.network_problem:
        raise ValueError(problem)
    if options.stop_early and options.power:
        raise ValueError(
            "--mlperf-stop-early ends a run that --mlperf-power's meter waits for; "
            "keep one of the two"
        )
    if options.repeat > 1 and options.submission:
        raise ValueError(
            f"--mlperf-repeat {options.repeat} makes several runs of a cell, and a "
            "submission has one; keep one of --mlperf-repeat and --mlperf-submission"
        )
    if options.fail_below is not None and options.compare == OFFICIAL:
        raise ValueError(
            "--mlperf-fail-below is a share of an earlier session's speed, and the "
            "published results are other machines'; name a session with "
            "--mlperf-compare, or leave --mlperf-fail-below out"
        )
    if options.fail_below is not None and not options.compare:
        raise ValueError(
            "--mlperf-fail-below is a share of an earlier session's speed, and none is "
            "named; add --mlperf-compare latest, or its reports folder"
        )
    if options.workload == "official" and not options.scratch:
        raise ValueError(
            "--mlperf-workload official needs the folder of official models and data; "
            "add --mlperf-scratch DIR, or set MLPERF_SCRATCH_PATH"
        )


def refuse_unused(options: Any, typed: Collection[str]) -> None:
    """Raise ``ValueError`` for a typed option that nothing of the session would read.

    ``typed``: names of what the command line gives; an ini value is a default.
    """
    if "checker" in typed and not options.submission and not options.tree:
        raise ValueError(
            f"--mlperf-checker {options.checker} judges a submission's tree, and none "
            "is asked for; add --mlperf-submission ORG to write one, or --mlperf-tree "
            "DIR to check one that is there (pytest suites/test_submission.py)"
        )


def refuse_missing_credentials(options: Any, environ: Mapping[str, str]) -> None:
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
