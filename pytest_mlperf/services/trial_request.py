"""The request that a preflight sends, to see that a service's answers can be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pytest_mlperf.api.request_batch import send_all
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.service import Requests
from pytest_mlperf.api.service import ServiceProvider
from pytest_mlperf.api.service import ServiceTarget

TRIAL_S = 120.0
"""How long a trial may take: the first request may compile kernels."""


def send_trial(
    service: ServiceProvider,
    target: ServiceTarget,
    requests: Requests,
    beat: Callable[[], None],
) -> Answer:
    """Return the answer to sample 0, whose request is loaded.

    Raises ``RequestFailed``.
    """
    patient = replace(target, timeout_s=min(TRIAL_S, target.timeout_s))
    batch = send_all(
        lambda listener: service.open(patient, requests, listener),
        [0], outstanding=1, count=1, beat=beat,
    )  # fmt: skip
    return batch.answers[0]
