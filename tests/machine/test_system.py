"""How the machine is named and registered, and what detection finds on this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_mlperf.machine.system import detect_system
from pytest_mlperf.machine.system_file import SystemFileError

MATCHING = '[match]\ncpu = "X 9000"\n[tuning]\nbatch = 3\n'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a made-up machine that MATCHING fits; no tool and no name is around."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("SYSTEM_NAME", raising=False)
    (tmp_path / "root/proc").mkdir(parents=True)
    (tmp_path / "root/proc/cpuinfo").write_text("model name : Made-up X 9000\n")
    return tmp_path / "root"


def test_matching_file_registers_and_tunes(root: Path, tmp_path: Path) -> None:
    """The first file in the root folder that fits gives name, fields and tuning."""
    folder = tmp_path / "systems"
    folder.mkdir()
    (folder / "b.toml").write_text(MATCHING + '[description]\ncooling = "air"\n')
    (folder / "a.toml").write_text('[match]\ncpu = "other"\n')
    system = detect_system(root=root, rootdir=tmp_path, environ={})

    assert (system.name, system.registered) == ("b", True)
    assert system.tuning.tables["", "", ""]["batch"] == 3
    assert system.description["cooling"] == "air"
    assert system.description["system_name"] == "b"


def test_given_name_wins_over_a_match(root: Path, tmp_path: Path) -> None:
    """SYSTEM_NAME beats the matcher, and an argument beats SYSTEM_NAME."""
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems/fits.toml").write_text(MATCHING)
    (tmp_path / "systems/other.toml").write_text('[match]\narch = "none"\n')
    environ = {"SYSTEM_NAME": "mine"}
    mine = detect_system(root=root, rootdir=tmp_path, environ=environ)
    other = detect_system("other", root=root, rootdir=tmp_path, environ=environ)

    assert (mine.name, mine.registered, mine.tuning.tables) == ("mine", False, {})
    assert "fits" in mine.notes[-1]
    assert (other.name, other.registered) == ("other", True)
    assert "is of another machine" in other.notes[-1]


def test_path_of_a_file_is_a_name_too(root: Path, tmp_path: Path) -> None:
    """A path that ends in .toml is used as it is, and must exist."""
    path = tmp_path / "lab.toml"
    path.write_text("[tuning]\nthreads = 2\n")

    assert detect_system(str(path), root=root).name == "lab"
    with pytest.raises(SystemFileError, match=r"gone\.toml: cannot be read"):
        detect_system(str(tmp_path / "gone.toml"), root=root)


@pytest.mark.parametrize("name", ["a b", "../up", ".hidden", "-n"])
def test_name_that_names_no_folder_is_refused(name: str, root: Path) -> None:
    """Blanks, slashes and leading dots would break the submission tree."""
    with pytest.raises(ValueError, match="change SYSTEM_NAME"):
        detect_system(name, root=root)


def test_this_machine_is_found() -> None:
    """The real machine answers, and agrees with the interpreter about its CPUs."""
    system = detect_system(rootdir=Path("/nowhere"), environ={})

    assert os.sched_getaffinity(0) == set(system.cpus)
    pages = os.sysconf("SC_PHYS_PAGES")
    assert 0 < system.memory_bytes <= pages * os.sysconf("SC_PAGE_SIZE")
    assert system.name.startswith(f"UNREGISTERED_{os.uname().machine}")
    assert "\n" not in system.summary


def test_real_affinity_is_respected() -> None:
    """A process that is bound to one CPU finds one core."""
    code = (
        "import os\n"
        "cpu = max(os.sched_getaffinity(0))\n"
        "os.sched_setaffinity(0, {cpu})\n"
        "from pytest_mlperf.machine.system import detect_system\n"
        "system = detect_system()\n"
        "assert ((cpu,), 1, 1) == (system.cpus, system.cores, system.threads)\n"
    )
    clone = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=clone)


def test_detection_imports_the_standard_library_alone() -> None:
    """Nothing heavy comes in with detection: no numpy, no pytest, no LoadGen."""
    code = (
        "import sys\n"
        "from pytest_mlperf.machine.system import detect_system\n"
        "detect_system()\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(names & {'numpy', 'pytest', 'onnxruntime', 'mlperf_loadgen'}))\n"
    )
    clone = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=clone, stdout=subprocess.PIPE
    )

    assert run.stdout == b"[]\n"
