"""Sessions that end in a submission: selection, refusals, writing, exit status."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy  # noqa: F401 - a process that runs several sessions imports it once
import pytest

from pytest_mlperf.core.submission import description
from pytest_mlperf.reporting import results
from pytest_mlperf.submission.earlier import list_sessions

SUITE = """
from dataclasses import replace
import pytest
from pytest_mlperf.core.types import Mode
from pytest_mlperf.measure.folders import logs_folder, make_folder
from pytest_mlperf.plugin.session import State
from tests.support import sessions

def write(request, cell, name, make):
    state = State.of(request.config)
    rule = cell.rule
    folder = make_folder(logs_folder(state.reports, cell, name))
    run = make(folder, rule, labels=state.options.labels)
    state.attach(request.node, run.verdict)

@pytest.mark.mlperf(mode="performance")
def test_performance(cell, request):
    write(request, cell, "performance", sessions.performance)

@pytest.mark.mlperf(mode="accuracy")
def test_accuracy(cell, request):
    write(request, cell, "accuracy", sessions.accuracy)

@pytest.mark.mlperf(mode="compliance")
def test_compliance(cell, audit, request):
    write(request, cell, audit, sessions.compliance)
"""
CLOSED = (
    "--mlperf-submission=ACME",
    "--mlperf-workload=official",
    "--mlperf-scratch=models",
    "--mlperf-system=box",
)
BERT = ("-k", "bert-99-")


@pytest.fixture
def session(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """A suite whose runs end at once, on a machine that is described in full."""
    pytester.makepyfile(test_suite=SUITE)
    known = dict.fromkeys(description.FIELDS, "N/A") | {"status": "available"}
    known |= dict.fromkeys(description.COUNTS, "1")
    known |= {"division": "closed", "system_type": "edge"}
    lines = [f"{name} = {value!r}" for name, value in known.items()]
    folder = pytester.mkdir("systems")
    pytester.mkdir("models")
    (folder / "box.toml").write_text("\n".join(["[description]", *lines]))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return pytester


def newest(session: pytest.Pytester) -> Path:
    return (session.path / "reports" / "latest").resolve()


def test_a_session_writes_the_tree_and_says_what_is_in_it(
    session: pytest.Pytester,
) -> None:
    """bert-99 of an edge system: two results, no problem, status 0."""
    result = session.runpytest(*CLOSED, *BERT)
    home = newest(session) / "submission/closed/ACME"

    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(
        ["submission: *: 2 results of box, closed v6.1 edge", "*no problem found"]
    )
    assert result.ret == 0
    assert (home / "results/box/bert-99/Offline/TEST01/verify_accuracy.txt").is_file()
    assert json.loads((home / "systems/box.json").read_text())["submitter"] == "ACME"
    assert (home / "src/pytest-mlperf/systems/box.toml").is_file()
    assert "## Taken" in (newest(session) / "submission.md").read_text()


@pytest.mark.skipif(not find_spec("xdist"), reason="needs pytest-xdist")
def test_the_tree_is_written_once_whoever_ran_the_items(
    session: pytest.Pytester,
) -> None:
    """Workers leave runs, the controller writes."""
    result = session.runpytest_subprocess(*CLOSED, *BERT, "-n", "2")

    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["submission: *: 2 results of box, closed v6.1 edge"])
    assert result.ret == 0
    assert (newest(session) / "submission/closed/ACME/systems/box.json").is_file()


def test_only_cells_of_the_round_and_category_are_collected(
    session: pytest.Pytester,
) -> None:
    """A datacenter has no SingleStream; without a submission every cell is there."""

    def listed(*arguments: str) -> str:
        shown = session.runpytest("--collect-only", "-q", *arguments)
        return "\n".join(line for line in shown.outlines if "::" in line)

    edge = listed(*CLOSED)
    datacenter = listed(*CLOSED, "--mlperf-category=datacenter", "--mlperf-round=v4.1")

    assert "singlestream" in edge
    assert "server" not in edge
    assert "singlestream" not in datacenter
    assert "server" in datacenter


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mlperf-workload=embedded"], "embedded runs are not for the closed"),
        (["--fast"], "fast runs are not for the closed division: leave out --fast"),
        (["--mlperf-duration=5"], "shortened runs are not for the closed division"),
        (["--mlperf-engine=null"], "the engine null answers without inferring"),
        (["--mlperf-tree=nowhere"], "has no closed/ACME"),
    ],
)
def test_what_could_never_be_submitted_is_refused_before_it_runs(
    session: pytest.Pytester, arguments: list[str], said: str
) -> None:
    """No hours are lost: nothing runs, and the words say what to change."""
    result = session.runpytest(*CLOSED, *BERT, *arguments)

    result.assert_outcomes()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stdout.str() + result.stderr.str()


def test_empty_fields_are_asked_for_in_a_form(session: pytest.Pytester) -> None:
    """Before any run: the fields, and a file to fill in and paste."""
    (session.path / "systems/box.toml").write_text(
        '[description]\nsystem_type = "edge"\nstatus = "rdi"\n'
    )
    result = session.runpytest(*CLOSED, *BERT)
    text = result.stdout.str() + result.stderr.str()
    [form] = session.path.glob("reports/*/system.toml")

    result.assert_outcomes()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "without a value: host_memory_configuration" in text
    assert str(form) in text
    assert 'cooling = ""' in form.read_text()


def test_a_category_that_nobody_named_is_asked_for(session: pytest.Pytester) -> None:
    """The words name the option and the field."""
    result = session.runpytest(*CLOSED[:3], *BERT)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--mlperf-category*system_type*"])


@pytest.mark.parametrize("name", ["../out", "A B", ".git", "A/B"])
def test_an_organisation_that_escapes_the_tree_is_refused(
    session: pytest.Pytester, name: str
) -> None:
    """The name becomes a folder, and nothing else."""
    result = session.runpytest(f"--mlperf-submission={name}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--mlperf-submission: *should be letters*"])


def test_a_missing_scenario_fails_the_session_and_its_runs_are_kept(
    session: pytest.Pytester,
) -> None:
    """Every item passed, but there is nothing to submit: status 1, in results too."""
    result = session.runpytest(*CLOSED, "-k", "bert-99-offline")
    found = results.read_results(newest(session) / results.FILE)

    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "submission: refused: bert-99: SingleStream missing*",
            "submission: not written*--mlperf-tree *",
        ]
    )
    assert result.ret == 1
    assert found.end is not None
    assert found.end["exitstatus"] == 1
    assert not (newest(session) / "submission").exists()


def test_the_runs_of_an_earlier_session_complete_a_later_one(
    session: pytest.Pytester,
) -> None:
    """Only what was missing is run again."""
    session.runpytest(*CLOSED, "-k", "bert-99-offline")
    earlier = newest(session)
    result = session.runpytest(
        *CLOSED, "-k", "bert-99-singlestream", f"--mlperf-tree={earlier}"
    )

    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["submission: *: 2 results of box, closed v6.1 edge"])
    assert result.ret == 0
    assert newest(session) != earlier


def test_the_sessions_that_an_earlier_one_completed_count_too(
    tmp_path: Path,
) -> None:
    """The second of three was refused and says to go on with its folder: the runs of
    the first were lost. A folder that names itself ends the list.
    """
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for folder, tree in ((first, first), (second, first), (third, second)):
        (folder / "logs").mkdir(parents=True)
        writer = results.ResultsWriter(folder / results.FILE)
        writer.open({"options": {"tree": str(tree)}})

    assert list_sessions(third) == [first, second, third]


def test_a_system_that_is_renamed_keeps_its_runs_and_says_so(
    session: pytest.Pytester,
) -> None:
    """A machine gets its name when somebody describes it."""
    session.runpytest(*CLOSED, "-k", "bert-99-offline")
    earlier = newest(session)
    systems = session.path / "systems"
    (systems / "rig.toml").write_text((systems / "box.toml").read_text())
    result = session.runpytest(
        *CLOSED, "--mlperf-system=rig", "-k", "bert-99-singlestream",
        f"--mlperf-tree={earlier}",
    )  # fmt: skip

    result.stdout.fnmatch_lines(
        [
            f"submission: the runs of {earlier} were made as box, and count as rig",
            "submission: *: 2 results of rig, closed v6.1 edge",
        ]
    )
    assert result.ret == 0


def test_the_runs_of_another_machine_are_refused_before_anything_runs(
    session: pytest.Pytester,
) -> None:
    """A result has the runs of one system; machines of one name are one."""
    session.runpytest(*CLOSED, "-k", "bert-99-offline")
    earlier = newest(session)
    file = earlier / results.FILE
    header, *lines = file.read_text().splitlines(keepends=True)
    there = {"host": "elsewhere", "system": {"name": "box", "summary": "2 GPUs"}}
    moved = f"{json.dumps(json.loads(header) | there)}\n"
    file.write_text("".join([moved, *lines]))
    systems = session.path / "systems"
    (systems / "rig.toml").write_text((systems / "box.toml").read_text())
    more = ("-k", "bert-99-singlestream", f"--mlperf-tree={earlier}")
    other = session.runpytest(*CLOSED, "--mlperf-system=rig", *more)
    same = session.runpytest(*CLOSED, *more)

    other.stderr.fnmatch_lines(
        ["ERROR: *its runs were made on box (elsewhere: 2 GPUs), and this is rig (*"]
    )
    assert other.ret == pytest.ExitCode.USAGE_ERROR
    assert same.ret == 0


def test_a_benchmark_that_failed_earlier_is_no_obstacle(
    session: pytest.Pytester,
) -> None:
    """An INVALID bert-99.9 of the earlier session is listed, and bert-99 written."""
    session.runpytest(*CLOSED, "-k", "bert-99.9")
    [verdict] = newest(session).glob("logs/bert-99.9-offline*/performance/verdict.json")
    found = json.loads(verdict.read_text())
    found["checks"][0]["status"] = "fail"
    verdict.write_text(json.dumps(found))
    result = session.runpytest(*CLOSED, *BERT, f"--mlperf-tree={newest(session)}")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["submission: *runs not taken*"])
    assert (
        "bert-99.9 Offline performance: INVALID"
        in (newest(session) / "submission.md").read_text()
    )


def test_a_second_session_completes_the_tree(session: pytest.Pytester) -> None:
    """bert-99.9 joins bert-99 in the tree that is named."""
    session.runpytest(*CLOSED, *BERT)
    tree = newest(session) / "submission"
    result = session.runpytest(*CLOSED, "-k", "bert-99.9", f"--mlperf-tree={tree}")

    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines([f"submission: {tree}: 4 results of box*"])
    assert result.ret == 0
    assert {path.name for path in (tree / "closed/ACME/results/box").iterdir()} == {
        "bert-99",
        "bert-99.9",
    }


def test_an_open_submission_has_no_compliance_items(session: pytest.Pytester) -> None:
    """Its tree takes none of them; who wants them all the same asks for them."""
    shown = ("--collect-only", "-q", "-k", "bert-99-offline")

    def listed(*arguments: str) -> str:
        return session.runpytest(*shown, *CLOSED, *arguments).stdout.str()

    assert "TEST01" in listed()
    assert "test_accuracy" in listed("--mlperf-division=open")
    assert "TEST01" not in listed("--mlperf-division=open")
    assert "TEST01" in listed("--mlperf-division=open", "--mlperf-compliance")


@pytest.mark.parametrize(
    ("short", "said"),
    [
        ("--mlperf-duration=5", "shortened runs are not for the closed division"),
        ("--fast", "fast runs are not for the closed division"),
    ],
)
def test_a_short_rehearsal_is_refused_before_it_runs(
    session: pytest.Pytester, short: str, said: str
) -> None:
    """Its tree could never be written; without --mlperf-submission it may be short."""
    result = session.runpytest(
        "--mlperf-rehearsal", "--mlperf-submission=ACME", "--mlperf-category=edge",
        short, *BERT,
    )  # fmt: skip

    result.assert_outcomes()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stdout.str() + result.stderr.str()


def test_an_open_rehearsal_may_be_short(session: pytest.Pytester) -> None:
    """The open division takes what is labelled."""
    result = session.runpytest(
        "--mlperf-rehearsal", "--mlperf-submission=ACME", "--mlperf-category=edge",
        "--mlperf-division=open", "--mlperf-duration=5", *BERT,
    )  # fmt: skip

    assert result.ret != pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["submission: *open v6.1 edge (REHEARSAL)"])


def test_a_rehearsal_needs_no_description(session: pytest.Pytester) -> None:
    """On any laptop: the fields say REHEARSAL, and the tree is written."""
    result = session.runpytest(
        "--mlperf-rehearsal", "--mlperf-submission=ACME", "--mlperf-category=edge",
        *BERT,
    )  # fmt: skip
    [system] = newest(session).glob("submission/closed/ACME/systems/*.json")

    result.stdout.fnmatch_lines(["submission: *closed v6.1 edge (REHEARSAL)"])
    assert result.ret == 0
    assert "REHEARSAL" in json.loads(system.read_text())["cooling"]


def test_a_failed_test_keeps_its_run_out(session: pytest.Pytester) -> None:
    """A user's own demand counts beside the rules."""
    suite = session.path / "test_suite.py"
    text = suite.read_text().replace(
        'write(request, cell, "accuracy", sessions.accuracy)',
        'write(request, cell, "accuracy", sessions.accuracy)\n'
        '    assert cell.scenario.slug != "offline", "not good enough"',
    )
    suite.write_text(text)
    result = session.runpytest(*CLOSED, *BERT)

    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["submission: refused: bert-99 Offline*good enough*"])
    assert result.ret == 1


def test_the_description_says_how_many_accelerators_the_runs_used(
    session: pytest.Pytester,
) -> None:
    """Not how many the machine has; where they differ, the session says so."""
    end = "    state.attach(request.node, run.verdict)"
    used = """    if name == "performance":
        labels, facts = state.options.labels, replace(sessions.FACTS, accelerators=2)
        run = sessions.state(folder, rule, name, labels=labels, facts=facts)
"""
    session.makepyfile(test_suite=SUITE.replace(end, used + end))
    result = session.runpytest(*CLOSED, *BERT)
    file = newest(session) / "submission/closed/ACME/systems/box.json"

    assert json.loads(file.read_text())["accelerators_per_node"] == "2"
    result.stdout.fnmatch_lines(
        ["submission: accelerators_per_node is 2, which the runs used; the machine *"]
    )
