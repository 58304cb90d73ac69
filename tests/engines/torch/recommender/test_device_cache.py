"""The device cache's kernels, in Triton's interpreter and compiled without a device."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

for package in ("torch", "triton"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}", allow_module_level=True)


@pytest.fixture(scope="module")
def findings() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.interpreted_recommender"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("policy", ["lfu", "lru"])
def test_every_vector_is_the_sum_of_its_keys_rows(
    findings: dict[str, Any], policy: str
) -> None:
    """Through hits, misses, evictions and updates, in resident and cached tables."""
    found = findings[policy]

    assert found.pop("evictions") > 0
    assert found == {
        "wrong": 0,
        "twice": 0,
        "overfull": 0,
        "missed more than asked": False,
        "slots": 3 + 2 * 16,
        "unknown": 2,
    }


@pytest.mark.parametrize("kind", ["dot", "cross", "split dot", "split cross"])
def test_the_dense_part_computes_what_pytorch_computes(
    findings: dict[str, Any], kind: str
) -> None:
    """Dot interaction in a kernel of our own, and low-rank cross layers."""
    assert findings[kind] < 1e-6


def test_three_products_of_split_numbers_are_nearly_as_exact_as_float32(
    findings: dict[str, Any],
) -> None:
    """Numbers rounded as TF32 rounds them: one product loses ten bits, three do not."""
    errors = findings["errors"]

    assert errors["tf32"] > 1e-4
    assert errors["split"] < 1e-6


def test_the_kernels_compile_for_hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """No device is needed to see that they are legal there, with and without LRU."""
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # it warns of its own default
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compile_kernel

    from pytest_mlperf.engines.torch.recommender import kernels

    long = ("offsets", "sizes", "residents", "statistics")
    numbers = ("cache", "out", "staged_rows", "features", "values")
    tables = ("keys", "tags", "uses", "locks", "staged", "count", "epoch", "columns")
    types = {
        **dict.fromkeys(numbers, "*fp16"),
        **dict.fromkeys(long, "*i64"),
        **dict.fromkeys((*tables, "hotness"), "*i32"),
        "host": "i64",
    }
    cache = {"D": 128, "WAYS": 16, "BLOCK": 16}
    pairs = {"F": 27, "D": 128, "ROWS": 32}
    for kernel, constants in (
        (kernels.look_up, {**cache, "LRU": True}),
        (kernels.look_up, {**cache, "LRU": False}),
        (kernels.insert, {**cache, "LRU": False}),
        (kernels.interact, {**pairs, "PRODUCTS": "tf32"}),
        (kernels.interact, {**pairs, "PRODUCTS": "tf32x3"}),
        (kernels.split, {"BLOCK": 512}),
    ):
        names = kernel.arg_names
        signature = {
            n: "constexpr" if n in constants else types.get(n, "i32") for n in names
        }
        if constants.get("PRODUCTS") == "tf32x3" or kernel is kernels.split:
            signature = {n: t.replace("fp16", "fp32") for n, t in signature.items()}
        places = {(names.index(n),): value for n, value in constants.items()}
        source = ASTSource(kernel, signature, places)

        made = compile_kernel(source, target=GPUTarget("cuda", 90, 32))

        assert made.asm["cubin"]
