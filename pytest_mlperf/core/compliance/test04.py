"""TEST04: the same sample over and over is not answered faster, so nothing is cached.

Up to v2.0 it is a pair: TEST04-A issues every sample once, and TEST04-B one sample as
often. mlcommons/inference b66003e1, compliance/TEST04/verify_performance.py; tag v2.0,
compliance/nvidia/TEST04-A.
"""

from __future__ import annotations

from pytest_mlperf.core import catalog
from pytest_mlperf.core.compliance import report
from pytest_mlperf.core.compliance.audit import SOURCE
from pytest_mlperf.core.compliance.audit import V2_SOURCE
from pytest_mlperf.core.compliance.audit import Audit
from pytest_mlperf.core.compliance.audit import AuditedRun
from pytest_mlperf.core.compliance.audit import AuditFinding
from pytest_mlperf.core.compliance.audit import AuditTest
from pytest_mlperf.core.compliance.audit import make_audit
from pytest_mlperf.core.compliance.speed import KEYS
from pytest_mlperf.core.compliance.speed import QUICK
from pytest_mlperf.core.compliance.speed import SHARE
from pytest_mlperf.core.compliance.speed import V2_KEYS
from pytest_mlperf.core.compliance.speed import SpeedComparison
from pytest_mlperf.core.compliance.speed import SpeedTest
from pytest_mlperf.core.compliance.speed import choose_share
from pytest_mlperf.core.compliance.speed import explain_incomparable
from pytest_mlperf.core.compliance.speed import explain_other_scenario
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.rounds.rule import Rule

SAME_SAMPLE = {
    "performance_issue_unique": 0,
    "performance_issue_same": 1,
    "performance_issue_same_index": 3,
}
CACHE = (
    "look for a cache: the same sample must not be answered faster; if there is none, "
    "end what else runs on this machine, and repeat performance and this run"
)
LABELS = {"Server": "Completed samples per second", "Offline": "Samples per second"}
"""Lines of the summary that the official script prints."""


class SameSample(SpeedTest):
    """TEST04."""

    name = "TEST04"
    needs = ("performance",)
    as_performance = True
    is_timed = True
    remedy = CACHE
    files = (report.VERIFY_PERFORMANCE, *report.LOGS)

    def resolve(self, rule: Rule) -> Audit:
        counts = catalog.get(rule.benchmark).same_sample_queries
        queries = counts.get(rule.scenario.loadgen)
        model = {"min_query_count": queries} if queries else {}
        source = f"{SOURCE}TEST04/audit.config"
        return make_audit(self, rule, SAME_SAMPLE, source, for_model=model)

    def compare(self, reference: Log, tested: Log, rule: Rule) -> SpeedComparison:
        """Less than 10 % faster, in samples or queries a second.

        Streams get 20 % up to 200,000 (SingleStream) and 1,600,000 (MultiStream), which
        the script compares with queries a second: in practice always.
        """
        del rule
        scenario = reference.text("effective_scenario")
        before, shown = read_rate(reference, scenario)
        share = choose_share(scenario, before)
        invalid = explain_incomparable(reference, tested)
        after, after_shown = (before, shown) if invalid else read_rate(tested, scenario)
        high = before * (1 + share)
        lines = (shown, after_shown)
        return SpeedComparison(before, after, None, high, True, invalid, lines=lines)


class EverySampleOnce(AuditTest):
    """TEST04-A: the reference of TEST04-B."""

    name = "TEST04-A"
    ends_early = True
    is_timed = True
    files = (report.VERIFY_PERFORMANCE, *report.LOGS)

    def resolve(self, rule: Rule) -> Audit:
        unique = {"performance_issue_unique": 1, "performance_issue_same": 0}
        source = f"{V2_SOURCE}TEST04-A/audit.config"
        return make_audit(self, rule, unique, source)

    def verify(self, run: AuditedRun) -> tuple[AuditFinding, ...]:
        del run
        return ()


class OneSampleAsOften(SpeedTest):
    """TEST04-B: one sample as often as TEST04-A had samples."""

    name = "TEST04-B"
    ends_early = True
    needs = ("TEST04-A",)
    is_timed = True
    pair_with = "TEST04-A"
    speed_reference = "TEST04-A"
    labels = ("TEST04-A score", "TEST04-B score")
    remedy = CACHE
    files = report.LOGS

    def resolve(self, rule: Rule) -> Audit:
        source = f"{V2_SOURCE}TEST04-B/audit.config"
        return make_audit(self, rule, SAME_SAMPLE, source)

    def compare(self, reference: Log, tested: Log, rule: Rule) -> SpeedComparison:
        """At most 10 % (quick SingleStream: 20 %) faster than TEST04-A.

        Slower passes with a note. The script itself reads MultiStream's latency as a
        rate.
        """
        del rule
        unique, same = reference, tested
        scenario = unique.text("effective_scenario")
        before = unique.number(V2_KEYS.get(scenario, ""))
        share = SHARE
        if scenario == "SingleStream":
            share = choose_share(scenario, before)
        invalid = explain_other_scenario(unique, same)
        for log, key in ((unique, "unique"), (same, "same")):
            if not log.flag(f"effective_performance_issue_{key}"):
                invalid = f"a run without performance_issue_{key}"
        after = before if invalid else same.number(V2_KEYS[scenario])
        low, high = before * (1 - share), before * (1 + share)
        slower = after >= high if scenario == "SingleStream" else after <= low
        note = "TEST04-B is significantly slower than TEST04-A" if slower else ""
        shown = (f"{before}", f"{after}")
        if scenario == "SingleStream":
            return SpeedComparison(before, after, low, None, True, invalid, note, shown)
        return SpeedComparison(before, after, None, high, True, invalid, note, shown)


def read_rate(log: Log, scenario: str) -> tuple[float, str]:
    """Return samples or queries a second, and how the official script prints it.

    It reads the summary, whose figures are the detail log's.
    """
    key = KEYS.get(scenario, "")
    value = log.number(key)
    if scenario in QUICK:
        if value <= 0:
            path = log.folder / DETAIL
            raise LogError(path, log.lines[key], f"{key} = {value:g}", "above 0")
        return 1e9 / value, f"{1e9 / value}"
    return value, log.summary.get(LABELS[scenario], f"{value}")


TEST04 = SameSample()
TEST04_A = EverySampleOnce()
TEST04_B = OneSampleAsOften()
