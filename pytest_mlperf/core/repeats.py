"""Several runs of one item: which of them its verdict is, and their spread in words."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from pytest_mlperf.core.types import TIME_UNITS
from pytest_mlperf.core.verdict import REPEATS
from pytest_mlperf.core.verdict import Verdict

SAME_LOAD = 0.01
"""Server runs at loads that differ by less are compared by their latency."""


def combine_runs(runs: Sequence[Verdict], rule: str) -> Verdict:
    """Return the verdict of the run that the rule chooses, which lists all of them."""
    chosen = choose_run(runs, rule)
    text = describe_runs(runs, rule, chosen)
    return replace(chosen, repeats=tuple(runs), facts={**chosen.facts, REPEATS: text})


def choose_run(runs: Sequence[Verdict], rule: str) -> Verdict:
    """Return the run, of at least one, whose verdict the item has: ``median``, that of
    the run in the middle; ``all``, INVALID unless all are VALID; ``any``, VALID where
    one is.

    Of an even number the median is the slower one of the two in the middle.
    """
    at_one_load = _are_at_one_load(runs)
    ranked = sorted(runs, key=lambda run: _rank(run, at_one_load=at_one_load))
    valid = [run for run in ranked if run.valid]
    if rule == "all" and len(valid) < len(runs):
        return next(run for run in runs if not run.valid)
    if rule == "any" and valid:
        ranked = valid
    return ranked[(len(ranked) - 1) // 2]


def _are_at_one_load(runs: Iterable[Verdict]) -> bool:
    """Return whether these runs completed the load that all of them were given."""
    rates = [run.metric.value for run in runs if run.metric and _has_load(run)]
    return bool(rates) and max(rates) - min(rates) <= SAME_LOAD * max(rates)


def _has_load(run: Verdict) -> bool:
    return run.at_percentile is not None and run.at_percentile.unit in TIME_UNITS


def _rank(run: Verdict, *, at_one_load: bool) -> tuple[float, float]:
    """Return what sorts runs from the slowest to the fastest; no figure is slowest."""
    if run.metric is None:
        return (0.0, 0.0)
    if at_one_load and run.at_percentile:
        return (1.0, -run.at_percentile.value)
    sign = -1 if run.metric.unit in TIME_UNITS else 1
    return (1.0, sign * run.metric.value)


def list_runs(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return every run of these items; of one that is not VALID only its verdict's."""
    return [
        run
        for one in verdicts
        for run in (one.repeats if one.repeats and one.valid else (one,))
    ]


def find_values(runs: Iterable[Verdict]) -> tuple[float, float, float] | None:
    """Return least, median and greatest figure of the runs; None where none has one."""
    values = [run.metric.value for run in runs if run.metric]
    return (min(values), median(values), max(values)) if values else None


def describe_runs(runs: Sequence[Verdict], rule: str, chosen: Verdict) -> str:
    """Return the spread of the runs, the rule, and each run with its folder's name."""
    words = [f"{len(runs)} runs, {sum(run.valid for run in runs)} VALID"]
    if found := find_values(runs):
        unit = next(run.metric.unit for run in runs if run.metric)
        least, middle, greatest = (f"{value:,.6g}" for value in found)
        words.append(f"min {least}, median {middle}, max {greatest} {unit}")
    words.append(f"verdict of {Path(chosen.folder).name} by rule {rule}")
    return "; ".join([*words, *map(describe_run, runs)])


def describe_run(run: Verdict) -> str:
    """Return a run's folder, outcome and figures in words."""
    return f"{Path(run.folder).name} {run.outcome}{_describe_figures(run)}"


def _describe_figures(run: Verdict) -> str:
    figures = [str(run.metric)] if run.metric else []
    if run.at_percentile and run.percentile is not None:
        figures.append(f"p{run.percentile * 100:g} {run.at_percentile}")
    return f" {', '.join(figures)}" if figures else ""
