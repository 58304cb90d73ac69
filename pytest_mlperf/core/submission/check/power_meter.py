"""The meter of a power session, and the code that measured: are they supported ones?

Source: mlcommons/inference, tools/submission/power at the tags v3.0 to v5.1.1 and
b66003e1: power_checker.py (sources_check, ptd_messages_check, check_ptd_config) and
sources_checksums.json.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator

from pytest_mlperf.core import rounds
from pytest_mlperf.core.power.meters import METERS
from pytest_mlperf.core.power.meters import TWO_CHANNELS
from pytest_mlperf.core.submission.check.power import AGAIN
from pytest_mlperf.core.submission.check.power import PtdSession
from pytest_mlperf.core.submission.check.power import read_exchanges
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.submission.check.problem import make_fault
from pytest_mlperf.core.submission.check.since import find_ptd_versions
from pytest_mlperf.core.submission.check.since import is_asked

SOURCES_RULE = "power_sources"
SOURCES = (
    ("v5.0", ("a6b42148e7374e6b36be9b2ac930bdd5ba3ffede3ac23b67d3fc3d80c8e17c17",)),
    ("v4.0", ("085aedff769d3172ba1fc6375eb054ef60853bae471186b1dc6b3eaf456cbc3e",)),
    ("v3.1", ("ca4c5a70374db8de819d0e3a639bd0e4504d1a2356f34c7829e6e38887b9bade",
              "a9393b1f9bf769f3bbaac269cd78284f7d11aa6bec043d39a83f849ed67de9e0",
              "fc7f9a0a0faa4e59b96b7295553572aafa2e51f442399fdf983359073ae89769")),
    ("v3.0", ("70adeb5848ae3be2d0d091ac1be3a90b7a8cc3c8ecfc97590cb72fcb6130c349",
              "f61649fa4e13360d3c0300bf0cf601be900c15d27265009c1c435bbf740d40f4",
              "f28d2e63d4df6a6d410e86658fe2dae02bf212a4823d5b207866f9448b0eb0b9")),
)  # fmt: skip
"""First round -> SHA-256 of each entry of its checker's table, as sorted compact JSON.
The tables of earlier rounds are not compared."""
REPLIES = (
    ("SR,A", "Range A changed"),
    ("SR,V", "Range V changed"),
    (
        "Go,1000,",
        (
            "Starting untimed measurement, maximum 500000 samples at 1000ms with 0 "
            "rampup samples"
        ),
    ),
    ("Stop", "Stopping untimed measurement"),
)
"""How a command begins -> PTDaemon's reply."""
STOP_TOO_MANY = "Error: no measurement to stop"
"""The reply to a third Stop."""

meter_rule = make_fault("power_meter")
sources_rule = make_fault(SOURCES_RULE)


def sources_problems(own: PtdSession, round_name: str) -> Iterator[Problem]:
    """Client and server are mlcommons' own code, unchanged."""
    for since, sums in SOURCES:
        if rounds.is_before(round_name, since):
            continue
        for name, end in (("client", own.client), ("server", own.server)):
            if digest_sources(end["sources"]) not in sums:
                required = f"the {name} of mlcommons/power-dev that the round names"
                remedy = "measure with it; results of any other code are not accepted"
                path = own.path(f"power/{name}.json")
                yield sources_rule(path, "sums of other sources", required, remedy)
        return


def digest_sources(sources: object) -> str:
    """Return the SHA-256 of a table of sums, as ``SOURCES`` has it."""
    text = json.dumps(sources, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def meter_problems(own: PtdSession, round_name: str) -> Iterator[Problem]:
    """Meter and PTDaemon are supported ones (ptd_messages_check, check_ptd_config)."""
    path = own.path("power/server.json")
    replies = dict(reversed(read_exchanges(own.server["ptd_messages"])))
    identity = replies.get("Identify", "")
    model = identity.partition(",")[0]
    version = re.search(r"version=(.+?)-", identity)
    if model not in METERS:
        required = f"one of {', '.join(METERS)}"
        yield meter_rule(path, f"meter {model[:40]!r}", required, "use such a meter")
    versions = find_ptd_versions(round_name)
    if not version or version[1] not in versions:
        shown = f"PTDaemon {version[1][:20] if version else 'of no version'}"
        required = " or ".join(versions)
        remedy = f"measure with PTDaemon {versions[-1]}"
        yield meter_rule(path, shown, required, remedy)
    yield from config_problems(own, path)
    yield from reply_problems(own, path, round_name)


def config_problems(own: PtdSession, path: str) -> Iterator[Problem]:
    """The configured devices are supported ones, with the channels they need."""
    config = own.server["ptd_config"]
    for analyzer in config if isinstance(config, list) else [config]:
        record = analyzer if isinstance(analyzer, dict) else {}
        device, channel = record.get("device_type"), record.get("channel")
        if device not in METERS.values():
            required = f"one of {', '.join(map(str, sorted(set(METERS.values()))))}"
            shown = f"device_type {str(device)[:20]}"
            yield meter_rule(path, shown, required, "use such a meter")
        pair = isinstance(channel, list) and len(channel) == 2
        if device == TWO_CHANNELS and not pair:
            shown = f"channel {str(channel)[:40]}"
            yield meter_rule(path, shown, "two channels", "configure both channels")


def reply_problems(own: PtdSession, path: str, round_name: str) -> Iterator[Problem]:
    """The meter did what it was told, and was left with the ranges it had before."""
    said = read_exchanges(own.server["ptd_messages"])
    for start, expected in REPLIES:
        found = [(cmd, reply) for cmd, reply in said if cmd.startswith(start)]
        if not found:
            yield meter_rule(path, f"no command {start!r}", "both phases'", AGAIN)
        for number, (command, reply) in enumerate(found):
            is_extra = command == "Stop" and number >= 2
            wanted = STOP_TOO_MANY if is_extra else expected
            if reply != wanted:
                shown = f"{command[:40]!r} answered {reply[:80]!r}"
                yield meter_rule(path, shown, repr(wanted), AGAIN)
    before = said[2][1].split(",") if len(said) > 2 else []
    # The third setting of volts, and the third or fourth of amperes, is the last one.
    for what, place, allowed in (("A", 1, (2, 3)), ("V", 3, (2,))):
        fixed = before[place : place + 1] == ["0"] and is_above_zero(before, place + 1)
        wanted = f"SR,{what},{before[place + 1] if fixed else 'Auto'}"
        sent = [cmd for cmd, _ in said if cmd.startswith(f"SR,{what}")]
        if what == "A" and len(sent) < 4 and is_asked("four_ranges", round_name):
            required = "4: twice before ranging, before testing, and at the end"
            yield meter_rule(path, f"range A set {len(sent)} times", required, AGAIN)
        if wanted not in [sent[n] for n in allowed if n < len(sent)]:
            shown = f"range {what} set {', '.join(sent)[:80] or 'never'}"
            required = f"{wanted} at the end, the range before"
            yield meter_rule(path, shown, required, AGAIN)


def is_above_zero(fields: list[str], place: int) -> bool:
    """True where a field is a number above zero."""
    try:
        return float(fields[place]) > 0
    except (ValueError, IndexError):
        return False
