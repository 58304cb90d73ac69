"""How a server is loaded: options, and the variables of NVIDIA's scripts."""

from __future__ import annotations

import pytest

from pytest_mlperf.config.load_options import read_load_options


def test_an_option_wins_over_its_variable() -> None:
    """And a blank variable says nothing."""
    environ = {"BATCH_SIZE": "4 8"}

    assert read_load_options({}, environ=environ).batch_size == (4, 8)
    assert read_load_options({"batch_size": "2"}, environ=environ).batch_size == (2,)
    assert read_load_options({}, environ={"BATCH_SIZE": " "}).batch_size == (1, 8, 16)


def test_a_refusal_names_the_variable() -> None:
    """Whoever exported it gave no option."""
    with pytest.raises(ValueError, match=r"^BATCH_SIZE=no, but should be "):
        read_load_options({}, environ={"BATCH_SIZE": "no"})
