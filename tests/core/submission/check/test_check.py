"""Every rule of the submission check: a tree that passes, a change that does not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.core.submission.check import check_tree
from pytest_mlperf.core.submission.check import read_tree
from pytest_mlperf.core.submission.check import tree_problems
from pytest_mlperf.core.submission.check.listing import EntryKind
from pytest_mlperf.core.submission.check.listing import Listing
from tests.support import logs
from tests.support import trees
from tests.support.tree_changes import ACCURACY
from tests.support.tree_changes import BERT
from tests.support.tree_changes import HOME
from tests.support.tree_changes import OFFLINE
from tests.support.tree_changes import RUN
from tests.support.tree_changes import SYSTEM
from tests.support.tree_changes import TEST01
from tests.support.tree_changes import Change
from tests.support.tree_changes import big
from tests.support.tree_changes import folder
from tests.support.tree_changes import link
from tests.support.tree_changes import logged
from tests.support.tree_changes import move
from tests.support.tree_changes import problems
from tests.support.tree_changes import remove
from tests.support.tree_changes import system
from tests.support.tree_changes import write

DETAIL = f"{RUN}/mlperf_log_detail.txt"
CASES: list[tuple[str, Change, str]] = [
    ("root", write("notes.txt"), "notes.txt"),
    ("root", folder("others/x"), "others"),
    ("division", write("closed/notes.md"), "closed/notes.md"),
    ("submitter", write("closed/OTHER/README.md"), "closed/OTHER"),
    ("links", link(f"{HOME}/away", "/etc/hostname"), f"{HOME}/away"),
    ("links", link(f"{HOME}/gone", "nowhere"), f"{HOME}/gone"),
    ("links", link(f"{HOME}/round", "."), f"{HOME}/round"),
    ("file_size", big(f"{HOME}/src/bert-99/main.py"), "main.py"),
    ("file_names", write(f"{HOME}/src/.hidden"), ".hidden"),
    ("file_names", write(f"{HOME}/src/a file"), "a file"),
    ("file_names", write(f"{HOME}/src/__pycache__/x.pyc"), "__pycache__"),
    ("empty_folders", folder(f"{HOME}/src/empty"), f"{HOME}/src/empty"),
    ("layout", write(f"{HOME}/measurements/box/x.json"), f"{HOME}/measurements"),
    ("system_json", remove(SYSTEM), SYSTEM),
    ("system_json", write(SYSTEM, "[1, 2]"), SYSTEM),
    ("system_json", write(SYSTEM, '{"a": '), SYSTEM),
    ("system_fields", system(cooling=""), SYSTEM),
    ("system_fields", system(number_of_nodes=0), SYSTEM),
    ("system_fields", system(framework=["onnxruntime"]), SYSTEM),
    ("system_values", system(status="soon"), SYSTEM),
    ("system_values", system(system_type="phone"), SYSTEM),
    ("system_values", system(system_type=["edge"]), SYSTEM),
    ("system_numbers", system(number_of_nodes="one"), SYSTEM),
    ("system_agreement", system(submitter="OTHER"), SYSTEM),
    ("system_agreement", system(division="Closed"), SYSTEM),
    ("system_network", system(is_network="true"), SYSTEM),
    ("system_network", system(is_network="false"), SYSTEM),
    ("system_network", system(is_network=True), SYSTEM),
    ("results", folder(f"{HOME}/results/other"), "results/other"),
    ("results", folder(f"{HOME}/results/box/resnet50"), "box/resnet50"),
    ("benchmark_name", move(f"{HOME}/results/box/bert-99", f"{HOME}/results/box/bert"),
     "box/bert"),
    ("benchmark_name", move(f"{HOME}/results/box/bert-99", f"{HOME}/results/box/x"),
     "box/x"),
    ("scenario_name", move(OFFLINE, f"{HOME}/results/box/bert-99/offline"), "offline"),
    ("scenario_name", move(OFFLINE, f"{HOME}/results/box/bert-99/Fast"), "Fast"),
    ("required_scenarios", remove(OFFLINE), OFFLINE),
    ("scenario", move(OFFLINE, f"{HOME}/results/box/bert-99/Server"), "Server"),
    ("scenario", system(system_type="datacenter"), "box/bert-99"),
    ("measurements_files", write(f"{OFFLINE}/README.md", ""), "README.md"),
    ("measurements_fields", write(f"{OFFLINE}/measurements.json", "{}"),
     "measurements.json"),
    ("user_conf", write(f"{OFFLINE}/user.conf", "no setting\n"), "user.conf"),
    ("code", remove(f"{HOME}/src"), f"{HOME}/src"),
    ("calibration", remove(f"{HOME}/documentation/calibration.md"), "calibration.md"),
    ("accuracy_log_size", write(f"{ACCURACY}/mlperf_log_accuracy.json", "[" * 20_000),
     "mlperf_log_accuracy.json"),
    ("accuracy_log_cut", logged(f"{ACCURACY}/mlperf_log_accuracy.json", "[\n", "x"),
     "mlperf_log_accuracy.json"),
    ("accuracy_hash", logged(f"{ACCURACY}/accuracy.txt", "hash=", "hsah="),
     "accuracy.txt"),
    ("accuracy_F1", logged(f"{ACCURACY}/accuracy.txt", "90.9}", "70.9}"),
     "accuracy.txt"),
    ("loadgen_validity", logged(DETAIL, '"VALID"', '"INVALID"'), DETAIL),
    ("no_errors", logged(DETAIL, '"num_errors", "value": 0',
                         '"num_errors", "value": 1'), DETAIL),
    ("compliance", remove(TEST01), TEST01),
    ("compliance_verdict", write(f"{TEST01}/verify_performance.txt", "TEST FAIL\n"),
     "verify_performance.txt"),
    ("compliance_verdict", write(f"{TEST01}/verify_accuracy.txt", "TEST FAIL\n"),
     "verify_accuracy.txt"),
    ("log_files", write(f"{RUN}/spl.txt"), "run_1/spl.txt"),
    ("log_files", write(f"{TEST01}/performance/run_1/notes.txt"), "run_1/notes.txt"),
    ("log_files", write(f"{TEST01}/accuracy/notes.txt"), "accuracy/notes.txt"),
    ("accuracy_hash", write(f"{TEST01}/accuracy/accuracy.txt", "none\n"),
     "TEST01/accuracy/accuracy.txt"),
]  # fmt: skip


@pytest.fixture(scope="module")
def flawless(original: Path) -> None:
    """Every rule is content with the tree that the cases change copies of."""
    assert list(check_tree(original)) == []


@pytest.mark.usefixtures("flawless")
@pytest.mark.parametrize(
    ("rule", "change", "path"), CASES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CASES)]
)
def test_a_change_breaks_its_rule_and_the_problem_names_the_place(
    tree: Path, rule: str, change: Change, path: str
) -> None:
    """The tree passes that rule before, and not after."""
    change(tree)
    after = problems(tree, rule)

    assert any(path in problem.path for problem in after)


def test_a_copy_of_a_good_tree_has_no_problem(tree: Path) -> None:
    """What the cases begin with is content with every rule."""
    assert list(check_tree(tree)) == []


def test_an_empty_folder_is_no_submission(tmp_path: Path) -> None:
    """A gate that finds nothing fails, where the official checker does not."""
    assert problems(tmp_path, "something_to_check")
    assert problems(tmp_path, "round")


def test_the_open_division_needs_no_compliance_scenarios_or_accuracy(
    tmp_path: Path,
) -> None:
    """It is held to everything else."""
    root = trees.make(tmp_path / "t", "v6.1", {"bert": ("Offline",)}, division="open")
    own = root / "open/ACME/results/box/bert-99/Offline"
    shutil.rmtree(own / "TEST01")
    logged("accuracy.txt", "90.9}", "70.9}")(own / "accuracy")

    assert list(check_tree(root)) == []


def test_an_open_benchmark_of_its_own_name_is_mapped(tmp_path: Path) -> None:
    """model_mapping.json says what an open entry's own model is."""
    root = trees.make(tmp_path / "t", "v6.1", {"bert": ("Offline",)}, division="open")
    home = root / "open/ACME"
    (home / "results/box/bert-99").rename(home / "results/box/mine")
    before = problems(root, "benchmark_name")
    trees.write(home / "model_mapping.json", '{"mine": "bert-99"}')

    assert [f"{home.relative_to(root)}/results/box/mine"] == [p.path for p in before]
    assert list(check_tree(root)) == []


def test_a_slower_audited_run_is_found_in_the_logs_whatever_its_file_says(
    tree: Path,
) -> None:
    """TEST01's performance is compared again, and 10 % is the limit."""
    own = tree / TEST01 / "performance/run_1"
    shutil.rmtree(own)
    slow = logs.rising(66_000, 1_000_000, 800_000_000_000)
    more = {
        "qsl_reported_total_count": 10_833,
        "effective_accuracy_sample_count": 10_833,
    }
    change = trees.AUDITED["TEST01"] | more
    logs.performance(own, "Offline", latencies=slow, loaded=10_833, change=change)
    found = problems(tree, "compliance_performance")

    assert [p.path for p in found] == [
        f"{TEST01}/performance/run_1/mlperf_log_detail.txt"
    ]


def test_a_test_of_an_inferred_result_has_nothing_to_be_compared_with(
    tmp_path: Path,
) -> None:
    """The stream that stands for MultiStream is of another scenario than its TEST01."""
    streams = ("SingleStream", "MultiStream")
    root = trees.make(tmp_path / "t", "v6.1", {"resnet50": streams})
    own = root / HOME / "results/box/resnet50"
    slow = logs.rising(70_000, 90_000_000, 95_000_000)
    test = own / "MultiStream/TEST01/performance/run_1"
    logs.performance(test, "MultiStream", latencies=slow,
                     change=trees.AUDITED["TEST01"])  # fmt: skip
    slower = problems(root, "compliance_performance")
    for name in ("mlperf_log_summary.txt", "mlperf_log_detail.txt"):
        run = "performance/run_1"
        shutil.copyfile(own / streams[0] / run / name, own / streams[1] / run / name)

    assert [problem.path.split("/")[5] for problem in slower] == ["MultiStream"]
    assert problems(root, "compliance_performance") == []


def test_a_result_of_another_scenario_counts_where_it_may_be_inferred(
    tree: Path,
) -> None:
    """An edge system's Offline may be a SingleStream run; the other way it may not."""
    stream = tree / HOME / "results/box/bert-99/SingleStream/performance/run_1"
    own = tree / RUN
    kept = {path.name: path.read_bytes() for path in own.iterdir()}
    for name in kept:
        shutil.copyfile(stream / name, own / name)
    inferred = problems(tree, "scenario")
    for name, content in kept.items():
        (stream / name).write_bytes(content)
    illegal = problems(tree, "scenario")

    assert inferred == []
    assert any("SingleStream/performance" in problem.path for problem in illegal)


def test_links_inside_the_tree_are_followed(tree: Path) -> None:
    """A run that is a link to a folder of the tree counts as that folder."""
    real = tree / HOME / "src/run"
    (tree / RUN).rename(real)
    (tree / RUN).symlink_to(os.path.relpath(real, (tree / RUN).parent))

    assert list(check_tree(tree)) == []


def test_links_in_circles_end(tmp_path: Path) -> None:
    """Two folders that hold links to each other are listed once each way."""
    for here, there in (("a", "b"), ("b", "a")):
        (tmp_path / "closed" / here).mkdir(parents=True)
        (tmp_path / "closed" / here / "to").symlink_to(f"../{there}")
    listing = Listing.of(tmp_path)
    cycles = [e.path for e in listing.entries.values() if e.kind is EntryKind.CYCLE]

    assert sorted(cycles) == ["closed/a/to/to", "closed/b/to/to"]
    assert len(list(check_tree(tmp_path))) > 2


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(list(trees.DESCRIPTION)), VALUES))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_value_of_a_description_crashes_the_check(
    tree: Path, changed: dict[str, object]
) -> None:
    """Every problem can be printed on a terminal that knows ASCII only."""
    good = json.loads((tree / SYSTEM).read_text("utf-8"))
    trees.write(tree / SYSTEM, json.dumps(good | changed))
    found = list(tree_problems(read_tree(tree)[0]))
    trees.write(tree / SYSTEM, json.dumps(good))

    assert all(str(problem).isprintable() for problem in found)


@given(st.sampled_from(["verify_accuracy.txt", "accuracy/accuracy.txt"]), st.binary())
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_content_of_a_verification_crashes_the_check(
    tree: Path, name: str, content: bytes
) -> None:
    """Only a file that says TEST PASS, or has a hash, passes."""
    path = tree / TEST01 / name
    kept = path.read_bytes()
    path.write_bytes(content)
    found = [p for p in check_tree(tree) if p.path.endswith(f"TEST01/{name}")]
    path.write_bytes(kept)

    assert bool(found) is not (b"TEST PASS" in content or b"hash=" in content)


def test_a_network_system_is_behind_a_network_sut(tmp_path: Path) -> None:
    """The log's name of the SUT says so, and the description says the rest."""
    root = trees.make(tmp_path / "t", "v6.1", BERT, division="network")
    run = root / RUN.replace("closed", "network")
    plain = problems(root, "network_sut")
    for name in ("mlperf_log_summary.txt", "mlperf_log_detail.txt"):
        logged(name, "PySUT", "Network SUT")(run)
    named = problems(root, "network_sut")
    description = root / "network/ACME/systems/box.json"
    found = json.loads(description.read_text("utf-8"))
    del found["nic_sut"]
    trees.write(description, json.dumps(found))
    undescribed = problems(root, "system_network")

    assert len(plain) == 2
    assert len(named) == 1
    assert [problem.found for problem in undescribed] == ["no field nic_sut"]


def test_a_configuration_of_the_endpoints_client_alone_is_no_result(tree: Path) -> None:
    """Its two runs are missing, not LoadGen's logs."""
    for path in (RUN, ACCURACY):
        shutil.rmtree(tree / path)
    trees.write(tree / OFFLINE / "config.yaml", "type: offline\n")
    found = problems(tree, "log")

    assert [problem.path for problem in found] == [
        f"{OFFLINE}/performance/result_summary.json",
        f"{OFFLINE}/accuracy/accuracy_results.json",
    ]


def test_one_division_and_one_submitter_can_be_looked_at_alone(tree: Path) -> None:
    """The others' problems are not told."""
    trees.write(tree / "open/OTHER/results/box/x/y/z.txt", "x\n")
    trees.write(tree / "closed/OTHER/README.md", "x\n")
    everything = list(check_tree(tree))
    mine = list(check_tree(tree, division="closed", submitter="ACME"))

    assert everything
    assert mine == []


def test_accuracy_hash_of_a_whole_log_is_computed(tree: Path) -> None:
    """A log too short to be cut has to be the one that was scored."""
    own = tree / TEST01 / "accuracy"
    log = own / "mlperf_log_accuracy.json"
    log.write_text('[\n{ "seq_id" : 0, "qsl_idx" : 0, "data" : "00000000" }\n]\n')
    logs.score(own, "")
    good = [p for p in check_tree(tree) if "TEST01" in p.path]
    log.write_text('[\n{ "seq_id" : 0, "qsl_idx" : 0, "data" : "01000000" }\n]\n')
    changed = [p for p in check_tree(tree) if "TEST01" in p.path]

    assert good == []
    assert [p.path for p in changed] == [f"{TEST01}/accuracy/accuracy.txt"]
