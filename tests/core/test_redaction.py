"""No text shows a secret, wherever it stands in it and wherever it is cut."""

from __future__ import annotations

import json
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core.redaction import FRAGMENT
from pytest_mlperf.core.redaction import HIDDEN
from pytest_mlperf.core.redaction import MARGIN
from pytest_mlperf.core.redaction import Redactor
from pytest_mlperf.core.redaction import redact_file

VARIABLE = "SERVER_API_KEY"
SECRETS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=80
)
TEXTS = st.text(max_size=60)
WRITTEN: list[Any] = [
    str,
    repr,
    json.dumps,
    lambda text: json.dumps(json.dumps(text)),
    lambda text: repr(text.encode()),
    lambda text: quote(text, safe=""),
    quote,
]


def has_part(text: str, secret: str) -> bool:
    """Return whether a text shows ``FRAGMENT`` characters of a secret in a row."""
    grams = {secret[i : i + FRAGMENT] for i in range(len(secret) - FRAGMENT + 1)}
    return any(gram in text for gram in grams - {f"${VARIABLE}"[:FRAGMENT]})


@given(secret=SECRETS, before=TEXTS, after=TEXTS, write=st.sampled_from(WRITTEN))
def test_a_secret_is_hidden_however_it_is_written(
    secret: str, before: str, after: str, write: Any
) -> None:
    """As itself, in JSON, in a repr, in a URL; what stands beside it is as it was."""
    redactor = Redactor({VARIABLE: secret})
    shown = redactor.redact(f"{before}\n{write(secret)}\n{after}")

    assert not has_part(shown, secret)
    assert redactor.redact(shown) == shown


@given(
    secret=SECRETS,
    size=st.integers(0, 3 * MARGIN),
    most=st.integers(30, 2000),
    count=st.integers(1, 50),
)
def test_a_cut_leaves_no_half_of_a_secret(
    secret: str, size: int, most: int, count: int
) -> None:
    """At either side of what is left out, however many secrets came before."""
    redactor = Redactor({VARIABLE: secret})
    text = f"{' ' * size}{secret * count}{' ' * size}{secret * count}"
    short = redactor.shorten(text, most)
    begin = redactor.cut(text.encode(), most)

    allowed = set(f" ${VARIABLE}{HIDDEN}")
    for shown in (*short.split("\n[… "), begin):
        assert set(shown.rpartition("left out …]\n")[2]) <= allowed
        assert len(shown) <= most + 80


def test_half_a_secret_is_one_label() -> None:
    """However many of its parts are known; what stands around it stays."""
    redactor = Redactor({VARIABLE: "abcdefghijklmnopqrstuvwxyz"})

    assert redactor.redact("<abcdefghijklmnopq>") == f"<${VARIABLE}>"


@given(secret=SECRETS, cut=st.integers(FRAGMENT, 79))
def test_what_a_server_has_cut_is_hidden_too(secret: str, cut: int) -> None:
    """Servers show the first or last characters of a key, and logs begin anywhere."""
    redactor = Redactor({VARIABLE: secret})
    for part in (secret[:cut], secret[-cut:]):
        assert part not in redactor.redact(f"wrong key {part}…")


def test_the_shells_folders_are_no_passwords() -> None:
    """Every path below the working directory would be hidden."""
    redactor = Redactor({"PWD": "/home/somebody/mlperf", "DB_PWD": "correct-horse"})
    shown = redactor.redact("/home/somebody/mlperf/reports correct-horse")

    assert shown == "/home/somebody/mlperf/reports $DB_PWD"


def test_each_line_of_a_token_with_a_line_break_is_hidden() -> None:
    """Libraries show such a token as bytes, or only its first line."""
    redactor = Redactor({"ENDPOINT": "first-half-of-it\nsecond-half"})
    redactor.add_variable("ENDPOINT")
    error = f"Invalid header value {b'Bearer first-half-of-it' + bytes([10]) + b's'!r}"

    assert "first-half" not in redactor.redact(error)
    assert "second" not in redactor.redact("second-half")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("serve --api-key sk-1 --port 8", "serve --api-key *** --port 8"),
        ("serve --api-key=sk-1", "serve --api-key=***"),
        ("['serve', '--api-key', 'sk-1']", "['serve', '--api-key', '***']"),
        ("env HF_TOKEN=hf_ab1 serve", "env HF_TOKEN=*** serve"),
        ("http://h:1/v1?api_key=a&x=1", "http://h:1/v1?api_key=***&x=1"),
        ("http://me:pw@h:1/v1", "http://***@h:1/v1"),
        ("http://me:p#w?d@h:1/v1", "http://***@h:1/v1"),
        ("Authorization: Bearer abcd", "Authorization: Bearer ***"),
        ("Authorization: Basic bWU6cHc=", "Authorization: Basic ***"),
        ('{"api_key": ["abcd"], "n": 1}', '{"api_key": ["***"], "n": 1}'),
        ("api_key='abcd', n=1", "api_key='***', n=1"),
        ("x-api-key: 0123abcd", "x-api-key: ***"),
        ("key sk-0123456789abcdefgh!", "key ***!"),
    ],
)
def test_what_stands_where_keys_stand_is_hidden(text: str, shown: str) -> None:
    """Nobody named these secrets."""
    redactor = Redactor({})

    assert redactor.redact(text) == shown
    assert redactor.redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "mean first token: 12.5 ms, 8 tokens per answer",
        "--max-tokens 128 --tokenizer a/b --max-num-batched-tokens 8192",
        "name another variable with --mlperf-endpoint-token-env NAME",
        "the endpoints' bearer token; set it",
        "KeyError: 'input_ids'",
        "https://docs.example.org/page?lang=en#tokens",
        "build 0123456789abcdef0123456789abcdef",
        "sk-learn-is-a-library-of-models",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """A message stays readable."""
    assert Redactor({}).redact(text) == text


def test_a_named_secret_is_hidden_wherever_it_turns_up() -> None:
    """A server repeats what it was started with, in words of its own."""
    redactor = Redactor({})
    redactor.add_command(["serve", "--api-key", "s3same", "--http", "http://h/#frag-1"])
    redactor.add_url("h:1?api_key=query-1&lang=en-US")
    redactor.add_url("http://me:pass-1@h")
    redactor.add_url("http://me:pass#2?x@h/y?token=query-2")

    secrets = ("s3same", "frag-1", "query-1", "pass-1", "pass#2?x", "query-2")
    for secret in secrets:
        assert redactor.redact(f"I know {secret}.") == f"I know {HIDDEN}."
    assert redactor.redact("me and en-US") == "me and en-US"


def test_a_short_value_of_a_variable_is_a_word() -> None:
    """``TOKEN=test`` would tear every path apart."""
    redactor = Redactor({"TOKEN": "tests", "SORT_KEY": "number"})

    assert redactor.redact("tests/a.py by number") == "tests/a.py by number"


@pytest.mark.parametrize("names", [("A_KEY", "B_KEY"), ("B_KEY", "A_KEY")])
def test_a_secret_that_holds_another_is_hidden_whole(names: tuple[str, str]) -> None:
    """The shorter one first would leave the rest of the longer one."""
    values = {"A_KEY": "correct-horse", "B_KEY": "correct-horse-42"}
    redactor = Redactor({name: values[name] for name in names})

    assert redactor.redact("correct-horse-42") == "$B_KEY"


@dataclass(frozen=True, slots=True)
class Note:
    """A message of a test."""

    text: str
    more: dict[str, Any] = field(default_factory=dict)
    path: Path = Path()


def test_every_text_of_a_message_is_redacted_and_shortened() -> None:
    """Inside of mappings, sequences and dataclasses; the rest is the same object."""
    redactor = Redactor({VARIABLE: "s" * 20})
    secret = "s" * 20
    inner = Note("fine")
    note = Note(f"a {secret}", {f"k {secret}": [secret, (1, secret)], "n": inner})
    shown = redactor.redact_values(note)

    assert secret not in repr(shown)
    assert shown.more["n"] is inner
    assert redactor.redact_values(inner) is inner
    assert len(redactor.redact_values(Note("x " * 500_000), 1000).text) < 1100


def test_a_file_is_rewritten_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that are no text stay; a file that is not there is passed over."""
    monkeypatch.setenv(VARIABLE, "0123456789-secret")
    log = tmp_path / "log"
    log.write_bytes(b"a \xff 0123456789-secret\n")
    redact_file(log)
    redact_file(tmp_path / "missing")

    assert log.read_bytes() == b"a \xff $SERVER_API_KEY\n"
