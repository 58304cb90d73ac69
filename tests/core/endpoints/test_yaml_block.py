"""The reader of config.yaml against PyYAML, whose defaults the client dumps with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.core.endpoints.yaml_block import parse_yaml
from pytest_mlperf.core.logs.lines import LogError

PATH = Path("config.yaml")
KEYS = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_.:/ -]{0,20}", fullmatch=True)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=200)
    | st.from_regex(r"[a-z:#' \"\\-]{0,120}", fullmatch=True)
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.dictionaries(KEYS, DOCUMENTS, max_size=5))
def test_what_pyyaml_dumps_is_read_as_pyyaml_reads_it(values: dict[str, Any]) -> None:
    """In the order of the keys and with the client's settings."""
    text = yaml.dump(values, default_flow_style=False, sort_keys=False)

    assert (parse_yaml(PATH, text) or {}) == values


@settings(max_examples=60)
@given(st.text(max_size=200) | st.from_regex(r"[a-z0-9:\n '\"#\[\]{}-]*"))
def test_any_text_is_read_as_pyyaml_reads_it_or_refused(text: str) -> None:
    """Never a crash, and never another meaning for a number or a truth value."""
    try:
        found = parse_yaml(PATH, text)
        wanted = yaml.safe_load(text)
    except (LogError, yaml.YAMLError, ValueError):
        return
    if isinstance(wanted, dict) and isinstance(found, dict):
        assert len(found) == len(wanted)


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: 1}\n",
        "a: [1, 2]\n",
        "a: &x 1\nb: *x\n",
        "a: !!python/object:x 1\n",
        "a: |\n  text\n",
        "a: 1\na: 2\n",
        "a: 'text\n",
        "a:\n\tb: 1\n",
        "a: 1\n  b: 2\n",
        'a: "\\q"\n',
        "%YAML 1.1\n---\na: 1\n",
        "a:" + "\n ".join("-" * n for n in range(9)) + "\n",
        "".join("\n" + " " * n + "a:" for n in range(60)),
    ],
)
def test_what_the_client_never_writes_is_refused(text: str) -> None:
    """With the line, and where to find the right file."""
    with pytest.raises(LogError, match="the client wrote"):
        parse_yaml(PATH, text)


def test_numbers_and_truth_values_are_those_of_yaml_1_1() -> None:
    """``on`` is true, a version in quotes is a text, and 010 is no ten."""
    text = "a: on\nb: '1.0'\nc: 010\nd: 1.5\ne: 16159082839903944936\nf: # nothing\n"
    found = parse_yaml(PATH, text)

    assert found == {
        "a": True, "b": "1.0", "c": "010", "d": 1.5, "e": 16159082839903944936,
        "f": None,
    }  # fmt: skip
