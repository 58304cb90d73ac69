"""Single damages to a submission with power: each one is refused, by its own rule.

The names of the tests are the list of the damages.
"""

from __future__ import annotations

import json
import operator
import shutil
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.submission.check import check_tree
from pytest_mlperf.core.submission.check import read_tree
from pytest_mlperf.core.submission.check import result_problems
from pytest_mlperf.core.submission.check.power import FIELDS
from pytest_mlperf.core.submission.check.power import HASHED
from pytest_mlperf.core.submission.check.power import SERVER_FIELDS
from tests.support.power_sessions import BASE
from tests.support.power_sessions import SESSION
from tests.support.power_sessions import sign

Damage = Callable[[Path], object]
Change = Callable[[dict[str, Any]], object]
NOTES = "closed/ACME/results/box"


@pytest.fixture(scope="module")
def original(powered: Path) -> Path:
    """bert-99, edge, v6.1, with power measured in Offline: nothing is wrong with it."""
    assert list(check_tree(powered)) == []
    return powered


def edit_record(end: str, change: Change) -> Damage:
    """Return a change of client.json or server.json."""

    def damage(base: Path) -> None:
        file = base / "power" / f"{end}.json"
        record = json.loads(file.read_text("utf-8"))
        change(record)
        file.write_text(json.dumps(record), "utf-8")

    return damage


def edit_signed(name: str, old: str, new: str) -> Damage:
    """Return a change of a file's text that the session then signs."""

    def damage(base: Path) -> None:
        file = base / name
        text = file.read_text("utf-8")
        assert old in text
        file.write_text(text.replace(old, new), "utf-8")
        ends = [
            json.loads((base / f"power/{end}.json").read_text("utf-8"))
            for end in ("client", "server")
        ]
        sign(base, ends[0], ends[1])

    return damage


def edit_file(name: str, change: Callable[[Path], object]) -> Damage:
    """Return a change of a file or folder of the session, which nobody signs."""
    return lambda base: change(base / name)


def list_file_damages() -> Iterator[tuple[str, Damage]]:
    """Every file of the session lost, emptied, replaced, or changed by a byte."""
    for name in (*HASHED, "power/client.json", "power/server.json"):
        yield f"{name}: lost", edit_file(name, Path.unlink)
        yield f"{name}: empty", edit_file(name, empty)
        yield f"{name}: garbage", edit_file(name, fill_with_garbage)
    for name in HASHED:
        yield f"{name}: a blank more", edit_file(name, add_blank)
    for folder in ("power", "ranging", "run_1"):
        yield f"{folder}: a file more", edit_file(f"{folder}/more.txt", add_blank)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill_with_garbage(path: Path) -> None:
    path.write_bytes(b"x\n")


def add_blank(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" ")


def list_record_damages() -> Iterator[tuple[str, Damage]]:
    """Every field of both records lost, and every checkpoint late; what the two say of
    each other, changed.
    """
    for end, fields in (("client", FIELDS), ("server", (*FIELDS, *SERVER_FIELDS))):
        changes: dict[str, Change] = {f"no {key}": drop(key) for key in fields}
        changes["other sources"] = put("0" * 40, "sources", "lib/client.py")
        for which in ("client", "server"):
            changes[f"other uuid of the {which}"] = put("0" * 32, "uuid", which)
        for phase in ("ranging", "testing"):
            changes[f"{phase} without its end"] = drop(-1, "phases", phase)
            for point in range(4):
                name = f"checkpoint {point} of {phase} 0.9 s late"
                changes[name] = delay(phase, point)
        for name, change in changes.items():
            yield f"{end}.json: {name}", edit_record(end, change)


def list_meter_damages() -> Iterator[tuple[str, Damage]]:
    """What the director says of session and meter, changed."""
    hello = "mlcommons/power server v4"
    changes: dict[str, Change] = {
        "another session": put("other", "session_name"),
        "debug mode": put(True, "debug"),
        "a message less": drop(-1, "messages"),
        "another version": put(hello, "messages", 0, "reply"),
        "one channel of two": put(77, "ptd_config", 0, "device_type"),
        "version 1.10.0": replace_reply("1.11.1", "1.10.0"),
        "a WT1800": replace_reply("WT310", "WT1800"),
        "another range before": replace_reply("20.0", "10.0"),
    }
    for device in (0, 1, 59, None):
        changes[f"device type {device}"] = put(device, "ptd_config", 0, "device_type")
    for command in ("Identify", "SR,V", "SR,A", "Go", "Stop"):
        changes[f"{command} answered with an error"] = answer_error(command)
    for name, change in changes.items():
        yield f"server.json: {name}", edit_record("server", change)


def find_inside(record: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        record = record[key]
    return record


def drop(key: str | int, *path: str | int) -> Change:
    return lambda record: find_inside(record, path).pop(key)


def put(value: object, *path: str | int) -> Change:
    *above, last = path
    return lambda record: operator.setitem(
        find_inside(record, tuple(above)), last, value
    )


def delay(phase: str, point: int) -> Change:
    def change(record: dict[str, Any]) -> None:
        record["phases"][phase][point][0] += 0.9

    return change


def answer_error(command: str) -> Change:
    def change(record: dict[str, Any]) -> None:
        asked = (m for m in record["ptd_messages"] if m["cmd"].startswith(command))
        next(asked)["reply"] = "Error: not possible"

    return change


def replace_reply(old: str, new: str) -> Change:
    """Return a change of the first reply that has a text: later ones answer to it."""

    def change(record: dict[str, Any]) -> None:
        message = next(m for m in record["ptd_messages"] if old in m["reply"])
        message["reply"] = message["reply"].replace(old, new)

    return change


def list_content_damages() -> Iterator[tuple[str, Damage]]:
    """What was measured contradicts what it should show, and the session signed it."""
    spl, log = "run_1/spl.txt", "power/ptd_logs.txt"
    for name, old, new in (
        (spl, "06:00", "09:00"), (spl, "100.0", "94.9"), (spl, "Watts,1", "Watts,x"),
        (spl, "Watts,100", "Watts,0"), (spl, "11-22-2026", "2026-11-22"),
        ("ranging/spl.txt", "100.0", "106.0"), ("ranging/spl.txt", "05:00", "04:00"),
        (log, "Go with", "No with"), (log, f"{SESSION}_ranging", "other_ranging"),
        (log, "is activated", "is off"), (log, "Completed test", "Broken off"),
        (log, "11-22-2026 ", "11-22-2026 0"),
    ):  # fmt: skip
        yield f"{name}: {old!r} became {new!r}", edit_signed(name, old, new)


LISTS = (
    list_file_damages,
    list_record_damages,
    list_meter_damages,
    list_content_damages,
)
DAMAGES = {name: damage for make in LISTS for name, damage in make()}


def test_there_are_sixty_damages_and_more() -> None:
    """No two of them have one name."""
    assert len(DAMAGES) == sum(len(list(make())) for make in LISTS) >= 60


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_refused(original: Path, tmp_path: Path, name: str) -> None:
    """Whoever checks the tree is told of a file of this result's power session."""
    root = Path(shutil.copytree(original, tmp_path / "tree"))
    DAMAGES[name](root / BASE)

    tree, _ = read_tree(root, "v6.1")
    (result,) = (one for one in tree.results if BASE.startswith(f"{one.path}/"))

    assert any(BASE in problem.path for problem in result_problems(tree, result))
