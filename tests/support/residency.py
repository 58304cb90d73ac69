"""Shared by several test modules."""

from __future__ import annotations

from pytest_mlperf.core.residency.rules import DirectPath

GOOD = DirectPath(
    start_from_device=True,
    end_on_device=True,
    diagram="topology.png",
    software="GPUDirect RDMA",
    ingress_gb_s=25.0,
    egress_gb_s=25.0,
    both_gb_s=45.0,
)
