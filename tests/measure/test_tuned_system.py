"""A search's settings as a system file, which TOML reads back."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.system import detect_system
from pytest_mlperf.measure.tuned_system import write_system_file
from tests.support.cells import cell_of


@pytest.mark.parametrize("model", ["resnet50", "llama3.1-8b"])
@pytest.mark.parametrize("scenario", ["", "offline"])
def test_settings_are_the_model_s_and_others_are_options(
    tmp_path: Path, model: str, scenario: str
) -> None:
    """What a system file does not have is returned; a dot in a name is no table."""
    system = detect_system(root=tmp_path, rootdir=tmp_path, environ={})
    cell = cell_of(model, "", Scenario.OFFLINE, "null")
    settings = (("batch", "8"), ("precision", "int8"), ("no-such-setting", "1"))
    path = tmp_path / "box.toml"
    rest = write_system_file(path, system, cell, ["tune", "best"], settings, scenario)
    table = tomllib.loads(path.read_text("utf-8"))["tuning"][model]

    assert rest == ["no-such-setting"]
    if scenario:
        table = table[scenario]
    assert table == {"engine": {"null": {"batch": 8, "precision": "int8"}}}
    with pytest.raises(FileExistsError):
        write_system_file(path, system, cell, ["tune"], settings, scenario)
