"""Where a submission's files lie, and the two texts of its own: sizes and fields."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core import rounds
from pytest_mlperf.core.rounds.names import resolve_benchmark
from pytest_mlperf.core.submission import description
from pytest_mlperf.core.submission import truncate
from pytest_mlperf.core.submission.layout import Layout
from pytest_mlperf.core.submission.layout import folder_name
from pytest_mlperf.core.submission.layout import folder_problem
from pytest_mlperf.core.submission.layout import scenario_folder
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine import description_hints
from pytest_mlperf.machine.system_file import load_system_file
from pytest_mlperf.machine.system_schema import DESCRIPTION_FIELDS

ROW = ("closed", "ACME", "box", "resnet50", "Offline")


def test_v5_1_spreads_a_result_over_three_folders() -> None:
    """results/, measurements/ and compliance/, as the checker of v5.1.1 has them."""
    layout = Layout.of("v5.1")
    row = "box/resnet50/Offline"

    assert (
        str(layout.performance(*ROW)) == f"closed/ACME/results/{row}/performance/run_1"
    )
    assert (
        str(layout.measurements_json(*ROW))
        == f"closed/ACME/measurements/{row}/box_Offline.json"
    )
    assert (
        str(layout.compliance(*ROW, "TEST01")) == f"closed/ACME/compliance/{row}/TEST01"
    )
    assert str(layout.code("closed", "ACME")) == "closed/ACME/code"


@pytest.mark.parametrize("name", ["v6.0", "v6.1"])
def test_v6_keeps_a_result_together(name: str) -> None:
    """Measurements and compliance lie beside the logs, the code in src/."""
    layout = Layout.of(name)
    home = layout.result(*ROW)

    assert home == layout.measurements(*ROW)
    assert home / "measurements.json" == layout.measurements_json(*ROW)
    assert home / "TEST04" == layout.compliance(*ROW, "TEST04")
    assert str(layout.code("open", "ACME")) == "open/ACME/src"


@pytest.mark.parametrize("name", rounds.ROUNDS)
def test_every_folder_name_is_read_back(name: str) -> None:
    """No two rules share a folder, and its name tells the benchmark and target."""
    places = {}
    for rule in rounds.get(name).rules:
        folder = folder_name(rule.benchmark, rule.target, name, rule.scenario)
        scenario = scenario_folder(rule.scenario, name)
        places[folder, scenario] = rule

        assert (rule.benchmark, rule.target) == resolve_benchmark(folder, name)
        assert folder_problem(folder) == ""

    assert len(rounds.get(name).rules) == len(places)


def test_interactive_is_a_benchmark_in_v5_0_alone() -> None:
    """Its checker has llama2-70b-interactive-99 with the scenario Server."""
    interactive = Scenario.INTERACTIVE

    assert (
        folder_name("llama2-70b", "99", "v5.0", interactive)
        == "llama2-70b-interactive-99"
    )
    assert scenario_folder(interactive, "v5.0") == "Server"
    assert folder_name("llama2-70b", "99", "v5.1", interactive) == "llama2-70b-99"
    assert scenario_folder(interactive, "v5.1") == "Interactive"


@pytest.mark.parametrize("name", ["", "..", ".git", "a b", "a/b", "../x", "a\\b", "é"])
def test_names_that_escape_or_trouble_a_tree_are_refused(name: str) -> None:
    """Blanks, slashes and leading dots never become folders."""
    assert folder_problem(name)


@pytest.mark.parametrize("name", ["ACME", "A_1", "box.x8", "H100+H200", "9-lives"])
def test_usual_names_are_fine(name: str) -> None:
    """Letters, digits and . _ + - name a folder."""
    assert folder_problem(name) == ""


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8192, 100_000])
def test_a_cut_log_fits_and_keeps_both_ends(tmp_path: Path, size: int) -> None:
    """At most 10 KiB, and the file's ends are its own; a short file is whole."""
    path = tmp_path / "log"
    data = bytes(i % 251 for i in range(size))
    path.write_bytes(data)
    cut = truncate.read_ends(path)

    assert len(cut) <= truncate.LIMIT
    whole = data[:4096] + b"\n\n...\n\n" + data[-4096:]
    assert cut == (data if size < 4096 else whole)


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=40))
def test_accuracy_txt_has_one_hash_and_it_is_the_last_line(line: str) -> None:
    """An older hash gives way, and what was measured stays."""
    old, new = (hashlib.sha256(text).hexdigest() for text in (b"old", b"new"))
    text = truncate.sign_text(f"accuracy={line}\n\nhash={old}\n", new)

    assert text == truncate.sign_text(text, new)
    assert old not in text
    assert text.splitlines()[0] == f"accuracy={line}"
    assert text.splitlines()[-1] == f"hash={new}"


def described(**known: str) -> dict[str, str]:
    """Return the description of a machine without accelerator."""
    return description.describe(
        {"accelerators_per_node": "0", "number_of_nodes": "1", **known},
        round_name="v6.1",
        org="ACME",
        division="closed",
        category="edge",
    )


def test_a_machine_without_accelerator_leaves_no_field_of_one_empty() -> None:
    """The text 0 and N/A: the checker takes the number 0 for an empty field."""
    found = described()

    assert found["accelerators_per_node"] == "0"
    assert found["accelerator_interconnect"] == "N/A"
    assert not [name for name in description.find_empty(found) if "accelerator" in name]


def test_the_session_says_who_submits_what() -> None:
    """Organisation, division and category are not the system file's to decide."""
    found = described(submitter="Other", division="open", system_type="datacenter")

    assert (
        found["submitter"],
        found["division"],
        found["system_type"],
    ) == ("ACME", "closed", "edge")


def test_a_form_that_is_filled_in_leaves_nothing_to_ask(tmp_path: Path) -> None:
    """The form is a system file: read back with values, no field is empty."""
    before = described(host_processor_model_name="CPU")
    asked = description.find_empty(before)
    text = description.format_form(before)
    counts = dict.fromkeys(description.COUNTS, "2")
    values = dict.fromkeys(asked, "given") | counts | {"status": "rdi"}
    lines = [
        f"{name} = {values[name]!r}" if (name := line.partition(" = ")[0]) in asked
        else line
        for line in text.splitlines()
    ]  # fmt: skip
    path = tmp_path / "box.toml"
    path.write_text("\n".join(lines))

    found = described(
        host_processor_model_name="CPU", **load_system_file(path).description
    )

    assert {"status", "cooling", "host_storage_type"} <= set(asked)
    assert set(asked) == set(tomllib.loads(text)["description"])
    assert description.find_empty(found) == []
    assert description.find_unreadable(found) == []


def test_disks_and_cards_are_proposed_and_virtual_ones_are_not(tmp_path: Path) -> None:
    """A person confirms what Linux shows of the hardware; a loop device is none."""
    for name, size in (("nvme0n1", 1_875_385_008), ("loop0", 1000)):
        (tmp_path / "sys/block" / name).mkdir(parents=True)
        (tmp_path / "sys/block" / name / "size").write_text(f"{size}\n")
    (tmp_path / "sys/block/nvme0n1/device").mkdir()
    for name in ("eth0", "eth1", "lo"):
        (tmp_path / "sys/class/net" / name).mkdir(parents=True)
        (tmp_path / "sys/class/net" / name / "speed").write_text("10000\n")
    for name in ("eth0", "eth1"):
        (tmp_path / "sys/class/net" / name / "device").mkdir()

    found = description_hints.propose_values(tmp_path)
    form = description.format_form(described(), found)

    assert found == {
        "host_storage_capacity": "960 GB",
        "host_storage_type": "NVMe SSD",
        "host_network_card_count": "2 x 10 GbE",
    }
    assert 'host_storage_capacity = "960 GB"  # proposed' in form
    assert description_hints.propose_values(tmp_path / "nowhere") == {}


def test_rehearsed_fields_all_say_so() -> None:
    """No field is empty, and those that allow a word say REHEARSAL."""
    found = description.fill_for_rehearsal(described(system_name="box"))

    assert description.find_empty(found) == []
    assert description.find_unreadable(found) == []
    for name in ("system_name", "hw_notes", "sw_notes", "cooling"):
        assert "REHEARSAL" in found[name]


def test_every_field_can_stand_in_a_system_file() -> None:
    """Nothing is asked for that a system file may not have."""
    asked = {*description.FIELDS, *description.NETWORK}

    assert asked - DESCRIPTION_FIELDS == set()


def test_only_the_network_division_has_its_fields() -> None:
    """The checker takes any is_network for a network entry."""
    known = {"is_network": "false", "network_type": "x"}
    network = description.describe(
        known, round_name="v6.1", org="A", division="network", category="edge"
    )

    assert not set(described(**known)) & set(description.NETWORK)
    assert set(description.NETWORK) <= set(network)
    assert network["is_network"] == "true"


@pytest.mark.parametrize("name", ["v1.0", "v2.0", "v3.0"])
def test_rounds_before_v3_1_have_fewer_fields(name: str) -> None:
    """What their checkers do not know is not written."""
    fields = description.list_fields(name, "closed")

    assert {*description.list_fields("v5.1", "closed")} - {*fields} == {
        "host_network_card_count",
        "system_type_detail",
    }
