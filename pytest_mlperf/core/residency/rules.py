"""May a run start from, or end on, the device? Rules, required bandwidth and proof.

Off unless asked for; allowed only for a system on the enable list (its system file),
for a benchmark that the rules allow, with evidence of a direct path whose measured
bandwidth suffices. Anything else is refused with all its reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field

from pytest_mlperf.core.catalog.facts import Direction
from pytest_mlperf.core.residency.bandwidth import Need
from pytest_mlperf.core.residency.bandwidth import compute_needs
from pytest_mlperf.core.residency.bandwidth import list_allowed_benchmarks

DIRECTIONS: dict[str, Direction] = {"start_from_device": "in", "end_on_device": "out"}


@dataclass(frozen=True, slots=True)
class Residency:
    """Where a run's samples come from and its results stay; both off by default."""

    start: bool = False
    """Samples lie on the device from LoadGen's load on: no copy in is measured."""
    end: bool = False
    """Results stay there: what LoadGen wants to see is fetched after it has the time
    of the completion.
    """

    def __bool__(self) -> bool:
        return self.start or self.end

    @property
    def flags(self) -> tuple[str, ...]:
        """The names of what is asked for, as the rules spell them."""
        return ("start_from_device",) * self.start + ("end_on_device",) * self.end


@dataclass(frozen=True, slots=True)
class DirectPath:
    """What a system file says of the machine: ``[on_device]``."""

    start_from_device: bool = False
    """On the enable list for inputs that lie on the device."""
    end_on_device: bool = False
    diagram: str = ""
    """Where the drawing is of the direct path from network to accelerator."""
    software: str = ""
    """What uses that path: GPUDirect RDMA …"""
    ingress_gb_s: float | None = None
    """Measured from network to device, of one device, 10^9 bytes a second."""
    egress_gb_s: float | None = None
    both_gb_s: float | None = None
    """Measured in both directions at once, as a sum."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What the suite measured between pinned host memory and one device, bytes/s."""

    in_per_s: float
    out_per_s: float
    both_per_s: float
    """Both directions at once, as a sum."""
    device: str
    size: int
    """Bytes of one copy."""


@dataclass(frozen=True, slots=True)
class Claim:
    """All that decides about a run besides its throughput."""

    residency: Residency
    system: str
    evidence: DirectPath
    type_bytes: float = 1
    """Of one element as it lies on the device."""
    probe: Probe | None = field(default=None)

    def decide(self, benchmark: str, rate: float) -> Decision:
        """Return the decision at a rate of samples a second of one device."""
        return decide(
            self.system,
            self.evidence,
            benchmark,
            rate,
            start=self.residency.start,
            end=self.residency.end,
            type_bytes=self.type_bytes,
            probe=self.probe,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request is granted, and the whole reckoning."""

    system: str
    benchmark: str
    start: bool
    end: bool
    """What was asked for."""
    rate: float
    needs: tuple[Need, ...]
    evidence: DirectPath
    probe: Probe | None
    reasons: tuple[str, ...]
    """Why it is refused; empty when it is granted."""

    @property
    def granted(self) -> bool:
        return not self.reasons

    @property
    def required_per_s(self) -> float:
        """The sum of what both directions take at most: the link carries both."""
        return sum(_find_most(self.needs, way) for way in ("in", "out"))


def _find_most(found: tuple[Need, ...], direction: Direction) -> float:
    return max((n.bytes_per_s for n in found if n.direction == direction), default=0.0)


def decide(
    system: str,
    evidence: DirectPath,
    benchmark: str,
    rate: float,
    *,
    start: bool,
    end: bool = False,
    type_bytes: float = 1,
    probe: Probe | None = None,
) -> Decision:
    """Return whether inputs may start from the device, and results stay there.

    ``rate``: measured samples a second of one device; ``type_bytes``: of one element
    as it is transferred.
    """
    ways: list[Direction] = [*["in"] * start, *["out"] * end]  # type: ignore[list-item]
    found = tuple(
        n for way in ways for n in compute_needs(benchmark, rate, type_bytes, way)
    )
    reasons = find_refusals(system, evidence, benchmark, Residency(start, end))
    if ways:
        reasons += _find_too_slow(found, start, end, evidence, probe)
    return Decision(
        system, benchmark, start, end, rate, found, evidence, probe, tuple(reasons)
    )


def find_refusals(
    system: str, evidence: DirectPath, benchmark: str, residency: Residency
) -> list[str]:
    """Return why a run may not be tried at all, whatever its throughput turns out."""
    reasons: list[str] = []
    for flag, direction in DIRECTIONS.items():
        if flag in residency.flags:
            reasons += _refuse_unlisted(flag, getattr(evidence, flag), system)
            reasons += _refuse_benchmark(
                flag, benchmark, list_allowed_benchmarks(direction)
            )
    return reasons + _find_undocumented(evidence) if residency else reasons


def find_undeclared(evidence: DirectPath, residency: Residency) -> list[str]:
    """Return the bandwidths that the system file has yet to say before a run."""
    keys = ("ingress_gb_s",) * residency.start + ("egress_gb_s",) * residency.end
    keys += ("both_gb_s",) * (residency.start and residency.end)
    return [
        f"[on_device] lacks {key}, the measured bandwidth of the direct path"
        for key in keys
        if getattr(evidence, key) is None
    ]


def _refuse_unlisted(flag: str, enabled: bool, system: str) -> list[str]:
    if enabled:
        return []
    reason = (
        f"{flag} is not enabled for {system}: where data reach its devices without "
        f"passing the host's memory, say {flag} = true under [on_device] in "
        f"systems/{system}.toml; otherwise leave the option away"
    )
    return [reason]


def _refuse_benchmark(flag: str, benchmark: str, legal: tuple[str, ...]) -> list[str]:
    if benchmark in legal:
        return []
    return [f"{flag} is not allowed for {benchmark}; it is for {', '.join(legal)}"]


def _find_undocumented(evidence: DirectPath) -> list[str]:
    missing = []
    if not evidence.diagram:
        missing.append("diagram (the drawing of the path from network to device)")
    if not evidence.software:
        missing.append("software (what uses that path, such as GPUDirect)")
    return [f"[on_device] lacks {text}, which the rules ask for" for text in missing]


def _find_too_slow(
    found: tuple[Need, ...],
    start: bool,
    end: bool,
    evidence: DirectPath,
    probe: Probe | None,
) -> list[str]:
    links = []
    if start:
        links.append(("ingress_gb_s", _find_most(found, "in"), evidence.ingress_gb_s))
    if end:
        links.append(("egress_gb_s", _find_most(found, "out"), evidence.egress_gb_s))
    if start and end:
        links.append(
            (
                "both_gb_s",
                _find_most(found, "in") + _find_most(found, "out"),
                evidence.both_gb_s,
            )
        )
    reasons = []
    for key, needed, declared in links:
        if declared is None:
            reasons.append(
                f"[on_device] lacks {key}, the measured bandwidth of the direct path; "
                f"at least {needed / 1e9:.3f} GB/s are required"
            )
        elif declared * 1e9 < needed:
            reasons.append(
                f"{key} = {declared:g}, but {needed / 1e9:.3f} GB/s are required at "
                "this throughput: leave the option away for this benchmark"
            )
    if probe is not None:
        reasons += _doubt_declared(links, probe)
    return reasons


def _doubt_declared(
    links: list[tuple[str, float, float | None]], probe: Probe
) -> list[str]:
    """Distrust a declared bandwidth that the device's own host link falls short of."""
    measured = {
        "ingress_gb_s": ("into the device", probe.in_per_s),
        "egress_gb_s": ("out of the device", probe.out_per_s),
        "both_gb_s": ("both ways at once", probe.both_per_s),
    }
    return [
        f"measured {measured[key][0]}: {measured[key][1] / 1e9:.3f} GB/s from pinned "
        f"memory, but {needed / 1e9:.3f} GB/s are required"
        for key, needed, _ in links
        if measured[key][1] < needed
    ]


def format_proof(decision: Decision) -> str:
    """Return the proof file's text: what is required, what was measured, what lacks."""
    one = decision
    asked = ["start_from_device"] * one.start + ["end_on_device"] * one.end
    lines = [
        f"{' and '.join(asked) or 'nothing'} of {one.benchmark} on {one.system}: "
        + ("granted" if one.granted else "refused"),
        "",
        f"throughput of one device: {one.rate:,.6g} samples/s",
        "",
        "required bandwidth (the larger source counts in each direction):",
    ]
    lines += [
        f"  {need.direction:3} {need.bytes_per_s / 1e9:12.6f} GB/s  {need.source}: "
        f"{need.text}"
        for need in one.needs
    ]
    if len({need.direction for need in one.needs}) == 2:
        total = one.required_per_s / 1e9
        lines.append(f"  sum {total:12.6f} GB/s  both directions at once")
    said = one.evidence
    lines += ["", "declared of the direct path from the network to one device:"]
    rows = (
        ("in", said.ingress_gb_s),
        ("out", said.egress_gb_s),
        ("sum", said.both_gb_s),
    )
    lines += [
        f"  {name:3} {value:12.6f} GB/s" if value is not None else f"  {name:3} missing"
        for name, value in rows
    ]
    lines += ["", "measured between pinned host memory and the device:"]
    if one.probe is None:
        lines.append("  not measured")
    else:
        at = f"copies of {one.probe.size:,} bytes on {one.probe.device}"
        lines += [
            f"  in  {one.probe.in_per_s / 1e9:12.6f} GB/s",
            f"  out {one.probe.out_per_s / 1e9:12.6f} GB/s",
            f"  sum {one.probe.both_per_s / 1e9:12.6f} GB/s  ({at})",
        ]
    lines += [
        "",
        f"diagram: {said.diagram or 'missing'}",
        f"software: {said.software or 'missing'}",
    ]
    if one.reasons:
        lines += ["", "refused because:", *(f"  - {why}" for why in one.reasons)]
    lines += [
        "",
        "The committee's approval is a person's work; this file is what to ask with.",
    ]
    return "\n".join(lines) + "\n"
