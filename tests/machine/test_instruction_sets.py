"""What /proc/cpuinfo tells of the sets that decide the speed of a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlperf.machine.instruction_sets import describe_instruction_sets
from pytest_mlperf.machine.instruction_sets import has_int8
from pytest_mlperf.machine.instruction_sets import read_instruction_sets


@pytest.mark.parametrize(
    ("line", "sets", "int8"),
    [
        (
            "flags\t\t: fpu avx2 avx512f avx512_vnni",
            "AVX2, AVX-512, AVX-512 VNNI",
            True,
        ),
        ("flags\t\t: fpu avx2 avx_vnni", "AVX2, AVX VNNI", True),
        ("flags\t: avx512f amx_bf16 amx_int8", "AVX-512, AMX BF16, AMX INT8", True),
        ("Features\t: fp asimd asimddp", "NEON, NEON dot product", True),
        ("flags\t\t: fpu avx2 avx512f", "AVX2, AVX-512; none made for int8", False),
        ("Features\t: fp asimd", "NEON; none made for int8", False),
        ("Hardware\t: x", "none known; none made for int8", False),
    ],
)
def test_the_sets_of_the_first_cpu(
    tmp_path: Path, line: str, sets: str, int8: bool
) -> None:
    """By their makers' names, with whether int8 has instructions of its own."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        f"processor\t: 0\n{line}\n\nprocessor\t: 1\n"
    )
    found = read_instruction_sets(tmp_path)

    assert describe_instruction_sets(found).partition(" (")[0] == sets
    assert has_int8(found) == int8


def test_a_machine_that_hides_its_cpu(tmp_path: Path) -> None:
    """It has none, and that is no error."""
    assert read_instruction_sets(tmp_path) == ()
