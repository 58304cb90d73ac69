"""Which runs make a submission, and the words for those that do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.submission.choose import Choice
from pytest_mlperf.core.submission.choose import choose
from pytest_mlperf.core.submission.request import SubmissionRequest
from pytest_mlperf.core.submission.runs import Run
from pytest_mlperf.core.submission.runs import read_runs
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from tests.support import sessions

ASK = SubmissionRequest("ACME", "v6.1", "closed", "edge", "box")
BERT = (("bert", "99", ("SingleStream", "Offline")),)
OFFLINE = sessions.rule_of("v6.1", "bert", "99", "Offline")


@pytest.fixture
def bert(tmp_path: Path) -> list[Run]:
    """Every run of a closed bert-99 submission."""
    return sessions.complete(tmp_path, "v6.1", BERT)


def folder_of(runs: list[Run], scenario: str, mode: str) -> Path:
    return next(
        r.folder for r in runs if (r.verdict.scenario, r.mode) == (scenario, mode)
    )


def chosen(choice: Choice, scenario: str) -> Path:
    """Return the folder of the performance run that was taken."""
    return next(
        e.performance.folder
        for e in choice.entries
        if e.rule.scenario.value == scenario
    )


def changed(runs: list[Run], folder: Path, **fields: object) -> list[Run]:
    """Return the runs with another verdict of one of them."""
    return [
        replace(r, verdict=replace(r.verdict, **fields)) if r.folder == folder else r  # type: ignore[arg-type]
        for r in runs
    ]


def test_a_complete_session_is_taken_whole(bert: list[Run]) -> None:
    """Each scenario has its performance, accuracy and compliance runs."""
    choice = choose(bert, ASK)

    assert choice.refusals == ()
    assert choice.others == ()
    assert sorted(e.rule.scenario.value for e in choice.entries) == [
        "Offline",
        "SingleStream",
    ]
    assert {run.mode for run in choice.entries[0].runs} == {
        "performance",
        "accuracy",
        "TEST01",
    }


@pytest.mark.parametrize(
    ("scenario", "slower", "best"),
    [
        ("SingleStream", 1.1, "performance"),
        ("SingleStream", 0.99, "performance-2"),
        ("Offline", 1.1, "performance"),
        ("Offline", 0.99, "performance-2"),
    ],
)
def test_the_best_valid_run_is_taken(
    bert: list[Run], scenario: str, slower: float, best: str
) -> None:
    """Lower latency or higher throughput wins, and the other says why it did not."""
    first = folder_of(bert, scenario, "performance")
    rule = sessions.rule_of("v6.1", "bert", "99", scenario)
    second = sessions.performance(first.with_name("performance-2"), rule, slower=slower)

    choice = choose([*bert, second], ASK)

    assert best == chosen(choice, scenario).name
    [(_, reason)] = choice.others
    assert "is not better than" in reason


def test_a_better_run_that_is_invalid_is_not_taken(bert: list[Run]) -> None:
    """Only VALID runs count, however fast they are."""
    first = folder_of(bert, "Offline", "performance")
    second = sessions.performance(first.with_name("performance-2"), OFFLINE, slower=0.5)
    fault = Check("seeds", Status.FAIL, "1", "2", "detail:1", "set the seeds")
    better = replace(second, verdict=replace(second.verdict, checks=(fault,)))

    choice = choose([*bert, better], ASK)

    assert first == chosen(choice, "Offline")
    assert [reason for _, reason in choice.others] == [f"INVALID: {fault}"]


def test_accuracy_must_be_of_the_same_build(bert: list[Run]) -> None:
    """The refusal names both builds and what to do."""
    accuracy = folder_of(bert, "Offline", "accuracy")

    choice = choose(changed(bert, accuracy, build="c" * 64), ASK)

    [refusal] = choice.refusals
    assert "accuracy ran onnxruntime build cccccccccccc" in refusal
    assert "performance ran onnxruntime build bbbbbbbbbbbb" in refusal
    assert "run them in one session" in refusal


def test_accuracy_must_be_of_as_many_devices(bert: list[Run]) -> None:
    """What two devices did is no part of one device's result."""
    accuracy = folder_of(bert, "Offline", "accuracy")
    facts = next(r.verdict.run for r in bert if r.folder == accuracy)

    choice = choose(changed(bert, accuracy, run=replace(facts, devices=2)), ASK)

    [refusal] = choice.refusals
    assert "accuracy ran onnxruntime build bbbbbbbbbbbb on 2 devices" in refusal


@pytest.mark.parametrize("mode", ["performance", "accuracy", "TEST01"])
def test_a_missing_run_is_refused_by_name(bert: list[Run], mode: str) -> None:
    """Whatever is lacking, the scenario and the run are in the words."""
    gone = folder_of(bert, "Offline", mode)

    choice = choose([run for run in bert if run.folder != gone], ASK)

    [refusal] = choice.refusals
    assert "bert-99 Offline" in refusal
    assert mode in refusal


def test_a_scenario_that_was_never_run_is_refused(bert: list[Run]) -> None:
    """The words say what the round asks for and how to leave the benchmark out."""
    choice = choose([r for r in bert if r.verdict.scenario == "Offline"], ASK)

    [refusal] = choice.refusals
    assert "bert-99: SingleStream missing" in refusal
    assert "SingleStream, Offline" in refusal
    assert "-k 'not bert-99'" in refusal


def test_one_of_server_and_interactive_is_enough_but_needed() -> None:
    """A round that leaves the choice still asks for one of them."""
    from pytest_mlperf.core import rounds
    from pytest_mlperf.core.submission.request import find_missing

    ask = replace(ASK, round="v5.1", category="datacenter")
    table = rounds.get("v5.1")
    offline = {("llama3.1-8b", "Offline")}

    assert len(list(find_missing(table, ask, offline))) == 1
    for scenario in ("Server", "Interactive"):
        assert (
            list(find_missing(table, ask, {*offline, ("llama3.1-8b", scenario)})) == []
        )


@pytest.mark.parametrize(
    ("labels", "status", "word"),
    [
        (("embedded",), Status.PASS, "labelled embedded"),
        (("fast",), Status.PASS, "labelled fast"),
        (("null answers",), Status.PASS, "labelled null answers"),
        ((), Status.WAIVED, "rules waived: rule"),
    ],
)
def test_closed_takes_no_labelled_or_waived_run(
    bert: list[Run], labels: tuple[str, ...], status: Status, word: str
) -> None:
    """What is not held to the rules is refused with its label or rule."""
    folder = folder_of(bert, "Offline", "performance")
    check = Check("rule", status, "found", "required", "detail:1")
    runs = changed(bert, folder, labels=labels, checks=(check,))

    assert word in " ".join(choose(runs, ASK).refusals)
    assert choose(runs, replace(ASK, division="open")).refusals == ()


def test_rehearsed_and_measured_runs_do_not_mix(bert: list[Run]) -> None:
    """A rehearsal takes rehearsed runs alone, and a submission none of them."""
    folder = folder_of(bert, "Offline", "performance")
    runs = changed(bert, folder, labels=("rehearsal",))

    assert "rehearsed, and one tree" in choose(runs, ASK).refusals[0]
    assert "measured, and one tree" in " ".join(
        choose(bert, replace(ASK, rehearsal=True)).refusals
    )


def test_a_row_that_the_tree_has_needs_no_run(bert: list[Run]) -> None:
    """Completing a tree asks for what is missing in it alone."""
    offline = [run for run in bert if run.verdict.scenario == "Offline"]

    choice = choose(offline, ASK, there={("bert-99", "SingleStream")})

    assert choice.refusals == ()
    assert len(choice.entries) == 1


def test_a_run_that_does_not_say_what_it_used_is_not_taken(bert: list[Run]) -> None:
    """An older version's verdict would be described by defaults."""
    older = [replace(run, verdict=replace(run.verdict, run=RunFacts())) for run in bert]

    assert any("older pytest-mlperf" in one for one in choose(older, ASK).refusals)


def test_a_run_whose_item_failed_is_not_taken(bert: list[Run]) -> None:
    """A user's own assertion counts, though the verdict is VALID."""
    folder = folder_of(bert, "Offline", "performance")
    runs = [
        replace(r, trouble="failed: too slow") if r.folder == folder else r
        for r in bert
    ]

    assert "too slow" in choose(runs, ASK).refusals[0]


def test_runs_of_another_round_are_listed_and_left(
    tmp_path: Path, bert: list[Run]
) -> None:
    """Seeds differ by round, so that a run counts for its own alone."""
    other = sessions.complete(tmp_path / "old", "v5.1", BERT)

    choice = choose([*bert, *other], ASK)

    assert choice.refusals == ()
    assert len(other) == len(choice.others)
    assert {reason for _, reason in choice.others} == {
        "judged by v5.1, the submission is for v6.1"
    }


def test_an_open_submission_leaves_an_incomplete_row_out(bert: list[Run]) -> None:
    """It asks for no scenario: the others are taken, and this one says why not."""
    gone = folder_of(bert, "Offline", "accuracy")

    choice = choose(
        [run for run in bert if run.folder != gone], replace(ASK, division="open")
    )

    assert choice.refusals == ()
    assert [e.rule.scenario.value for e in choice.entries] == ["SingleStream"]
    assert any("no usable accuracy run" in reason for _, reason in choice.others)


def test_runs_that_cannot_count_say_why_where_the_tree_has_their_row(
    bert: list[Run],
) -> None:
    """Nothing is missing then, but nothing can be added either."""
    folder = folder_of(bert, "Offline", "performance")
    fault = Check("seeds", Status.FAIL, "1", "2", "detail:1", "set the seeds")
    runs = changed([r for r in bert if r.folder == folder], folder, checks=(fault,))
    there = {("bert-99", "Offline"), ("bert-99", "SingleStream")}

    [refusal] = choose(runs, ASK, there).refusals

    assert f"bert-99 Offline performance: INVALID: {fault}" in refusal


def broken(runs: list[Run], scenario: str = "Offline") -> list[Run]:
    """Return the runs with an INVALID performance run of one scenario."""
    fault = Check("seeds", Status.FAIL, "1", "2", "detail:1", "set the seeds")
    return changed(runs, folder_of(runs, scenario, "performance"), checks=(fault,))


def test_a_benchmark_that_only_failed_earlier_does_not_refuse_the_others(
    tmp_path: Path, bert: list[Run]
) -> None:
    """Nobody can leave an earlier session's items out: they are listed, not taken."""
    other = (("bert", "99.9", ("Offline",)),)
    earlier = broken(sessions.complete(tmp_path / "earlier", "v6.1", other))

    choice = choose(bert, ASK, earlier=earlier)

    assert choice.refusals == ()
    assert {entry.rule.model for entry in choice.entries} == {"bert-99"}
    assert any("INVALID: " in reason for _, reason in choice.others)
    assert {run.folder for run in earlier} == {run.folder for run, _ in choice.others}


def test_a_required_scenario_that_failed_earlier_is_refused_with_its_reason(
    bert: list[Run],
) -> None:
    """What the benchmark cannot be without is refused, whoever ran it: once."""
    earlier = broken([r for r in bert if r.verdict.scenario == "Offline"])
    now = [r for r in bert if r.verdict.scenario == "SingleStream"]

    [refusal] = choose(now, ASK, earlier=earlier).refusals

    assert "bert-99 Offline: INVALID: " in refusal


def test_a_benchmark_of_an_earlier_session_alone_is_left_out_whole(
    tmp_path: Path, bert: list[Run]
) -> None:
    """Its VALID scenario cannot stand without the INVALID one: each run says so."""
    other = (("bert", "99.9", ("SingleStream", "Offline")),)
    earlier = broken(sessions.complete(tmp_path / "earlier", "v6.1", other))

    choice = choose(bert, ASK, earlier=earlier)
    reasons = {run.folder: reason for run, reason in choice.others}

    assert choice.refusals == ()
    assert {entry.rule.model for entry in choice.entries} == {"bert-99"}
    assert {run.folder for run in earlier} == set(reasons)
    single = reasons[folder_of(earlier, "SingleStream", "performance")]
    assert "left out with bert-99.9" in single
    assert "Offline: INVALID" in single


def test_a_failed_row_of_this_session_is_refused_though_no_one_requires_it(
    bert: list[Run],
) -> None:
    """Its items were selected, so that it is wanted."""
    assert "bert-99 Offline" in choose(broken(bert), ASK).refusals[0]


def test_earlier_and_later_runs_make_one_set(bert: list[Run]) -> None:
    """An INVALID earlier run does not matter once the row has a VALID one."""
    offline = [r for r in bert if r.verdict.scenario == "Offline"]

    choice = choose(bert, ASK, earlier=broken(offline))

    assert choice.refusals == ()
    assert len(choice.entries) == 2


def test_nothing_at_all_is_said_to_be_nothing() -> None:
    """A session without a run that counts is no empty tree."""
    assert "nothing to submit" in choose([], ASK).refusals[0]


def test_runs_are_read_in_the_order_they_were_made(tmp_path: Path) -> None:
    """The tenth repetition stands after the ninth, and a damaged verdict is none."""
    rule = OFFLINE
    for number in (1, 2, 10):
        name = f"performance-{number}" if number > 1 else "performance"
        sessions.performance(tmp_path / "logs" / "cell" / name, rule)
    bad = tmp_path / "logs" / "cell" / "performance-3"
    bad.mkdir()
    (bad / "verdict.json").write_text("{")

    names = [run.folder.name for run in read_runs(tmp_path)]

    assert names == ["performance", "performance-2", "performance-10"]
