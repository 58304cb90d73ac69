"""System files: what they say is used, and what they say wrongly is refused."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.devices import find_devices
from pytest_mlperf.machine.gpus import Gpu
from pytest_mlperf.machine.host import read_host
from pytest_mlperf.machine.system import detect_system
from pytest_mlperf.machine.system_file import Match
from pytest_mlperf.machine.system_file import SystemFileError
from pytest_mlperf.machine.system_file import load_folders
from pytest_mlperf.machine.system_file import load_system_file
from pytest_mlperf.machine.system_schema import MATCH
from pytest_mlperf.machine.system_schema import NUMA
from pytest_mlperf.machine.system_schema import ON_DEVICE
from pytest_mlperf.machine.system_schema import TUNING

EXAMPLE = Path(__file__).parents[2] / "systems" / "example.toml"

LAYERS = """
[tuning]
batch = 1
[tuning.engine.ort]
batch = 2
[tuning.bert]
batch = 3
[tuning."bert-99"]
batch = 4
[tuning."bert-99".engine.ort]
batch = 5
[tuning.bert.server]
batch = 6
[tuning."bert-99".server]
batch = 7
target_qps = 30
[tuning."bert-99".server.engine.ort]
batch = 8
"""


def write(folder: Path, text: str, name: str = "s.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("task", "target", "scenario", "engine", "batch"),
    [
        ("resnet50", "", Scenario.OFFLINE, "null", 1),
        ("resnet50", "", Scenario.SERVER, "ort", 2),
        ("bert", "99.9", Scenario.OFFLINE, "ort", 3),
        ("bert", "99", Scenario.OFFLINE, "null", 4),
        ("bert", "99", Scenario.INTERACTIVE, "ort", 5),
        ("bert", "99.9", Scenario.SERVER, "ort", 6),
        ("bert", "99", Scenario.SERVER, "null", 7),
        ("bert", "99", Scenario.SERVER, "ort", 8),
    ],
)
def test_the_more_particular_table_wins(
    tmp_path: Path,
    task: str,
    target: str,
    scenario: Scenario,
    engine: str,
    batch: int,
) -> None:
    """General, benchmark, target, scenario: each overrides what stands before it."""
    tuning = load_system_file(write(tmp_path, LAYERS)).tuning

    assert batch == tuning.lookup(task, target, scenario, engine)["batch"]


def test_settings_of_several_tables_are_joined(tmp_path: Path) -> None:
    """A stronger table overrides single keys, and leaves the others."""
    text = "[tuning]\nthreads = 2\n[tuning.bert.server]\ntarget_qps = 30\n"
    tuning = load_system_file(write(tmp_path, text)).tuning

    assert tuning.lookup("bert", "99", Scenario.SERVER, "null") == {
        "threads": 2,
        "target_qps": 30,
    }
    assert tuning.lookup("bert", "99", Scenario.OFFLINE, "null") == {"threads": 2}


def test_an_engines_own_options_are_joined_too(tmp_path: Path) -> None:
    """As a command line has them; their names the engine checks."""
    text = """\
        [tuning.engine.triton.options]
        max_batch_size = 32
        preferred_batch_size = [4, 8]
        [tuning.bert.engine.triton.options]
        format = "ts-trace"
        max_batch_size = 16
        model_warmup = true
    """
    tuning = load_system_file(write(tmp_path, text)).tuning
    found = tuning.options("bert", "99", Scenario.OFFLINE, "triton")

    assert found == {
        "max_batch_size": "16", "preferred_batch_size": "4+8", "format": "ts-trace",
        "model_warmup": "1",
    }  # fmt: skip
    assert tuning.options("bert", "99", Scenario.OFFLINE, "onnxruntime") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tunning]\nx = 1", "[tunning]: unknown table 'tunning'; did you mean 'tun"),
        ("batch = 1", "'batch' is a setting: write it under [tuning]"),
        (
            "qwerty = 1",
            "unknown table 'qwerty'; Legal: description, match, numa, on_device",
        ),
        ("match = 1", "[match]: found 1, but it should be a table"),
        ("[tuning]\nbach = 1", "[tuning]: unknown key 'bach'; did you mean 'batch'?"),
        ("[tuning]\nbatch = 0", "found batch = 0, but it should be a whole number"),
        ("[tuning]\nbatch = true", "found batch = True, but it should be a whole"),
        ("[tuning]\nbatch = 8.0", "found batch = 8.0, but it should be a whole"),
        ("[tuning]\ntarget_qps = nan", "target_qps = nan, but it should be a number"),
        ("[tuning]\ntarget_qps = '5'", "target_qps = '5', but it should be a number"),
        ("[tuning]\nmax_delay_ms = -1", "it should be a number of at least 0"),
        ("[tuning]\nprecision = 'int9'", "it should be one of 'fp32'"),
        ("[tuning]\nprecision = ['int8']", "it should be one of 'fp32'"),
        ("[tuning.server]\nbatch = 1", "a scenario belongs to a benchmark"),
        ("[tuning.bert.servr]\nbatch = 1", "did you mean 'server'?"),
        ("[tuning.bert]\nserver = 1", "[tuning.bert]: unknown key 'server'"),
        ("[tuning.bert-99.9]\nbatch = 1", 'quote a name with a dot: [tuning."bert-'),
        ('[tuning."bert-99.9".server]\nx = 1', '[tuning."bert-99.9".server]: unknown'),
        ("[tuning.engine]\nort = 1", "[tuning.engine.ort]: found 1, but it should"),
        ("[tuning.engine.ort]\nbach = 1", "[tuning.engine.ort]: unknown key 'bach'"),
        (
            "[tuning.engine.ort]\noptions = 1",
            "[tuning.engine.ort.options]: found 1, but",
        ),
        (
            "[tuning.engine.ort.options]\na = [1.5]",
            "found a = [1.5], but it should be a",
        ),
        ("[tuning]\nengine = 'ort'", "[tuning]: unknown key 'engine'"),
        ("[match]\ncpu = '('", "it should be a regular expression"),
        ("[match]\ngpu = 3", "it should be a regular expression"),
        ("[match]\narch = ''", "it should be a string that is not empty"),
        (
            "[numa]\nconfig = '0:3-0'",
            "CPUs joined by \"&\" (NUMA configuration '0:3-0'",
        ),
        ("[numa]\nconfig = 4", 'it should be "GPUs:CPUs&GPUs:CPUs" or "off"'),
        ("[numa]\nconfg = 'off'", "unknown key 'confg'; did you mean 'config'?"),
        ("[on_device]\nstart_from_device = 1", "it should be true or false"),
        ("[on_device]\ningress_gb_s = 0", "it should be a number above 0"),
        ("[match]\ngpus = 1", "unknown key 'gpus'; did you mean 'gpu'?"),
        ("[description]\ncoolng = 'air'", "did you mean 'cooling'?"),
        ("[description]\nstatus = 'sold'", "should be one of 'available', 'preview'"),
        ("[description]\naccelerators_per_node = 'two'", "should be a whole number"),
        ("[description]\nnumber_of_nodes = 0", "a whole number of at least 1"),
        (
            "[description]\nhost_processor_core_count = '48 or 64'",
            "a whole number of at least 1",
        ),
        ("[description]\nhw_notes = {a = 1}", "a string or a whole number"),
        ("[description]\ncooling = 1.5", "should be a string or a whole number"),
        ("[server]\ncomand = 'x'", "unknown key 'comand'; did you mean 'command'?"),
        ("[server]\ncommand = ''", "a command line, or a list of its words"),
        ('[server]\ncommand = "serve \'x"', "as a shell reads it (No closing"),
        ("[server]\ncommand = ['serve', 1]", "a list of its words"),
        ("[server]\nport = 70000", "a port from 1 to 65535"),
        ("[server]\nhealth = 'health'", "a path that begins with /"),
        ("[server]\nchat = 'yes'", "true or false"),
        ("[server]\ntoken_env = 'sk-1'", "the name of an environment variable"),
        ("[server.bert]\nready_s = 0", "[server.bert]: found ready_s = 0"),
        ("[tuning\n", "not TOML"),
    ],
)
def test_a_mistake_names_file_place_and_remedy(
    tmp_path: Path, text: str, said: str
) -> None:
    """Nothing in a file is passed over: each mistake is an error that says where."""
    path = write(tmp_path, text)
    with pytest.raises(SystemFileError) as caught:
        load_system_file(path)

    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """Some editors put one in front of UTF-8."""
    path = tmp_path / "s.toml"
    path.write_bytes(b"\xef\xbb\xbf[tuning]\nbatch = 4\n")

    assert load_system_file(path).name == "s"


def test_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are named with their place."""
    path = tmp_path / "s.toml"
    path.write_bytes(b"# caf\xe9\n")
    with pytest.raises(SystemFileError, match="byte 5 is not UTF-8"):
        load_system_file(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tuning.brt.server]\nbatch = 1", "unknown benchmark 'brt'; did you mean 'be"),
        ('[tuning."bert-98"]\nbatch = 1', "unknown benchmark 'bert-98'"),
        ("[tuning.bert.engine.onx]\nbatch = 1", "unknown engine 'onx'; did you mean"),
    ],
)
def test_table_that_no_name_reads_is_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    """With the registered names known, a misspelt benchmark or engine is an error."""
    tuning = load_system_file(write(tmp_path, text)).tuning
    with pytest.raises(SystemFileError) as caught:
        tuning.check(["bert"], ["onnx"])

    assert said in str(caught.value)


def test_all_conditions_must_hold() -> None:
    """One condition that fails, or none at all, and the machine is another one."""
    host = read_host(Path("/nowhere"))
    gpus = (Gpu("Made-up G", 1, "", "GPU-1"), Gpu("Made-up G", 1, "", "GPU-2"))

    assert not Match().fits(host, gpus)
    assert Match(arch=host.arch, gpu="^Made", gpu_count=2).fits(host, gpus)
    assert not Match(arch="none", gpu="^Made").fits(host, gpus)
    assert not Match(gpu="^Made", gpu_count=1).fits(host, gpus)
    assert not Match(gpu="Other").fits(host, gpus)
    assert not Match(gpu="Made").fits(host, ())
    assert Match(gpu_count=0).fits(host, ())
    assert Match(cpu="processor$").fits(host, ())
    assert not Match(min_memory_gib=1).fits(host, ())


def test_earlier_folder_hides_a_file_of_the_same_name(tmp_path: Path) -> None:
    """A user's file replaces the shipped one of its name; the others stay."""
    mine, shipped = tmp_path / "mine", tmp_path / "shipped"
    mine.mkdir()
    shipped.mkdir()
    write(mine, "[tuning]\nbatch = 1\n", "x.toml")
    write(shipped, "[tuning]\nbatch = 2\n", "x.toml")
    write(shipped, "", "a.toml")

    assert [file.path for file in load_folders([mine, shipped])] == [
        mine / "x.toml",
        shipped / "a.toml",
    ]


def test_example_shows_every_key_and_fits_no_machine(tmp_path: Path) -> None:
    """The template is valid, has each key of match and tuning, and matches nothing."""
    switched_on = re.sub(r"(?m)^#(?=\S)", "", EXAMPLE.read_text())
    tables = tomllib.loads(switched_on)
    file = load_system_file(write(tmp_path, switched_on, "all.toml"))
    used = {key for table in file.tuning.tables.values() for key in table}

    assert set(MATCH) == set(tables["match"])
    assert set(TUNING) == used
    assert set(NUMA) == set(tables["numa"])
    assert set(ON_DEVICE) == set(tables["on_device"])
    assert file.settings == {"lock_clocks": 1590}
    assert not file.match.fits(read_host(Path("/")), ())
    file.tuning.check(["bert"], ["onnxruntime", "tensorrt"])


def test_a_copy_of_the_example_changes_nothing(tmp_path: Path) -> None:
    """Whoever copies it as told, and edits it later, can run at once."""
    copy = tmp_path / "mine.toml"
    copy.write_text(EXAMPLE.read_text())
    system = detect_system(str(copy), rootdir=tmp_path)
    file = load_system_file(copy)

    assert system.name == "mine"
    assert not file.settings
    assert not any(file.tuning.tables.values())
    assert file.server.lookup("bert", "99") == {}
    assert find_devices(system)


def test_the_more_particular_servers_table_wins(tmp_path: Path) -> None:
    """Benchmark over general, target over both, key by key."""
    text = """
        [server]
        command = "serve {model}"
        ready_s = 10
        [server.bert]
        model = "b"
        [server."bert-99.9"]
        ready_s = 20
        """
    servers = load_system_file(write(tmp_path, text)).server

    general = {"command": "serve {model}", "ready_s": 10}
    assert general == servers.lookup("resnet50", "")
    assert servers.lookup("bert", "99") == {**general, "model": "b"}
    assert servers.lookup("bert", "99.9") == {**general, "model": "b", "ready_s": 20}
    with pytest.raises(SystemFileError, match="unknown benchmark"):
        servers.check(["resnet50"])
