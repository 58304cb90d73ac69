"""The table: pure rows, thin rendering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.types import NULL_ANSWERS
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import PRECISION_CHOSEN
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting import header
from pytest_mlperf.reporting import table as report_table
from tests.support.cells import cell_of

Make = Callable[..., Verdict]
WAIVED = Check("min_duration", Status.WAIVED, "60 s", "600 s", "summary:3")


def table(verdicts: list[Verdict], width: int = 120) -> list[str]:
    """Return the table without colour."""
    return report_table.render_rows(
        report_table.make_rows(verdicts), width, colour=False
    )


def test_no_verdicts_make_no_table() -> None:
    """A session without results prints nothing."""
    assert table([]) == []


def test_a_unit_stands_once_in_the_head(
    make_verdict: Make,
) -> None:
    """The Server section reads queries/s, and ms for latency and limit."""
    verdict = make_verdict(
        metric=Metric("rate", 12345.6, "queries/s"),
        limit=Metric("target_latency", 130.0, "ms"),
        percentile=0.99,
        at_percentile=Metric("p99", 101.53, "ms"),
        expected_s=600.0,
        actual_s=1234.4,
    )
    _, head, row = table([verdict])

    assert (
        " ".join(head.split())
    ) == "Server queries/s limit ms p99 ms verdict rules round exp -> run s"
    assert (
        " ".join(row.split())
    ) == "bert-99 12,346 130.0 101.5 VALID 1/1 v4.1 600 -> 1,234"


@pytest.mark.parametrize("width", [60, 120])
def test_first_and_further_tokens_stand_under_their_row(
    make_verdict: Make, width: int
) -> None:
    """Both in percent of their limits, at the percentile that is bounded."""
    verdict = make_verdict(
        metric=Metric("rate", 1234.5, "tokens/s"),
        percentile=0.99,
        limit=Metric("ttft_ns", 500.0, "ms"),
        at_percentile=Metric("ttft", 450.0, "ms"),
        tpot=Metric("tpot", 7.5, "ms"),
        tpot_limit=Metric("tpot_ns", 30.0, "ms"),
    )
    _, _, _, note, *_ = table([verdict], width)

    assert note.strip() == "TTFT p99 450.0 ms (90% of 500), TPOT p99 7.5 ms (25% of 30)"
    assert verdict == Verdict.from_json(verdict.to_json())


def test_requests_that_went_out_again_stand_under_their_row(
    make_verdict: Make,
) -> None:
    """A fact that only verdict.json has is seen by nobody."""
    often = RunFacts(requests=2180, resent=2)
    lines = table([make_verdict(run=often)], 200)

    assert "    2 of 2,180 requests sent again" in lines


def test_what_a_second_run_changed_stands_under_its_row(make_verdict: Make) -> None:
    """A load that is lower than the first one's is no secret."""
    first = {"outcome": "INVALID", "figure": "21.2 queries/s", "cause": "9 late"}
    first |= {"change": "target_qps 21.2 to 10.6", "folder": "logs/performance"}
    lines = table([make_verdict(run=RunFacts(first_run=first))], 200)

    change = "    second run: target_qps 21.2 to 10.6"
    assert f"{change}, the first was INVALID at 21.2 queries/s" in lines


def test_what_no_rule_bounds_is_marked_unjudged(make_verdict: Make) -> None:
    """In the table and in the verdict's own words."""
    shown = {
        "end-to-end p99": Metric("result_99.00_percentile_latency_ns", 403.81, "ms"),
        "answered": Metric("result_completed_samples_per_sec", 3.69, "queries/s"),
    }
    verdict = make_verdict(metric=Metric("rate", 22.1, "tokens/s"), unjudged=shown)
    text = "unjudged: end-to-end p99 403.8 ms, answered 3.7 queries/s"

    assert text in [line.strip() for line in table([verdict], 60)]
    assert text in verdict.explain()
    assert verdict == Verdict.from_json(verdict.to_json())


@pytest.mark.parametrize("labels", [("embedded",), ("fast",), ()])
def test_a_waived_verdict_is_never_a_plain_valid(
    make_verdict: Make, labels: tuple[str, ...]
) -> None:
    """The row and the title both say what the verdict does not hold for."""
    verdict = make_verdict(labels=labels, checks=(*make_verdict().checks, WAIVED))
    title, _, row, *legend = table([verdict])

    assert "1 VALID (waived)" in title
    assert f"VALID ({', '.join(labels) or 'waived'})" in row
    assert "1/2, 1 waived" in row
    assert "not a submission result" in legend[-1]


def test_a_submittable_verdict_has_no_legend(make_verdict: Make) -> None:
    """Nothing is explained where nothing is waived."""
    assert len(table([make_verdict()])) == 3


def test_accuracies_of_different_metrics_have_heads_of_their_own(
    make_verdict: Make,
) -> None:
    """F1 and acc are not one column; an errored row stands with its kind."""
    bert = make_verdict(mode="accuracy", metric=Metric("F1", 89.7, "%"))
    resnet = make_verdict(
        benchmark="resnet50", mode="accuracy", metric=Metric("acc", 76.1, "%")
    )
    broken = make_verdict(mode="accuracy", scenario="Offline", metric=None, checks=())
    lines = [" ".join(line.split()) for line in table([bert, resnet, broken])]

    assert lines[1:] == [
        "accuracy F1 % verdict rules round exp -> run s",
        "bert-99 Offline - ERROR 0/0 v4.1",
        "bert-99 Server 89.70 VALID 1/1 v4.1",
        "accuracy acc % verdict rules round exp -> run s",
        "resnet50 Server 76.10 VALID 1/1 v4.1",
    ]


def test_limits_of_two_units_have_each_its_own(make_verdict: Make) -> None:
    """The head then names none."""
    limits = (Metric("target_latency", 15.0, "ms"), Metric("target_latency", 2.0, "s"))
    _, head, *rows = table([make_verdict(limit=limit) for limit in limits])

    assert "limit  " in head
    assert [row.split()[2:4] for row in rows] == [["15.000", "ms"], ["2.000", "s"]]


def test_a_verdict_has_its_colour(make_verdict: Make) -> None:
    """Green is a result, yellow one that holds for less, red none."""
    failed = Check("latency", Status.FAIL, "20 ms", "15 ms", "summary:7")
    verdicts = [
        make_verdict(engine="a"),
        make_verdict(engine="b", labels=("embedded",)),
        make_verdict(engine="c", checks=(failed,)),
    ]
    lines = report_table.render_rows(report_table.make_rows(verdicts), 120, colour=True)
    codes = ["32m", "33m", "31m"]

    assert [code for code in codes if any(f"\x1b[{code}" in x for x in lines)] == codes


def test_only_the_best_of_the_comparable_is_green(make_verdict: Make) -> None:
    """Two engines on one cell are compared; an INVALID faster one is not."""
    slow = make_verdict(engine="a", metric=Metric("rate", 10.0, "queries/s"))
    fast = make_verdict(engine="b", metric=Metric("rate", 20.0, "queries/s"))
    failed = Check("latency", Status.FAIL, "20 ms", "15 ms", "summary:7")
    wrong = make_verdict(
        engine="c", metric=Metric("rate", 30.0, "queries/s"), checks=(failed,)
    )
    lines = report_table.render_rows(
        report_table.make_rows([slow, fast, wrong]), 120, colour=True
    )
    green = [line for line in lines if "\x1b[32m  " in line or "\x1b[32m2" in line]

    assert len(green) == 1
    assert "20.00" in green[0]


def test_a_null_engine_is_never_the_best(make_verdict: Make) -> None:
    """It answers without working: labelled, explained and left out of the contest."""
    slow = make_verdict(engine="a", metric=Metric("rate", 10.0, "queries/s"))
    fast = make_verdict(engine="b", metric=Metric("rate", 20.0, "queries/s"))
    empty = make_verdict(
        engine="null",
        metric=Metric("rate", 9e5, "queries/s"),
        labels=(NULL_ANSWERS,),
    )
    rows = report_table.make_rows([slow, fast, empty])

    assert [row.engine for row in report_table._best(rows)] == ["b"]
    assert (
        report_table._best([row for row in rows if row.engine in ("a", "null")]) == []
    )
    text = "\n".join(table([slow, fast, empty]))
    assert "VALID (null answers)" in text
    assert "null answers: nothing was inferred, this measures the suite" in text


def test_rows_of_several_engines_name_them(make_verdict: Make) -> None:
    """Two rows of one cell can be told apart."""
    text = "\n".join(table([make_verdict(engine="a"), make_verdict(engine="b")]))

    assert "bert-99 a" in text
    assert "bert-99 b" in text


VERDICTS = st.builds(
    Verdict,
    benchmark=st.sampled_from(["bert-99", "bert-99.9", "resnet50"]),
    scenario=st.sampled_from([scenario.value for scenario in Scenario]),
    engine=st.sampled_from(["onnxruntime", "null"]),
    mode=st.sampled_from(["performance", "accuracy"]),
    round=st.sampled_from(["v4.1", "v6.1"]),
    metric=st.none()
    | st.builds(
        Metric,
        st.just("F1"),
        st.floats(0, 1e7),
        st.sampled_from(["ms", "%", "samples/s", "queries/s"]),
    ),
    checks=st.lists(
        st.builds(Check, st.just("c"), st.sampled_from(Status), *[st.just("x")] * 3),
        max_size=30,
    ).map(tuple),
    labels=st.sampled_from([(), ("embedded",), ("embedded", "fast", NULL_ANSWERS)]),
    percentile=st.sampled_from([None, 0.9, 0.99]),
    expected_s=st.none() | st.floats(0, 1e5),
    actual_s=st.none() | st.floats(0, 1e5),
)


@given(st.lists(VERDICTS, min_size=1, max_size=8), st.sampled_from([80, 120, 200]))
def test_every_verdict_is_in_the_table_in_ascii_within_the_width(
    verdicts: list[Verdict], width: int
) -> None:
    """No terminal of 80 columns wraps a line, whatever the verdicts are."""
    lines = table(verdicts, width)
    shown = [line for line in lines if line.startswith("  ") and line[2] != " "]

    assert len(verdicts) == len(shown)
    assert all(line.isascii() for line in lines)
    assert width >= max(len(line) for line in lines)


def test_the_header_says_which_round_judges_what() -> None:
    """Two rounds are named with their cells; embedded and fast are spelled out."""
    cells = [
        cell_of("bert", "99", Scenario.SERVER, "onnxruntime", "v4.1"),
        cell_of("bert", "99", Scenario.OFFLINE, "onnxruntime", "v6.1"),
    ]
    lines = header.describe_session(
        cells, Options(fast=True), "box: 2 cores", "reports/1"
    )

    assert (
        (lines[0])
        == "mlperf: 2 items, round v6.1 (bert offline), round v4.1 (bert server)"
    )
    assert any("embedded" in line and "not a submission" in line for line in lines)
    assert any("60 s minimum duration" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (Options(), "embedded: small stand-ins, not a submission result"),
        (Options(workload="official"), "official models and data"),
        (Options(workload="generated"), "generated weights and inputs: performance "),
        (Options(rehearsal=True), "synthetic: a rehearsal, nothing is measured, not "),
    ],
)
def test_the_header_says_what_the_cells_run_on(options: Options, kind: str) -> None:
    """Nobody takes a stand-in, or a rehearsal, for the official benchmark."""
    cells = [cell_of("bert", "99", Scenario.OFFLINE, "null", "v6.1")]
    lines = header.describe_session(cells, options, "box", "reports")

    assert lines[2].startswith(f"mlperf: engine null; workload {kind}")


def test_the_header_of_many_cells_names_the_oldest_and_the_newest_round() -> None:
    """A list of every benchmark and scenario is a paragraph that nobody reads."""
    names = ("bert", "resnet50", "retinanet", "rnnt", "3d-unet", "gptj", "whisper")
    cells = [
        cell_of(name, "", scenario, "onnxruntime", round_)
        for name in names
        for scenario, round_ in ((Scenario.SERVER, "v4.1"), (Scenario.OFFLINE, "v6.1"))
    ]
    first = header.describe_items(cells, least_s=60)
    named = header.describe_items(cells[:4], least_s=60)
    lines = header.list_rounds(cells)

    assert first == (
        "14 items, at least 0:01:00, rounds v4.1 to v6.1, each cell by its newest "
        "(-v: which)"
    )
    assert "round v6.1 (bert offline, resnet50 offline)" in named
    assert [line[:12] for line in lines] == ["round v6.1: ", "round v4.1: "]
    assert lines[0].count(" offline") == lines[1].count(" server") == len(names)
    assert not header.list_rounds(cells[:1])


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (Options(), "20 items, at least 1:40:00"),
        (Options(duration=900), "20 items, at least 1:40:00"),
        (Options(fast=True), "20 items, at least 0:10:00"),
        (Options(duration=0.5), "20 items, at least 0:00:05"),
    ],
)
def test_the_header_says_how_long_the_session_takes_at_least(
    options: Options, count: str
) -> None:
    """Ten performance items last ten durations; nobody knows of accuracy items."""
    cell = cell_of("bert", "99", Scenario.OFFLINE, "onnxruntime", "v6.1")
    items = [(cell, "performance")] * 10 + [(cell, "accuracy")] * 10
    seconds = header.estimate_least_s(items, options)
    cells = [one for one, _ in items]
    first, *_ = header.describe_session(
        cells, options, "box", "reports", least_s=seconds
    )

    assert first == f"mlperf: {count}, round v6.1"
    assert header.estimate_least_s([(cell, "accuracy")], options) == 0.0
    assert header.estimate_least_s([(cell, "bare")], options) == 0.0


def test_the_items_of_one_build_stay_on_one_worker() -> None:
    """Six runs of three builds take two workers as long as four of them take one."""
    cells = [
        cell_of(*name, Scenario.OFFLINE, "onnxruntime", "v6.1")
        for name in (("bert", "99"), ("bert", "99.9"), ("resnet50", ""))
    ]
    items = [(cell, mode) for cell in cells for mode in ("performance", "TEST01")]
    least_s = {
        workers: header.estimate_least_s(items, Options(fast=True), workers)
        for workers in (1, 2, 3, 8)
    }

    assert least_s == {1: 360, 2: 240, 3: 120, 8: 120}
    rehearsal = Options(fast=True, rehearsal=True)
    assert header.estimate_least_s(items, rehearsal, 8) == 120


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (599.0, ["shortened"]),
        (600.0, []),
        (900.0, ["--mlperf-duration 900 lengthens nothing"]),
    ],
)
def test_the_header_says_what_a_duration_changes(
    seconds: float, said: list[str]
) -> None:
    """Only below the round's own duration is anything waived."""
    cell = cell_of("bert", "99", Scenario.OFFLINE, "onnxruntime", "v6.1")
    lines = header.describe_session([cell], Options(duration=seconds), "box", "reports")
    found = [line for line in lines if f"{seconds:g}" in line or "short" in line]

    assert said == [line.split(":")[1].strip() for line in found]
    assert (seconds < 600) == any("waived" in line for line in lines)


def test_rules_of_ones_own_are_told_in_header_title_and_legend(
    make_verdict: Make,
) -> None:
    """Where none was waived, nothing says that one was."""
    rule = cell_of("bert", "99", Scenario.OFFLINE, "null", "v6.1").rule
    own = [Cell(replace(rule, benchmark=name), "null") for name in ("mine", "her", "a")]
    lines = header.describe_session(own, Options(), "box", "reports")
    head = "mlperf: unofficial: a-99, her-99, mine-99 by rules of their own, not a "
    head += "submission result"
    title, *_, legend = table([make_verdict(labels=("unofficial",))])

    assert head in lines
    assert "1 VALID (unofficial)" in title
    assert legend == "unofficial: the benchmark's own rules, not the round's"


def test_a_row_says_over_how_many_devices_it_ran(make_verdict: Make) -> None:
    """One device is not worth a word; two are another thing to compare with."""
    one, two = (
        make_verdict(run=RunFacts(devices=1)),
        make_verdict(run=RunFacts(devices=2)),
    )
    first, second = report_table.make_rows([one, two])

    assert f"{first.item} on 2 devices" == second.item
    assert first.comparable != second.comparable


def test_what_ran_beside_stands_under_the_row(make_verdict: Make) -> None:
    """Other load above a tenth and other sessions, whatever the verdict."""
    facts = RunFacts(others_share=0.88, sessions_beside=("/home/j\xf6rg/reports/a",))
    lines = table([make_verdict(run=facts)])
    quiet = table([make_verdict(run=RunFacts(others_share=0.1))])

    assert (
        "    beside other load of 88% of its CPUs and another session "
        r"(/home/j\xf6rg/reports/a)" in lines
    )
    assert "beside" not in "\n".join(quiet)


def test_a_precision_that_nobody_chose_stands_once_under_the_table(
    make_verdict: Make,
) -> None:
    """And in each item's own text, with what the two took."""
    why = "fp32: a batch of 4 took int8 892 ms, fp32 417 ms in turn"
    verdict = make_verdict(facts={PRECISION_CHOSEN: why})

    assert table([verdict, verdict]).count(f"{verdict.benchmark} in {why}") == 1
    assert f"  precision {why}" in verdict.explain().splitlines()


@pytest.mark.parametrize(("wanted", "said"), [(None, False), (2, True), ("all", True)])
def test_the_header_says_how_many_devices_an_item_takes(
    wanted: int | str | None, said: bool
) -> None:
    """Where somebody asked for more than the usual one."""
    cells = [cell_of("bert", "99", Scenario.SERVER, "null", "v4.1")]
    lines = header.describe_session(
        cells, Options(devices_per_item=wanted), "box", "reports"
    )

    assert said == any(line.endswith(f"devices per item {wanted}") for line in lines)
