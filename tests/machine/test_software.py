"""Installed packages beside what this one asks for: made-up metadata on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlperf.machine.software import Software
from pytest_mlperf.machine.software import read_driver

METADATA = """\
Metadata-Version: 2.4
Name: {name}
Version: {version}
"""
OURS = """\
Provides-Extra: onnxruntime
Provides-Extra: speech
Provides-Extra: dev
Requires-Dist: numpy>=2.0
Requires-Dist: onnxruntime>=1.22; extra == "onnxruntime"
Requires-Dist: pytest-mlperf[onnxruntime]; extra == "speech"
Requires-Dist: ctranslate2>=4.5; extra == "speech"
Requires-Dist: tomli>=2; python_version < "3" and extra == "speech"
Requires-Dist: mypy>=1; extra == "dev"
"""
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 2024"
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  "
    "Release Build  (dvs-builder@U22-I3-AF05)"
)


def install(folder: Path, **versions: str) -> Software:
    """Return the software of a folder with these packages and this one."""
    for name, version in {"pytest_mlperf": "0.1.0", **versions}.items():
        place = folder / f"{name}-{version}.dist-info"
        place.mkdir()
        text = METADATA.format(name=name.replace("_", "-"), version=version)
        text += OURS if name == "pytest_mlperf" else ""
        (place / "METADATA").write_text(text)
    return Software(path=[str(folder)], root=folder)


def test_what_is_installed_is_listed_and_what_lacks_is_an_extra(tmp_path: Path) -> None:
    """An extra that is made of another one needs that one's packages too."""
    software = install(tmp_path, numpy="2.3.0", onnxruntime="1.24.1")

    python, *others = software.versions.items()

    assert python[0] == "Python"
    assert dict(others) == {
        "pytest-mlperf": "0.1.0", "numpy": "2.3.0", "onnxruntime": "1.24.1",
    }  # fmt: skip
    assert software.missing_extras == ("speech",)
    assert software.list_unmet() == []


def test_a_package_that_is_too_old_is_told_with_its_extra(tmp_path: Path) -> None:
    """An installer says so when it installs another package, and a session never."""
    software = install(
        tmp_path, numpy="1.26.4", onnxruntime="1.20.0", ctranslate2="4.6.0"
    )
    first, second = software.list_unmet()

    assert software.missing_extras == ()
    assert (first.name, str(first)) == ("numpy", "1.26.4 (advised: >=2.0)")
    assert first.remedy == "pip install 'numpy>=2.0'"
    assert (second.name, str(second)) == ("onnxruntime", "1.20.0 (advised: >=1.22)")
    assert second.remedy == "pip install 'onnxruntime>=1.22'"


def test_a_package_that_brings_the_same_module_counts(tmp_path: Path) -> None:
    """OpenVINO's onnxruntime stands in the place of the other, by its own name."""
    software = install(tmp_path, numpy="2.3.0", onnxruntime_openvino="1.20.0")
    (unmet,) = software.list_unmet()

    assert software.versions["onnxruntime-openvino"] == "1.20.0"
    assert software.missing_extras == ("speech",)
    assert unmet.name == "onnxruntime-openvino"


def test_without_metadata_nothing_is_known_of_packages(tmp_path: Path) -> None:
    """A clone on PYTHONPATH has none."""
    software = Software(path=[str(tmp_path)], root=tmp_path)

    assert list(software.versions) == ["Python"]
    assert software.missing_extras == ()
    assert software.list_unmet() == []


@pytest.mark.parametrize(
    ("text", "version"),
    [(CLOSED, "550.54.14"), (OPEN, "580.95.05"), ("", ""), ("no version", "")],
)
def test_the_drivers_version_is_the_kernel_modules(
    tmp_path: Path, text: str, version: str
) -> None:
    """NVIDIA's two kernel modules write it in two ways."""
    path = tmp_path / "proc/driver/nvidia/version"
    path.parent.mkdir(parents=True)
    path.write_text(f"{text}\nGCC version:  gcc version 12.3.0\n")
    versions = Software(path=[str(tmp_path)], root=tmp_path).versions

    assert read_driver(tmp_path) == version
    assert versions.get("NVIDIA driver", "") == version
