"""The tensorrt engine's decisions: cache, profiles, options, devices."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core.whole_file import note_content
from pytest_mlperf.engines.tensorrt.cache import CacheEntry
from pytest_mlperf.engines.tensorrt.cache import PlanRecord
from pytest_mlperf.engines.tensorrt.library import TensorRT
from pytest_mlperf.engines.tensorrt.provider import TENSORRT
from pytest_mlperf.engines.tensorrt.settings import BuildSettings
from pytest_mlperf.engines.tensorrt.settings import Profile
from pytest_mlperf.engines.tensorrt.settings import choose_graph_batches
from pytest_mlperf.engines.tensorrt.settings import choose_profiles
from pytest_mlperf.engines.tensorrt.settings import find_profile
from pytest_mlperf.engines.tensorrt.settings import read_settings
from pytest_mlperf.engines.tensorrt.settings import round_up
from pytest_mlperf.engines.tensorrt.settings import shape_limits

PARTS = {
    "workload": {"digest": "bert"},
    "engine": {"batch": "64", "precision": "fp16"},
    "settings": {"level": "-1"},
    "version": {"tensorrt": "tensorrt 10.9"},
    "device": {"name": "H100 9.0"},
}


def changed(group: str, name: str, value: str) -> dict[str, dict[str, str]]:
    return {**PARTS, group: {**PARTS[group], name: value}}


@pytest.mark.parametrize(
    ("old", "said"),
    [
        (changed("engine", "batch", "32"), "setting changed: batch 32 → 64"),
        (changed("settings", "level", "3"), "builder settings changed: level 3 → -1"),
        (
            changed("version", "tensorrt", "tensorrt 10.8"),
            "another TensorRT: tensorrt tensorrt 10.8 → tensorrt 10.9",
        ),
        (changed("device", "name", "A100 8.0"), "another device: name A100 8.0 → H100"),
        (
            changed("workload", "digest", "dlrm"),
            "no engine was built for this workload",
        ),
    ],
)
def test_a_plan_is_built_again_for_a_reason_that_is_named(
    tmp_path: Path, old: dict[str, dict[str, str]], said: str
) -> None:
    """The reason and the old and new value, from what lies in the cache."""
    before = CacheEntry(tmp_path, "bert-b64", old)
    before.plan.write_bytes(b"plan")
    before.write(PlanRecord({}))
    entry = CacheEntry(tmp_path, "bert-b64", PARTS)

    assert entry.read() is None
    assert said in entry.explain_miss()
    assert entry.plan != before.plan


def test_a_deleted_plan_is_said_to_be_deleted(tmp_path: Path) -> None:
    """The sidecar is left and knows; in an empty cache nothing is known."""
    entry = CacheEntry(tmp_path, "bert/b64", PARTS)
    empty = entry.explain_miss()
    entry.plan.write_bytes(b"plan")
    entry.write(PlanRecord({"a": "b"}, cuda_graphs=False))
    known = entry.read()
    entry.plan.unlink()

    assert "no engine was built for this workload yet (or the cache was" in empty
    assert known == PlanRecord({"a": "b"}, cuda_graphs=False)
    assert entry.read() is None
    assert entry.explain_miss() == f"the engine was deleted: {entry.plan.name}"


def test_a_plan_that_was_cut_is_built_again(tmp_path: Path) -> None:
    """Its size was noted when it was built."""
    entry = CacheEntry(tmp_path, "bert", PARTS)
    entry.plan.write_bytes(b"a whole plan")
    note_content(entry.plan)
    entry.write(PlanRecord({}))
    whole = entry.read()
    entry.plan.write_bytes(b"a who")

    assert whole == PlanRecord({})
    assert entry.read() is None
    assert entry.explain_miss() == f"the engine's file was cut: {entry.plan.name}"


def test_the_nearest_of_several_plans_explains(tmp_path: Path) -> None:
    """Not one that differs in more, nor one of another workload; damage is ignored."""
    near = changed("engine", "batch", "32")
    far = {**changed("version", "tensorrt", "9"), "engine": {"batch": "1"}}
    for parts in (far, near, changed("workload", "digest", "other")):
        CacheEntry(tmp_path, "x", parts).write(PlanRecord({}))
    (tmp_path / "half.json").write_text('{"parts": {')
    (tmp_path / "other.json").write_text("[1, 2]")

    assert "batch 32 → 64" in CacheEntry(tmp_path, "x", PARTS).explain_miss()
    assert "another TensorRT" not in CacheEntry(tmp_path, "x", PARTS).explain_miss()


def test_a_failure_is_kept_without_a_plan(tmp_path: Path) -> None:
    """The verdict holds until its sidecar is deleted."""
    entry = CacheEntry(tmp_path, "x", PARTS)
    entry.write(PlanRecord({}, failure="memory: none left"))
    known = entry.read()

    assert known is not None
    assert known.failure == "memory: none left"


@given(st.integers(1, 4096), st.integers(0, 4096))
def test_profiles_hold_every_batch_and_length(most: int, longest: int) -> None:
    """The last one holds everything, the first one a single short sample."""
    found = choose_profiles(most, longest)

    assert found[-1].batch == most
    assert found[-1].length == longest
    assert found[0].batch == 1
    assert len(found) == len(set(found)) <= 9
    assert all(1 <= s.batch <= most for s in found)
    assert all((s.length >= 1) == bool(longest) for s in found)


def test_a_profile_ends_at_its_span_and_begins_at_one() -> None:
    """Only what varies in the graph varies in the profile."""
    profile = Profile(8, 128)

    assert shape_limits(profile, (-1, -1), "ids") == (
        (1, 1),
        (8, 128),
        (8, 128),
    )
    assert shape_limits(profile, (-1, 3, 4), "x") == (
        (1, 3, 4),
        (8, 3, 4),
        (8, 3, 4),
    )
    assert shape_limits(profile, (16, -1), "ids") == (
        (16, 1),
        (16, 128),
        (16, 128),
    )


@pytest.mark.parametrize(
    ("profile", "shape"),
    [
        (Profile(8), (-1, -1)),
        (Profile(8, 128), (-1, 3, -1)),
    ],
)
def test_an_axis_that_nobody_knows_is_refused(
    profile: Profile, shape: tuple[int, ...]
) -> None:
    """It is named with its input; guessing it would build a wrong plan."""
    with pytest.raises(ValueError, match="of the input 'x' varies, but only the batch"):
        shape_limits(profile, shape, "x")


@given(st.integers(1, 600), st.integers(1, 600))
def test_a_batch_runs_in_the_first_profile_that_holds_it(size: int, most: int) -> None:
    """None where no profile is large enough."""
    tops = [{"x": (span.batch, 4)} for span in choose_profiles(most)]
    number = find_profile(tops, {"x": (size, 4)})

    assert (number is None) == (size > most)
    if number is not None:
        assert tops[number]["x"][0] >= size
        assert all(top["x"][0] < size for top in tops[:number])
    assert find_profile(tops, {"x": (1, 4, 4)}) is None


@given(st.integers(1, 2048))
def test_recorded_batches_reach_the_largest(most: int) -> None:
    """Ascending from 1, and rounding a batch up at most doubles it."""
    sizes = choose_graph_batches(most)

    assert sizes[0] == 1
    assert sizes[-1] == most
    assert sorted(set(sizes)) == list(sizes)
    assert all(b <= 2 * a for a, b in itertools.pairwise(sizes))
    assert all(round_up(n, sizes) < 2 * n for n in range(1, most + 1))


def test_engine_options_become_settings(tmp_path: Path) -> None:
    """Beside them may stand an option of onnxruntime: a session may have both."""
    library = tmp_path / "libplugin.so"
    library.touch()
    options = {
        "workspace-mib": "512",
        "level": "3",
        "cuda-graphs": "off",
        "plugins": str(library),
        "provider": "cpu",
    }

    assert read_settings(options) == BuildSettings(512, 3, False, (str(library),))
    assert read_settings({}) == BuildSettings()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "wokspace-mib",
            "1",
            "no option 'wokspace-mib'; .* Did you mean 'workspace-mib'",
        ),
        (
            "workspace-mib",
            "much",
            "mib=much, but should be a whole number from 0",
        ),
        ("level", "6", "level=6, but should be a whole number from 0 to 5"),
        ("cuda-graphs", "maybe", "cuda-graphs=maybe, but should be on or off"),
        ("plugins", "/nowhere/x.so", "a shared library that is there, and /nowhere/x"),
        ("max-shapes", "0x3", "max-shapes=0x3, but should be a shape with its batch"),
        (
            "opt-shapes",
            "1x3",
            "1x3, but should be beside min-shapes and max-shapes",
        ),
    ],
)
def test_a_wrong_engine_option_is_refused(name: str, value: str, said: str) -> None:
    """Found, legal, and which option it is."""
    beside = dict.fromkeys(("min-shapes", "opt-shapes"), "1x3")
    with pytest.raises(ValueError, match=said):
        read_settings({name: value} | (beside if name == "max-shapes" else {}))


def library(*capabilities: str, rtx: bool = True) -> TensorRT:
    legal = dict.fromkeys(("NONE", "CURRENT", *capabilities), 0)
    known = SimpleNamespace(__members__=legal)
    return TensorRT(SimpleNamespace(__version__="1.7", ComputeCapability=known), rtx)


def test_a_device_that_tensorrt_for_rtx_does_not_know_is_refused() -> None:
    """It would fail at run time; full TensorRT takes it."""
    found = library("SM89", "SM120").explain_refusal((9, 0))

    assert found is not None
    assert "tensorrt_rtx 1.7 runs on compute capability 8.9, 12.0, but this" in found
    assert "has 9.0; install the full TensorRT" in found
    assert library("SM89", "SM120").explain_refusal((12, 0)) is None
    assert library("SM89", rtx=False).explain_refusal((9, 0)) is None


def test_the_engine_offers_what_the_suite_asks_for() -> None:
    """Precisions, ascending batches, layouts that end with one stream."""
    assert {"fp32", *TENSORRT.precision_for.values()} <= set(TENSORRT.precisions)
    assert sorted(TENSORRT.batches) == list(TENSORRT.batches)
    assert TENSORRT.layouts(4)[-1].count == 1
    assert not TENSORRT.answers
