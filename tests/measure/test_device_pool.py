"""Who holds which devices when: real processes, kernel locks, no runner that works."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from pytest_mlperf.machine.lease import DeviceHeld
from pytest_mlperf.measure import device_pool as module
from pytest_mlperf.measure.device_pool import DevicePool
from pytest_mlperf.measure.exclusive import ExclusiveLock
from pytest_mlperf.measure.placement import VISIBLE
from pytest_mlperf.measure.placement import Placement
from pytest_mlperf.runner.runner import Runner

ONE = Placement((0,), "one", {VISIBLE: "GPU-a"})
OTHER = Placement((0,), "other", {VISIBLE: "GPU-b"})
BOTH = Placement((0,), "both", {VISIBLE: "GPU-a,GPU-b"}, alone=True)
WORKER = """
import json, sys, time
from pathlib import Path
from pytest_mlperf.measure.exclusive import ExclusiveLock
from pytest_mlperf.measure.placement import VISIBLE, Placement
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.measure.device_pool import DevicePool

folder, own, script = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
one = Placement((0,), own, {VISIBLE: f"GPU-{own}"})
both = Placement((0,), "both", {VISIBLE: "GPU-a,GPU-b"}, alone=True)
items = [one if letter == "1" else both for letter in script]
pool = DevicePool(lambda _: Runner(), "reports/x", lock=ExclusiveLock(folder / "locks"),
                  folder=folder / "leases")
seen = []
for item, following in zip(items, [*items[1:], None]):
    with pool.on(item, following=following) as runner:
        began = time.monotonic()
        time.sleep(0.03)
        seen.append((item.alone, began, time.monotonic(), id(runner)))
pool.close()
print(json.dumps(seen))
"""


@pytest.mark.parametrize(
    "scripts", [("1B1B1", "1B1"), ("BB", "BB"), ("111B", "1111111"), ("B1BB1", "1BB1B")]
)
def test_who_takes_all_devices_measures_alone_and_nobody_waits_for_ever(
    tmp_path: Path, scripts: tuple[str, str]
) -> None:
    """Two workers, items of one device and of both, in any order: all of them run, and
    none beside one that takes both.
    """
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), own, script],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for own, script in zip("ab", scripts, strict=True)
    ]
    told = [json.loads(worker.communicate(timeout=300)[0]) for worker in workers]
    overlaps = [
        (first[0], second[0])
        for first, second in product(*told)
        if first[1] < second[2] and second[1] < first[2]
    ]

    assert [len(script) for script in scripts] == [len(items) for items in told]
    assert not any(True in pair for pair in overlaps)


def place(tmp_path: Path, *, gate: bool = True, wait_s: float = 0) -> DevicePool:
    return DevicePool(
        lambda _: Runner(),
        "reports/x",
        lock=ExclusiveLock(tmp_path / "gate") if gate else None,
        wait_s=wait_s,
        folder=tmp_path / "leases",
    )


@pytest.mark.parametrize("gate", [True, False])
def test_a_runner_is_kept_for_the_next_item_of_the_same_devices(
    tmp_path: Path, gate: bool
) -> None:
    """One device or all of them: builds are not made twice for no reason."""
    mine = place(tmp_path, gate=gate)
    with mine.on(ONE, following=ONE) as first:
        pass
    with mine.on(ONE, following=BOTH) as second:
        pass
    with mine.on(BOTH, following=BOTH) as third:
        pass
    with mine.on(BOTH, following=ONE) as fourth:
        pass
    with mine.on(ONE) as fifth:
        pass
    mine.close()

    assert first is second
    assert third is fourth
    assert len({id(one) for one in (first, third, fifth)}) == 3


def test_an_item_that_did_not_come_leaves_nothing_held(tmp_path: Path) -> None:
    """All devices were kept for the next item, which was skipped: another one's turn
    gives them back before anybody else may want them.
    """
    mine, theirs = place(tmp_path), place(tmp_path)
    with mine.on(BOTH, following=BOTH):
        pass
    with mine.on(OTHER), theirs.on(ONE) as runner:
        assert runner.pid is None
    mine.close()
    theirs.close()


def test_devices_of_another_session_are_waited_for_and_then_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that never gives them up is named, after the time a session may take."""
    monkeypatch.setattr(module, "TURNOVER_S", 0.5)
    theirs, mine = place(tmp_path, gate=False), place(tmp_path)
    with (
        theirs.on(ONE),
        pytest.raises(DeviceHeld, match="GPU-a is in use"),
        mine.on(BOTH),
    ):
        pass
    theirs.close()
    with mine.on(BOTH) as runner:
        assert runner.pid is None
    mine.close()


def test_an_item_that_fails_alone_lets_the_others_in(tmp_path: Path) -> None:
    """What is raised in the block opens the gate as its end does."""
    first, second = place(tmp_path), place(tmp_path)
    with pytest.raises(KeyError), first.on(BOTH):
        raise KeyError
    with second.on(ONE):
        pass
    first.close()
    second.close()
