"""Energy counters of CPU packages, as files in powercap's place."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from typing import cast

from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.machine.rapl import find_domains
from pytest_mlperf.measure.observers.chip_power import ChipPower

WRAP = 1_000_000_000


def make_domain(root: Path, folder: str, name: str, energy: str) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text(f"{WRAP}\n")
    (path / "energy_uj").write_text(energy)
    return path / "energy_uj"


def test_packages_alone_are_counted(tmp_path: Path) -> None:
    """Their parts are in them, and what cannot be read is left out."""
    make_domain(tmp_path, "intel-rapl:0", "package-0", "5")
    make_domain(tmp_path, "intel-rapl:0:0", "core", "3")
    make_domain(tmp_path, "intel-rapl:1", "psys", "3")
    make_domain(tmp_path, "intel-rapl:2", "package-1", "")

    assert [domain.name for domain in find_domains(tmp_path)] == ["package-0"]


def test_a_runs_average_is_of_its_measured_phase(tmp_path: Path) -> None:
    """Over a wrap of the counter, and unofficial by its field's name."""
    counter = make_domain(tmp_path, "intel-rapl:0", "package-0", f"{WRAP - 1_000_000}")
    task = cast("Any", SimpleNamespace())
    with ChipPower(tmp_path).around(task) as observed:
        for phase, energy in (
            ("probe", 0),
            ("run", WRAP - 1_000_000),
            ("run", 2_000_000),
        ):
            counter.write_text(str(energy))
            observed.see(cast("Any", SimpleNamespace(step=phase)))
        assert observed.began is not None
        observed.ended = observed.began + 2
    facts = observed.complete_facts(RunFacts())

    assert facts.chip_watts == {"CPU package-0 (RAPL)": 1.5}
    assert facts.power == {}
    words = "unofficial power of chips alone: CPU package-0 (RAPL) 1.5 W"
    assert facts.to_texts()["chips"] == words


def test_a_machine_without_counters_has_no_figure(tmp_path: Path) -> None:
    with ChipPower(tmp_path / "none").around(cast("Any", None)) as observed:
        observed.see(cast("Any", SimpleNamespace(step="run")))

    assert observed.complete_facts(RunFacts()).chip_watts == {}
