"""Which workloads a benchmark has: no other name is taken for the embedded one."""

from __future__ import annotations

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.api.errors import RequirementMissing


@pytest.mark.parametrize("name", sorted(registry.names("benchmark")))
@pytest.mark.parametrize("kind", ["nonsense", "Embedded"])
def test_an_unknown_kind_of_workload_is_named(name: str, kind: str) -> None:
    """Of bert and llama3.1-8b the embedded one had been opened."""
    benchmark = registry.load("benchmark", name)
    expected = f"{name} has no '?{kind}'? workload"
    with pytest.raises((ValueError, RequirementMissing), match=expected) as refused:
        benchmark.open_workload(kind, None)

    assert "--mlperf-workload" in str(refused.value)
    assert "official" in str(refused.value)
