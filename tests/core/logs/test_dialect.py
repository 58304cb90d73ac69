"""Which LoadGen wrote a log: version, commit date, keys and rounds have to agree."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core.logs.dialect import DialectError
from pytest_mlperf.core.logs.dialect import Trait
from pytest_mlperf.core.logs.dialect import read_dialect
from pytest_mlperf.core.logs.keys import KINDS
from pytest_mlperf.core.logs.keys import SINCE
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.logs.log import LogError
from tests.support import dialects
from tests.support.judging import failed
from tests.support.judging import named

EVERY = [(name, s) for name in dialects.ROUNDS for s in dialects.SCENARIOS]


@pytest.mark.parametrize(("name", "scenario"), EVERY)
def test_a_log_of_every_rounds_loadgen_is_valid(
    tmp_path: Path, name: str, scenario: str
) -> None:
    """What a LoadGen did not write yet is not asked of it."""
    folder = dialects.performance(tmp_path, name, scenario)
    found = dialects.judge_run(folder, name, scenario)

    assert found.outcome == "VALID", found.explain()


@pytest.mark.parametrize("name", dialects.ROUNDS)
def test_a_key_that_the_loadgen_writes_is_asked_of_it(
    tmp_path: Path, name: str
) -> None:
    """The keys of a round's own LoadGen are not optional, whoever came before."""
    later = " ".join(dialects.BEFORE.values()).split()
    offline = ["early_stopping_met", "result_query_count"]
    own = [key for key in later if key not in dialects.list_missing(name)]
    asked = [key for key in own if not key.startswith(("early", "result"))]
    asked += [key for key in offline if key in own]
    for number, key in enumerate(asked):
        folder = dialects.performance(tmp_path / str(number), name, "Offline")
        lose_key(folder, key)

        with pytest.raises(LogError, match=f"the end of the log without {key}"):
            Log.read(folder)


@pytest.mark.parametrize("name", dialects.ROUNDS[:-1])
def test_a_key_that_only_later_loadgens_write_is_an_error(
    tmp_path: Path, name: str
) -> None:
    """A new log under an old LoadGen's name keeps what the old one never wrote."""
    for number, key in enumerate(dialects.list_missing(name)):
        value = {"early_stopping_result": "", "early_stopping_met": True}.get(key, 0)
        if "permutation" in key:
            value = False
        folder = dialects.performance(
            tmp_path / str(number), name, "Offline", {key: value}
        )

        with pytest.raises(LogError, match=f"found {key} of LoadGen"):
            Log.read(folder)


@pytest.mark.parametrize("name", dialects.ROUNDS[1:])
def test_a_log_under_an_older_loadgens_name_is_an_error(
    tmp_path: Path, name: str
) -> None:
    """The version alone, and with everything that tells it from the older LoadGen."""
    older = dialects.ROUNDS[dialects.ROUNDS.index(name) - 1]
    version = {"loadgen_version": dialects.BUILDS[older][0]}
    folder = dialects.performance(tmp_path, name, "Offline", version)

    with pytest.raises(LogError, match="loadgen_git_commit_date = "):
        Log.read(folder)


@pytest.mark.parametrize(
    ("name", "older"),
    [("v5.1", "v4.1"), ("v5.1", "v2.1"), ("v6.1", "v5.0"), ("v4.1", "v3.0")],
)
def test_a_rounds_seeds_in_an_older_rounds_loadgen_are_refused(
    tmp_path: Path, name: str, older: str
) -> None:
    """A new log, relabelled and robbed of all newer lines, has its round's seeds."""
    build, date = dialects.BUILDS[older]
    change = {"loadgen_version": build, "loadgen_git_commit_date": date}
    folder = dialects.performance(tmp_path, name, "Offline", change)
    for key in {*dialects.list_missing(older)} - {*dialects.list_missing(name)}:
        lose_key(folder, key)
    found = dialects.judge_run(folder, name, "Offline")

    assert found.outcome == "INVALID"
    assert failed(found) - {"errors_counted"} == {"loadgen_version"}
    assert named(found, "loadgen_version").required.endswith(f"as in {name}")


def test_a_version_that_the_sources_contradict_is_an_error(tmp_path: Path) -> None:
    """The history begins with another commit; or a file is there that came later."""
    folder = dialects.performance(tmp_path / "1", "v5.1", "Offline")
    path = folder / "mlperf_log_detail.txt"
    text = path.read_text()
    path.write_text(text.replace("091d51f041 Another", "091d51f042 Another"))
    with pytest.raises(LogError, match="found commit 091d51f041, should be 091d51f042"):
        Log.read(folder)

    sources = {
        "loadgen_file_sha1": {"/VERSION.txt": "a8ebd64f62d0349aeedbe3295d833ebd"}
    }
    Log.read(dialects.performance(tmp_path / "2", "v5.1", "Offline", sources))
    folder = dialects.performance(tmp_path / "3", "v4.1", "Offline", sources)
    with pytest.raises(LogError, match=r"found LoadGen 4\.1 of 2024-07-18"):
        Log.read(folder)


def lose_key(folder: Path, key: str) -> None:
    """Remove a key's line from a detail log, and from the summary if it is there."""
    path = folder / "mlperf_log_detail.txt"
    lines = path.read_text().splitlines(keepends=True)
    rest = [line for line in lines if f'"key": "{key}"' not in line]
    assert len(rest) == len(lines) - 1
    path.write_text("".join(rest))
    summary = folder / "mlperf_log_summary.txt"
    label = f"{key.removeprefix('effective_')} : "
    lines = summary.read_text().splitlines(keepends=True)
    summary.write_text("".join(x for x in lines if not x.startswith(label)))


@pytest.mark.parametrize(
    ("build", "date"),
    [
        ("7.0 @ 091d51f041", "2027-07-30T12:45:05Z"),
        ("5.0.40 @ 091d51f041", "2025-07-20T12:45:05Z"),
        ("3.2 @ 091d51f041", "2023-10-20T12:45:05Z"),
        ("5.1.0", "2025-07-30T12:45:05Z"),
        ("", "2025-07-30T12:45:05Z"),
        ("5.1.0 @ 091d51f041", "2025-06-25T12:45:05Z"),
        ("5.1.0 @ 091d51f041", "2025-10-14T00:00:00Z"),
        ("5.1.0 @ 091d51f041", "1999-01-01T00:00:00Z"),
        ("5.1.0 @ 091d51f041", "2025-07-30 12:45:05"),
        ("5.1.0 @ 091d51f041", "yesterday"),
        ("4.1 @ 091d51f041", "2025-07-30T12:45:05Z"),
        (".5a1 @ 091d51f041", "2025-07-30T12:45:05Z"),
    ],
)
def test_a_loadgen_that_never_was_is_an_error(build: str, date: str) -> None:
    """Unknown versions, and versions on days when LoadGen was called otherwise."""
    with pytest.raises(DialectError) as caught:
        read_dialect(build, date)

    assert caught.value.found
    assert caught.value.required


@pytest.mark.parametrize(
    ("build", "lacks", "has"),
    [
        ("4.1 @ NA", Trait.ONE_OFFLINE_QUERY, Trait.PERMUTATION_LOGGED),
        ("2.1 @ NA", Trait.TOKENS, Trait.SUT_NAME_TIMED),
        ("1.1 @ NA", Trait.EARLY_STOPPING, Trait.TODAYS_FORM),
        ("5.0.10 @ NA", Trait.FILLED_COUNT, Trait.ONE_OFFLINE_QUERY),
        ("5.0.16 @ NA", Trait.ACCURACY_COUNT, Trait.ERRORS_COUNTED),
        ("2.0 @ 0ec69f587d", Trait.SUT_NAME_TIMED, Trait.SINGLE_STREAM_PERMUTATIONS),
    ],
)
def test_an_undated_build_is_the_newest_of_its_version(
    build: str, lacks: Trait, has: Trait
) -> None:
    """What any build of the version writes is asked of one that hides its date."""
    date = "NA" if build.endswith("NA") else "%cI"
    dialect = read_dialect(build, date)

    assert dialect.has(has)
    assert not dialect.has(lacks)


def test_the_newest_loadgen_has_every_trait() -> None:
    """So has one that is newer than the table."""
    for build in ("6.0.17 @ NA", "6.0.40 @ NA", "6.1 @ NA", "6.2.0 @ NA"):
        assert all(read_dialect(build, "NA").has(trait) for trait in Trait)


def test_traits_are_in_the_order_of_their_commits() -> None:
    """A table by date is read from top to bottom."""
    dates = [trait.since for trait in Trait]

    assert dates == sorted(dates)
    assert len(set(dates)) == len(dates)


def test_every_key_with_a_date_is_a_key() -> None:
    """No misspelt name hides in the table."""
    assert set(SINCE) <= set(KINDS)


@given(build=st.text(max_size=30), date=st.text(max_size=40))
def test_no_text_makes_the_reader_raise_anything_else(build: str, date: str) -> None:
    """Any two texts are a LoadGen, or a ``DialectError``."""
    with suppress(DialectError):
        assert read_dialect(build, date).version


def test_counts_are_texts_in_early_2022_alone(tmp_path: Path) -> None:
    """c215a61a made numbers of them; a later log with texts was written by hand."""
    early = {
        "loadgen_version": "2.0 @ 5aae975fc4",
        "loadgen_git_commit_date": "2022-02-03T22:10:50-08:00",
        "result_query_count": "1",
    }
    before = Log.read(dialects.performance(tmp_path / "1", "v2.0", "Offline", early))
    later = {"result_query_count": "1"}
    after = dialects.performance(tmp_path / "2", "v2.0", "Offline", later)

    assert before.integer("result_query_count") == 1
    with pytest.raises(LogError, match="found result_query_count as a text"):
        Log.read(after)


def test_the_oldest_form_is_named(tmp_path: Path) -> None:
    """Rounds v0.5 and v0.7 had no JSON records."""
    folder = dialects.performance(tmp_path, "v1.0", "Offline")
    line = '"pid": 7300, "tid": 7300, "ts": 193297ns : version : .5a1 @ 61220457de\n'
    (folder / "mlperf_log_detail.txt").write_text(line)

    with pytest.raises(LogError, match=r"a log of round v0\.5 or v0\.7"):
        Log.read(folder)
