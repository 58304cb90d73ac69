"""TEST05: other seeds give the same performance.

mlcommons/inference tag v2.0, compliance/nvidia/TEST05. That of v4.1 asks LoadGen for
its own TEST05 seeds, which are the round's.
"""

from __future__ import annotations

from pytest_mlperf.core import rounds
from pytest_mlperf.core.compliance import report
from pytest_mlperf.core.compliance.audit import V2_SOURCE
from pytest_mlperf.core.compliance.audit import Audit
from pytest_mlperf.core.compliance.audit import make_audit
from pytest_mlperf.core.compliance.speed import KEYS
from pytest_mlperf.core.compliance.speed import QUICK_SHARE
from pytest_mlperf.core.compliance.speed import V2_KEYS
from pytest_mlperf.core.compliance.speed import SpeedComparison
from pytest_mlperf.core.compliance.speed import SpeedTest
from pytest_mlperf.core.compliance.speed import choose_share
from pytest_mlperf.core.compliance.speed import compare_both_ways
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.rounds.rule import Rule
from pytest_mlperf.core.types import Seeds

V2_SHARE = 0.05


class OtherSeeds(SpeedTest):
    """TEST05."""

    name = "TEST05"
    needs = ("performance",)
    as_performance = True
    is_timed = True
    files = (report.VERIFY_PERFORMANCE, *report.LOGS)

    def resolve(self, rule: Rule) -> Audit:
        seeds = self.seeds(rounds.get(rule.round).seeds)
        assert seeds is not None, f"{rule.round} has TEST05 and no seeds for it"
        settings = {
            "qsl_rng_seed": seeds.qsl,
            "sample_index_rng_seed": seeds.sample_index,
            "schedule_rng_seed": seeds.schedule,
        }
        return make_audit(self, rule, settings, f"{V2_SOURCE}TEST05/audit.config")

    def seeds(self, seeds: Seeds) -> Seeds | None:
        own = seeds.test05
        return Seeds(*own, test05=own) if own else None

    def compare(self, reference: Log, tested: Log, rule: Rule) -> SpeedComparison:
        """As TEST01; up to v2.0 within 5 %, or 20 % for quick SingleStream."""
        if not rounds.is_before(rule.round, "v2.1"):
            return compare_both_ways(reference, tested, KEYS)
        scenario, share = reference.text("effective_scenario"), V2_SHARE
        before = reference.number(V2_KEYS.get(scenario, ""))
        if scenario == "SingleStream" and choose_share(scenario, before) == QUICK_SHARE:
            share = QUICK_SHARE
        return compare_both_ways(reference, tested, V2_KEYS, share=share, strict=True)


TEST05 = OtherSeeds()
