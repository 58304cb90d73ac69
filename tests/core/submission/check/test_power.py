"""Power logs beside a result: placed, signed, and measured while LoadGen ran."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlperf.core.submission.check import Problem
from pytest_mlperf.core.submission.check import check_tree
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.core.submission.check.power import HASHED
from pytest_mlperf.core.submission.check.power_time import session_problems
from tests.support import logs
from tests.support import trees
from tests.support.power_sessions import BASE
from tests.support.power_sessions import LOGS
from tests.support.power_sessions import list_ptd_messages
from tests.support.power_sessions import measure
from tests.support.power_sessions import sign


@pytest.fixture(scope="module")
def original(powered: Path) -> Path:
    """bert-99, edge, v6.1, with power measured in Offline."""
    return powered


def problems(root: Path) -> list[Problem]:
    return list(check_tree(root))


def test_a_whole_power_session_has_no_problem(tree: Path) -> None:
    """Error lines of the ranging run are the meter finding its range."""
    assert problems(tree) == []


def changed(end: str, **fields: object) -> Callable[[Path], None]:
    """Return a change of fields of client.json or server.json."""

    def change(root: Path) -> None:
        file = root / BASE / "power" / f"{end}.json"
        trees.write(file, json.dumps(json.loads(file.read_text("utf-8")) | fields))

    return change


def signed(name: str, edit: Callable[[str], str]) -> Callable[[Path], None]:
    """Return a change of a file that the session then signs."""

    def change(root: Path) -> None:
        base = root / BASE
        (base / name).write_text(edit((base / name).read_text("utf-8")), "utf-8")
        ends = [
            json.loads((base / f"power/{end}.json").read_text("utf-8"))
            for end in ("client", "server")
        ]
        sign(base, ends[0], ends[1])

    return change


def without_uuid(root: Path) -> None:
    file = root / BASE / "power/client.json"
    found = json.loads(file.read_text("utf-8"))
    trees.write(file, json.dumps({k: v for k, v in found.items() if k != "uuid"}))


LATE = "11-22-2026 06:05:00.000: ERROR: Current exceeds peak value\n"
WIDE = (
    "11-22-2026 06:16:40.000: WARNING: Uncertainty 1.37%, which is above 1.00% limit "
    "for the last sample!\n"
)
NO_PHASES = {"ranging": [[1.0, 1.0]], "testing": []}
CASES: list[tuple[str, Callable[[Path], None], str]] = [
    ("power_fields", without_uuid, "client.json"),
    ("power_agreement", changed("server", uuid={"client": "x"}), "server.json"),
    ("power_agreement", changed("server", session_name="other"), "server.json"),
    ("power_agreement", changed("server", debug=True), "server.json"),
    ("power_agreement", changed("server", messages=[]), "server.json"),
    ("power_digests", changed("server", results={}), "spl.txt"),
    ("power_meter", changed("server", ptd_messages=[]), "server.json"),
    ("power_meter", changed("server", ptd_config=[{"device_type": 1}]), "server.json"),
    ("power_meter", changed("server", ptd_config=[{"device_type": 77}]), "server.json"),
    ("power_phases", changed("client", phases=NO_PHASES), "client.json"),
    ("power_watts", signed("run_1/spl.txt", lambda t: t.replace("06:00", "09:00")),
     "run_1/spl.txt"),
    ("power_watts", signed("run_1/spl.txt", lambda t: t.replace("100.0", "90.0")),
     "run_1/spl.txt"),
    ("power_watts", signed("run_1/spl.txt", lambda t: t.replace("Watts,1", "Watts,x")),
     "run_1/spl.txt"),
    ("power_meter_log", signed("power/ptd_logs.txt", lambda t: t + LATE), "ptd_logs"),
    ("power_meter_log", signed("power/ptd_logs.txt", lambda t: t.replace("Go", "No")),
     "ptd_logs"),
    ("power_meter_log", signed("power/ptd_logs.txt",
                               lambda t: t.replace("is activated", "is off")),
     "ptd_logs"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "change", "path"),
    CASES,
    ids=[f"{c[0]}-{n}" for n, c in enumerate(CASES)],
)
def test_a_change_breaks_its_rule(
    tree: Path, rule: str, change: Callable[[Path], None], path: str
) -> None:
    """The problem names the file."""
    change(tree)
    found = [problem for problem in problems(tree) if problem.rule == rule]

    assert any(path in problem.path for problem in found)


def test_an_uncertain_reading_amid_a_long_run_is_found(tmp_path: Path) -> None:
    """The checker looks at what is 800 seconds away from both ends."""
    root = trees.make(tmp_path / "v6.1", "v6.1", {"bert": ("Offline",)})
    for name in LOGS:
        (root / BASE / "run_1" / name).unlink()
    long = logs.rising(66_000, 1_000_000, 2_000_000_000_000)
    logs.performance(root / BASE / "run_1", "Offline", latencies=long)
    measure(root / BASE)
    before = [p for p in problems(root) if p.rule == "power_meter_log"]
    signed("power/ptd_logs.txt", lambda text: text + WIDE)(root)
    after = [p for p in problems(root) if p.rule == "power_meter_log"]

    assert before == []
    assert [problem.path for problem in after] == [f"{BASE}/power/ptd_logs.txt"]


@pytest.mark.parametrize("name", [*HASHED, "power/client.json", "power/server.json"])
@pytest.mark.parametrize("content", [None, b"", b"garbage\n"])
def test_every_damaged_power_file_is_found(
    tree: Path, name: str, content: bytes | None
) -> None:
    """Removed, emptied or replaced."""
    file = tree / BASE / name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)

    assert any(name in str(problem) for problem in problems(tree))


@pytest.mark.parametrize("name", ["analyzer_table.md", "power_settings.txt"])
def test_the_meters_notes_are_asked_for(tree: Path, name: str) -> None:
    """In the result's folder or up to three above it, and not empty."""
    file = tree / "closed/ACME/results/box" / name
    file.write_bytes(b"")
    empty = problems(tree)
    file.unlink()
    missing = problems(tree)

    assert [p.path for p in empty] == [f"closed/ACME/results/box/{name}"]
    assert [name.partition(".")[0] in p.path for p in missing] == [True]


def test_a_meters_log_may_have_lost_its_windows_line_ends(tree: Path) -> None:
    """The session signed CR LF, and the repository has LF; other bytes are found."""
    file = tree / BASE / "run_1/spl.txt"
    text = file.read_bytes()
    signed("run_1/spl.txt", lambda t: t.replace("\n", "\r\n"))(tree)
    file.write_bytes(text)
    stored_as_text = problems(tree)
    file.write_bytes(text.replace(b"100.0", b"100.1"))
    changed_too = [problem.rule for problem in problems(tree)]

    assert stored_as_text == []
    assert changed_too == ["power_digests"]


@pytest.mark.parametrize(
    ("round_name", "legal", "other"),
    [("v2.0", "1.9.2", "1.10.0"), ("v4.1", "1.10.0", "1.11.1"),
     ("v5.1", "1.11.1", "1.10.0")],
)  # fmt: skip
def test_the_meters_program_is_the_rounds(
    tmp_path: Path, round_name: str, legal: str, other: str
) -> None:
    """v2.0 asks for no notes of the meter, and lets the tested run use less."""
    root = trees.make(tmp_path / "t", round_name, {"resnet50": ("Offline",)})
    base = root / "closed/ACME/results/box/resnet50/Offline/performance"
    measure(base)
    found = {}
    for version in (legal, other):
        file = base / "power/server.json"
        server = json.loads(file.read_text("utf-8"))
        reply = f"YokogawaWT310,1,version={version}-abc,OS=Linux"
        server["ptd_messages"] = list_ptd_messages(reply)
        trees.write(file, json.dumps(server))
        known = [p.rule for p in problems(root) if p.rule != "power_sources"]
        power = [rule for rule in known if rule.startswith("power_")]
        found[version] = sorted(power)
    notes = [] if round_name == "v2.0" else ["power_files", "power_files"]

    assert found == {legal: notes, other: [*notes, "power_meter"]}


@pytest.mark.parametrize(
    ("apart_s", "rounds_that_take_it"),
    [(0.19, ["v1.0", "v2.0", "v2.1", "v3.0", "v3.1", "v4.0", "v6.1"]),
     (0.4, ["v2.1", "v3.0", "v3.1", "v4.0", "v6.1"]),
     (0.7, ["v3.0", "v4.0", "v6.1"]),
     (0.9, ["v3.0"]),
     (1.1, [])],
)  # fmt: skip
def test_clocks_may_differ_as_the_round_says(
    tree: Path, apart_s: float, rounds_that_take_it: list[str]
) -> None:
    """The tolerance went up and down; published sessions of v3.0 are 0.86 s apart."""
    file = tree / BASE / "power/client.json"
    phases = json.loads(file.read_text("utf-8"))["phases"]
    later = {key: [[at + apart_s for at in p] for p in phases[key]] for key in phases}
    changed("client", phases=later)(tree)
    listing = Listing.of(tree)
    rules = {
        name: {problem.rule for problem in session_problems(listing, BASE, name)}
        for name in ("v1.0", "v2.0", "v2.1", "v3.0", "v3.1", "v4.0", "v6.1")
    }

    assert [n for n in rules if "power_phases" not in rules[n]] == rounds_that_take_it


@pytest.mark.parametrize(
    ("later_s", "found"),
    [(0, []), (-3600, []), (3600, ["a run -3595 s after testing began"])],
)
def test_the_run_lies_between_its_checkpoints(
    tree: Path, later_s: int, found: list[str]
) -> None:
    """The meter's computer may keep summer time."""
    file = tree / BASE / "power/client.json"
    phases = json.loads(file.read_text("utf-8"))["phases"]
    phases["testing"] = [[at + later_s for at in p] for p in phases["testing"]]
    for end in ("client", "server"):
        changed(end, phases=phases)(tree)
    outside = [p.found for p in problems(tree) if p.rule == "power_phases"]

    assert outside == found


@pytest.mark.parametrize(
    ("message", "is_fault"), [("USB.", False), ("USB. Not found", True)]
)
def test_a_lost_usb_line_is_no_error_of_the_meter(
    tree: Path, message: str, is_fault: bool
) -> None:
    """PTDaemon writes it between runs, and the checker passes it over."""
    line = f"11-22-2026 06:05:00.000: ERROR: {message}\n"
    signed("power/ptd_logs.txt", lambda text: text + line)(tree)

    assert ("power_meter_log" in {p.rule for p in problems(tree)}) is is_fault


def test_client_and_server_are_of_one_version(tree: Path) -> None:
    """Both say what they are in the session's first message."""
    first = {"cmd": "mlcommons/power client v3", "reply": "mlcommons/power server v2"}
    for end in ("client", "server"):
        changed(end, messages=[first])(tree)
    found = [p.found for p in problems(tree) if p.rule == "power_agreement"]

    assert found == ["'mlcommons/power client v3' and 'mlcommons/power server v2'"]


def test_a_meter_may_be_configured_without_a_list(tree: Path) -> None:
    """PTDaemon's client wrote one device as an object of its own."""
    changed("server", ptd_config={"device_type": 49, "channel": None})(tree)

    assert "power_meter" not in {problem.rule for problem in problems(tree)}


@pytest.mark.parametrize(("round_name", "count"), [("v5.0", 0), ("v5.1", 1)])
def test_the_range_is_set_before_testing_since_v5_1(
    tree: Path, round_name: str, count: int
) -> None:
    """Three settings of amperes were enough: twice before ranging, and at the end."""
    sent = list_ptd_messages("YokogawaWT310,1,version=1.11.1-abc,OS=Linux")
    changed("server", ptd_messages=[m for m in sent if m["cmd"] != "SR,A,1.1"])(tree)
    found = session_problems(Listing.of(tree), BASE, round_name)
    few = [problem for problem in found if "range A" in problem.found]

    assert [problem.found for problem in few] == ["range A set 3 times"] * count


def test_power_readings_without_power_logs_are_a_stray_file(tree: Path) -> None:
    """spl.txt belongs to a session."""
    shutil.rmtree(tree / BASE / "power")
    shutil.rmtree(tree / BASE / "ranging")

    assert [p.path for p in problems(tree)] == [f"{BASE}/run_1/spl.txt"]


@pytest.mark.parametrize("key", ["phases", "messages", "uuid", "results", "version"])
@pytest.mark.parametrize("value", [None, 1, [], [1], {"ranging": 1}, "text"])
def test_no_value_of_a_description_crashes_the_check(
    tree: Path, key: str, value: object
) -> None:
    """Whatever stands there, the check ends."""
    for end in ("client", "server"):
        changed(end, **{key: value})(tree)

    assert isinstance(problems(tree), list)
