# ruff: noqa: RUF009 - option() and switch() return fields
"""The options of what becomes of results: where they go, what they stand beside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.config.option_spec import option
from pytest_mlperf.config.option_spec import switch
from pytest_mlperf.config.option_types import one_of
from pytest_mlperf.config.option_types import parse_category
from pytest_mlperf.config.option_types import parse_formats
from pytest_mlperf.config.option_types import parse_org
from pytest_mlperf.config.option_types import parse_pairs
from pytest_mlperf.config.option_types import parse_path
from pytest_mlperf.config.option_types import parse_saved_name
from pytest_mlperf.config.option_types import parse_whole
from pytest_mlperf.config.option_types import parse_word
from pytest_mlperf.config.share import parse_share


@dataclass(frozen=True)
class ResultOptionValues:
    """The choices of what is written, shown and compared."""

    reports: Path = option(
        parse_path, "DIR", "folder of reports", default=Path("reports"),
        unset="reports in the root directory",
    )  # fmt: skip
    export: tuple[str, ...] = option(
        parse_formats, "FORMAT,...",
        "csv, parquet, openmetrics, opentelemetry, github, virtualclient: more files",
        default=(),
    )  # fmt: skip
    compare: str | None = option(
        parse_word, "SESSION",
        "run by the tuning of an earlier session and compare with it: latest, a saved "
        "one's name or a reports folder; official: the best published results",
    )  # fmt: skip
    repeat: int = option(
        parse_whole, "N",
        "run each performance item so often; records list every run", default=1,
    )  # fmt: skip
    repeat_rule: str = option(
        one_of("median", "all", "any"), "RULE",
        "verdict of a repeated item: its median run's; VALID where all runs are; or "
        "where any is", default="median",
    )  # fmt: skip
    save: str | None = option(
        parse_saved_name, "NAME",
        "keep this session's results under a name, for --mlperf-compare",
    )  # fmt: skip
    label: tuple[tuple[str, str], ...] = option(
        parse_pairs, "K=V,...",
        "words of yours that header, results.jsonl and exports repeat: branch=main",
        default=(), unset="none", repeats=True,
    )  # fmt: skip
    fail_below: float | None = option(
        parse_share, "RATIO",
        "with --mlperf-compare, fail an item whose speed is below this share of the "
        "earlier one, by more than noise",
    )  # fmt: skip
    query_record: str = option(
        one_of("on", "off"), "WHEN",
        "write a record a query beside the logs of performance runs", default="on",
    )  # fmt: skip
    stop_early: bool = switch(
        "end a performance run that cannot become VALID any more: too many queries are "
        "late; its verdict is INVALID, and labelled partial"
    )
    progress: str = option(
        one_of("auto", "on", "off"), "WHEN",
        "live progress: auto (on a terminal), on or off", default="auto",
    )  # fmt: skip
    submission: str | None = option(
        parse_org, "ORG",
        "write a submission of this organisation from the session's runs, into the "
        "reports folder",
    )  # fmt: skip
    tree: Path | None = option(
        parse_path, "DIR",
        "submission to complete, or an earlier session's reports folder whose runs "
        "count too",
    )  # fmt: skip
    division: str = option(
        one_of("closed", "open", "network"), "NAME",
        "closed, open or network: LoadGen here and the servers of --mlperf-triton on "
        "other hosts",
        default="closed",
    )  # fmt: skip
    category: str | None = option(
        parse_category, "NAME", "edge, datacenter or datacenter,edge",
        unset="system_type of the system file",
    )  # fmt: skip
    checker: Path | None = option(
        parse_path, "DIR",
        "clone of mlcommons/inference, whose submission checker judges the tree too",
    )  # fmt: skip
