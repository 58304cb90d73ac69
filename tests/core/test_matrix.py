"""Which cells there are, by which round, in which order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.matrix import build_order
from pytest_mlperf.core.matrix import newest_rules

BOTH = [("resnet50", ("",)), ("bert", ("99", "99.9"))]


def make_cells(
    benchmarks: Sequence[tuple[str, Sequence[str]]],
    engines: Sequence[str],
    rounds: Sequence[str] | None = None,
) -> list[Cell]:
    rules = newest_rules(benchmarks, rounds)
    made = [Cell(rule, engine) for engine in engines for rule in rules]
    return sorted(made, key=build_order)


def test_every_combination_that_a_round_has_is_a_cell() -> None:
    """MultiStream is not of bert; all else is there, grouped by what is built once."""
    ids = [cell.id for cell in make_cells(BOTH, ["onnxruntime"])]

    assert ids == [
        "bert-99-singlestream-onnxruntime",
        "bert-99-offline-onnxruntime",
        "bert-99-server-onnxruntime",
        "bert-99.9-singlestream-onnxruntime",
        "bert-99.9-offline-onnxruntime",
        "bert-99.9-server-onnxruntime",
        "resnet50-singlestream-onnxruntime",
        "resnet50-multistream-onnxruntime",
        "resnet50-offline-onnxruntime",
        "resnet50-server-onnxruntime",
    ]


def test_each_cell_names_the_newest_round_that_has_it() -> None:
    """The Server cells of bert are judged by v4.1, all else by v6.1."""
    rounds = {cell.id: cell.round for cell in make_cells(BOTH, ["null"])}

    assert {k for k, v in rounds.items() if v == "v4.1"} == {
        "bert-99-server-null",
        "bert-99.9-server-null",
    }
    assert set(rounds.values()) == {"v4.1", "v6.1"}


def test_one_round_asked_for_judges_all_or_has_no_cell() -> None:
    """v2.0 asks bert-99.9 of datacenter systems alone: no SingleStream."""
    found = make_cells([("bert", ("99.9",))], ["null"], rounds=["v2.0"])

    assert [(cell.scenario.slug, cell.round) for cell in found] == [
        ("offline", "v2.0"),
        ("server", "v2.0"),
    ]


def test_engines_stand_together_whatever_order_they_come_in() -> None:
    """Two engines double the cells, and no engine is returned to."""
    found = [cell.engine for cell in make_cells(BOTH, ["onnxruntime", "null"])]

    assert found == sorted(found)
    assert found.count("null") == found.count("onnxruntime") == 10


def test_an_unknown_round_is_refused_with_the_legal_names() -> None:
    """The error of the rounds comes through."""
    with pytest.raises(ValueError, match="'v3' is not a round"):
        make_cells(BOTH, ["null"], rounds=["v3"])


def test_an_unknown_benchmark_has_no_cells() -> None:
    """A benchmark that no round knows is not an error of the matrix."""
    assert make_cells([("mnist", ("",))], ["null"]) == []
