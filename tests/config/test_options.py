"""Options: one frozen value from command line, ini file and environment."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from pytest_mlperf.config.option_specs import SPECS
from pytest_mlperf.config.options import ROUND_S
from pytest_mlperf.config.options import Given
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.plan import Shortening
from pytest_mlperf.core.rounds import ROUNDS
from pytest_mlperf.core.rounds import get
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario

HERE, ROOT = Path("/here"), Path("/root")


def options(environ: dict[str, str] | None = None, /, **texts: str) -> Options:
    """Return the options of these texts, as typed on the command line."""
    given = {n: Given(text, SPECS[n].flag, is_typed=True) for n, text in texts.items()}
    return Options.from_given(
        given, here=HERE, root=ROOT, environ=environ or {},
        installed={"mine": "mine", "own": "mine"},
    )  # fmt: skip


def test_every_option_has_a_name_a_help_text_and_a_default() -> None:
    """The table is complete, and its defaults are those of the value."""
    assert list(SPECS) == list(Options.__dataclass_fields__)
    assert all(spec.help and "%" not in spec.help for spec in SPECS.values())
    assert SPECS["stall"].help.endswith("(default: 120)")
    assert (SPECS["stall"].flag, SPECS["stall"].dest) == (
        "--mlperf-stall",
        "mlperf_stall",
    )


def test_fast_is_a_minute() -> None:
    """60 s, and the label that goes with the results."""
    found = options(fast="true")

    assert found.min_duration_s == 60.0
    assert found.labels == ("embedded", "fast")
    assert found.shortening == Shortening(60_000, "--fast")
    assert options().shortening is None


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        ("599", ("embedded", "shortened")),
        ("600", ("embedded",)),
        ("900", ("embedded",)),
    ],
)
def test_a_duration_that_shortens_nothing_has_no_label(
    seconds: str, labels: tuple[str, ...]
) -> None:
    """A round asks for 600 s, or for none at all; from there on nothing is waived."""
    durations = {r.min_duration_ms for n in ROUNDS for r in get(n).rules}

    assert durations == {0, ROUND_S * 1000}
    assert options(duration=seconds).labels == labels


def test_a_query_count_of_the_users_is_no_submission_result() -> None:
    """Alone it keeps the duration; the verdict names each option that waived."""
    alone = options(min_query_count="100")
    both = options(min_query_count="100", duration="5")

    assert alone.labels == ("embedded", "shortened")
    assert alone.shortening == Shortening(None, "--mlperf-min-query-count 100", 100)
    assert both.shortening == Shortening(
        5000, "--mlperf-duration 5 --mlperf-min-query-count 100", 100
    )


def test_a_scratch_folder_makes_the_workload_official() -> None:
    """``auto`` is embedded unless there is a place for the official files."""
    variable = {"MLPERF_SCRATCH_PATH": "/models"}
    found = options(variable)

    assert options().workload == "embedded"
    assert (found.workload, found.scratch) == ("official", Path("/models"))
    assert found.labels == ()
    assert options(variable, workload="embedded").workload == "embedded"


def test_folders_begin_where_the_user_is() -> None:
    """Built engines go below XDG_CACHE_HOME; without a home, below the root folder."""
    nobody = "~nobody_of_this_name"

    assert options(reports="out").reports == HERE / "out"
    assert options().reports == ROOT / "reports"
    assert options({"XDG_CACHE_HOME": "/disk"}).cache == Path("/disk/pytest-mlperf")
    assert options({"XDG_CACHE_HOME": nobody}).cache == ROOT / ".cache/pytest-mlperf"
    assert options(scratch=f"{nobody}/models").scratch == HERE / nobody / "models"


def test_a_blank_variable_counts_as_none() -> None:
    """An environment is not the user's typing: it never refuses a session."""
    names = ("MLPERF_SCRATCH_PATH", "SYSTEM_NAME", "XDG_CACHE_HOME")
    found = options(dict.fromkeys(names, " "))

    assert (found.scratch, found.system) == (None, None)
    assert found.cache == Path.home() / ".cache" / "pytest-mlperf"


def test_options_travel_as_json_and_pickle() -> None:
    """Workers, runners and results files can all carry them."""
    found = options(fast="true", batch="4", target_qps="server=8")

    assert found == pickle.loads(pickle.dumps(found))  # noqa: S301 - our own bytes
    assert json.loads(json.dumps(found.as_dict()))["batch"] == 4
    assert options(target_qps="8").as_dict()["target_qps"] == 8.0


def test_an_engine_in_development_has_a_short_name() -> None:
    """``module:object`` is called by its object in ids, and found by it again."""
    found = options(engine="pkg.mod:QUICK")

    assert found.engine_spec("quick") == "pkg.mod:QUICK"
    assert found.engine_spec("null") == "null"


CELLS = [
    ("resnet50", "", Scenario.OFFLINE),
    ("bert", "99", Scenario.OFFLINE),
    ("bert", "99.9", Scenario.SERVER),
    ("yolo", "95", Scenario.MULTI_STREAM),
    ("yolo", "99", Scenario.MULTI_STREAM),
    ("mine", "", Scenario.INTERACTIVE),
]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"benchmark": "BERT"}, [1, 2]),
        ({"benchmark": "bert-99"}, [1]),
        ({"benchmark": "bert-large,resnet"}, [0, 1, 2]),
        ({"benchmark": "own"}, [5]),
        ({"scenario": "Offline,Server"}, [0, 1, 2]),
        ({"scenario": "multi-stream"}, [3, 4]),
        ({"accuracy_target": "high"}, [2, 4]),
        ({"accuracy_target": "default"}, [0, 1, 3, 5]),
        ({"accuracy_target": "default,high"}, [0, 1, 2, 3, 4, 5]),
        ({"benchmark": "bert", "scenario": "server", "accuracy_target": "high"}, [2]),
    ],
)
def test_options_select_cells(texts: dict[str, str], expected: list[int]) -> None:
    """By benchmark, scenario and accuracy target, in any usual spelling."""
    found = options(**texts)

    assert [i for i, cell in enumerate(CELLS) if found.selects(*cell)] == expected
    assert len(found.selections) == len(texts)


def test_options_select_modes() -> None:
    """No mode is every mode."""
    found = options(mode="accuracy")

    assert [mode for mode in Mode if found.selects_mode(mode)] == [Mode.ACCURACY]
    assert all(map(options().selects_mode, Mode))


def test_a_number_holds_for_all_scenarios_or_for_one() -> None:
    """A scenario's own number comes before the one that all share."""
    found = options(target_qps="100,server=8,interactive=2", batch="4")
    one = options(expected_latency_ms="singlestream=1.5")

    assert found.tuning_for(Scenario.SERVER) == {"batch": 4, "target_qps": 8.0}
    assert found.tuning_for(Scenario.OFFLINE)["target_qps"] == 100.0
    assert one.tuning_for(Scenario.SINGLE_STREAM) == {"expected_latency_ms": 1.5}
    assert one.tuning_for(Scenario.MULTI_STREAM) == {}
    Tuning(**found.tuning_for(Scenario.SERVER))


def test_a_value_is_shown_as_it_is_typed() -> None:
    """What a submission's README repeats can be pasted."""
    found = options(
        target_qps="100,server=8", engine_options="level=3,graphs=off",
        endpoint="http://a:1,b:2", start_from_device="true", duration="2.5",
    )  # fmt: skip

    assert [found.format(name) for name in ("target_qps", "engine_options")] == [
        "--mlperf-target-qps=100,server=8",
        "--mlperf-engine-options=level=3,graphs=off",
    ]
    assert found.format("endpoint") == "--mlperf-endpoint=http://a:1,b:2"
    assert found.format("start_from_device") == "--mlperf-start-from-device"
    assert found.format("duration") == "--mlperf-duration=2.5"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("duration", "0", "'0', but should be a number above 0"),
        ("duration", "nan", "'nan', but should be a number above 0"),
        ("target_qps", "inf", "'inf', but should be a number above 0"),
        ("target_qps", "singlestream=3", "one of offline, server, interactive"),
        ("target_qps", "1,2", "but should be one number for all scenarios"),
        ("batch", "1.5", "but should be a whole number of at least 1"),
        ("max_delay_ms", "-1", "'-1', but should be a number above 0"),
        ("devices_per_item", "some", "a whole number of at least 1, or all"),
        ("workload", "oficial", "official, generated. Did you mean 'official'?"),
        ("round", "v6.2", "one of v1.0, "),
        ("engine", "a,,b", "separated by commas, without an empty name"),
        ("benchmark", "brt", "Did you mean 'bert'?"),
        ("benchmark", "llama2-70b-interactive", "add --mlperf-scenario interactive"),
        ("scenario", "ofline", "interactive. Did you mean 'offline'?"),
        ("accuracy_target", "99", "one of default, high."),
        ("mode", "acuracy", "Did you mean 'accuracy'?"),
        ("lock_clocks", "fast", "'fast', but should be max, or MHz from 100"),
        ("endpoint", "http://user:secret@host", "a password in a URL ends in logs"),
        ("endpoint", "ftp://host", "no http:// or https:// URL with a host"),
        ("endpoint", "http://host:port", "write http://host:port"),
        ("endpoint", "http://a?b", "has no ? and no #"),
        ("fast", "yes", "true or false"),
    ],
)
def test_a_wrong_text_is_refused_with_what_is_legal(
    name: str, text: str, message: str
) -> None:
    """The sentence begins with the option as the user knows it."""
    with pytest.raises(ValueError, match=r"^--mlperf-") as caught:
        options(**{name: text})

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"workload": "official"}, "add --mlperf-scratch DIR"),
        ({"fast": "true", "duration": "5"}, "keep one of the two"),
        ({"fail_below": "0.9"}, "add --mlperf-compare latest"),
        ({"rehearsal": "true", "end_on_device": "true"}, "--mlperf-end-on-device is"),
        ({"rehearsal": "true", "engine": "null"}, "leave out --mlperf-engine"),
        ({"find_peak": "true", "target_qps": "9"}, "or give the other scenarios'"),
        ({"find_peak": "true", "rehearsal": "true"}, "measures nothing"),
        ({"engine": "oracle"}, "ask for it with --mlperf-rehearsal"),
        ({"endpoint_token_env": "TOKEN"}, "that environment variable is not set"),
        ({"endpoint_ca": "ca.pem"}, "/here/ca.pem: no such file"),
    ],
)
def test_options_that_contradict_are_refused(
    texts: dict[str, str], message: str
) -> None:
    """Neither of the two is passed over in silence."""
    with pytest.raises(ValueError, match=message):
        options(**texts)


def test_a_checker_that_has_no_tree_to_judge_is_refused() -> None:
    """Somebody believes that it judged; an ini value waits for a session with one."""
    typed = {"checker": Given("clone", "--mlperf-checker", is_typed=True)}
    with pytest.raises(ValueError, match="add --mlperf-submission ORG") as caught:
        Options.from_given(typed, here=HERE, root=ROOT, environ={})

    assert "--mlperf-tree DIR" in str(caught.value)
    for given in (
        {"checker": Given("clone", "pytest.ini")},
        typed | {"tree": Given("tree", "--mlperf-tree", is_typed=True)},
        typed | {"submission": Given("ACME", "pytest.ini")},
    ):
        found = Options.from_given(given, here=HERE, root=ROOT, environ={})
        assert found.checker == HERE / "clone"


def test_a_default_yields_to_a_rehearsal() -> None:
    """What the ini file says of engines is of those that work."""
    texts = {"engine": "null", "devices_per_item": "all", "rehearsal": "true"}
    given = {name: Given(text, "pytest.ini") for name, text in texts.items()}
    found = Options.from_given(given, here=HERE, root=ROOT, environ={})

    assert (found.engine, found.workload) == (("oracle",), "synthetic")
    assert found.devices_per_item is None


def test_a_shortened_run_may_take_three_minutes() -> None:
    """Or three times its duration; others have no limit but the user's own."""
    assert Options(duration=2.0).run_limit_s == 180
    assert Options(duration=100.0).run_limit_s == 300
    assert Options(duration=600.0).run_limit_s is None
    assert Options(fast=True).run_limit_s == 180
    assert Options(fast=True, time_limit=600.0).run_limit_s == 600
    assert Options(time_limit=60.0).run_limit_s == 60
    assert Options().run_limit_s is None
