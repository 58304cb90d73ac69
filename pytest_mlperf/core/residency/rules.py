"""May a run start from, or end on, the device? Rules, required bandwidth and proof.

Off unless asked for; allowed only for a system on the enable list (its system file),
for a benchmark that the rules allow, with evidence of a direct path whose measured
bandwidth suffices. Anything else is refused with all reasons.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mlperf.core.residency.bandwidth import Direction
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
    """Results stay there: LoadGen's copy is fetched after the completion is timed."""

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
    """On the enable list for inputs on the device."""
    end_on_device: bool = False
    diagram: str = ""
    """File of the drawing of the direct path from network to accelerator."""
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
    path: DirectPath
    type_bytes: float = 1
    """Of one element as it lies on the device."""
    probe: Probe | None = None

    def decide(self, benchmark: str, rate: float) -> Decision:
        """Return the decision at a rate of samples a second of one device."""
        asked = self.residency
        needs = tuple(
            need
            for flag in asked.flags
            for need in compute_needs(
                benchmark, rate, self.type_bytes, DIRECTIONS[flag]
            )
        )
        reasons = find_refusals(self.system, self.path, benchmark, asked)
        reasons += _find_too_slow(needs, self)
        return Decision(self, benchmark, rate, needs, tuple(reasons))


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a claim is granted, and the whole calculation."""

    claim: Claim
    benchmark: str
    rate: float
    needs: tuple[Need, ...]
    reasons: tuple[str, ...]
    """Why it is refused; empty when it is granted."""

    @property
    def granted(self) -> bool:
        return not self.reasons

    @property
    def required_per_s(self) -> float:
        """The sum of what both directions take at most: the link carries both."""
        return sum(_find_most(self.needs, way) for way in DIRECTIONS.values())


def _find_most(needs: tuple[Need, ...], direction: Direction) -> float:
    return max((n.bytes_per_s for n in needs if n.direction == direction), default=0.0)


def find_refusals(
    system: str, path: DirectPath, benchmark: str, residency: Residency
) -> list[str]:
    """Return why a run may not be tried at all, at any throughput."""
    reasons: list[str] = []
    for flag in residency.flags:
        if not getattr(path, flag):
            reasons.append(
                f"{flag} is not enabled for {system}: where data reach its devices "
                f"without passing the host's memory, say {flag} = true under "
                f"[on_device] in systems/{system}.toml; otherwise leave the option away"
            )
        legal = list_allowed_benchmarks(DIRECTIONS[flag])
        if benchmark not in legal:
            reasons.append(
                f"{flag} is not allowed for {benchmark}; it is for {', '.join(legal)}"
            )
    documents = {
        "diagram (the drawing of the path from network to device)": path.diagram,
        "software (what uses that path, such as GPUDirect)": path.software,
    }
    return reasons + [
        f"[on_device] lacks {text}, which the rules ask for"
        for text, value in documents.items()
        if residency and not value
    ]


def find_undeclared(path: DirectPath, residency: Residency) -> list[str]:
    """Return the bandwidths that the system file lacks."""
    return [
        f"[on_device] lacks {key}, the measured bandwidth of the direct path"
        for key in _list_links(residency)
        if getattr(path, key) is None
    ]


def _list_links(residency: Residency) -> list[str]:
    """Return the keys of ``[on_device]`` whose bandwidths a run takes."""
    keys = ["ingress_gb_s"] * residency.start + ["egress_gb_s"] * residency.end
    return keys + ["both_gb_s"] * (residency.start and residency.end)


def _find_too_slow(needs: tuple[Need, ...], claim: Claim) -> list[str]:
    """Return the links that carry too little, as declared and then as measured.

    A declared bandwidth above that of the device's own host link proves nothing.
    """
    into, out = _find_most(needs, "in"), _find_most(needs, "out")
    required = {"ingress_gb_s": into, "egress_gb_s": out, "both_gb_s": into + out}
    reasons = []
    for key in _list_links(claim.residency):
        declared, needed = getattr(claim.path, key), required[key]
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
    if (probe := claim.probe) is None:
        return reasons
    measured = {
        "ingress_gb_s": ("into the device", probe.in_per_s),
        "egress_gb_s": ("out of the device", probe.out_per_s),
        "both_gb_s": ("both ways at once", probe.both_per_s),
    }
    return reasons + [
        f"measured {measured[key][0]}: {measured[key][1] / 1e9:.3f} GB/s from pinned "
        f"memory, but {required[key] / 1e9:.3f} GB/s are required"
        for key in _list_links(claim.residency)
        if measured[key][1] < required[key]
    ]


def format_needs(decision: Decision) -> str:
    """Return what a sample takes over the link, by direction and source."""
    lines = [f"bytes of a sample of {decision.benchmark}:"]
    lines += [
        f"  {need.direction:3} {need.bytes_per_s:14,.10g}  {need.source}: "
        f"{need.text.partition(' bytes ')[2]}"
        for need in decision.needs
    ]
    if not decision.needs:
        lines.append("  no source has a formula for it")
    return "\n".join(lines) + "\n"


def format_proof(decision: Decision) -> str:
    """Return the proof file's text: what is required, measured and missing."""
    claim, path, probe = decision.claim, decision.claim.path, decision.claim.probe
    asked = " and ".join(claim.residency.flags) or "nothing"
    granted = "granted" if decision.granted else "refused"
    lines = [
        f"{asked} of {decision.benchmark} on {claim.system}: {granted}",
        "",
        f"throughput of one device: {decision.rate:,.6g} samples/s",
        "",
        "required bandwidth (the larger source counts in each direction):",
    ]
    lines += [
        f"  {need.direction:3} {need.bytes_per_s / 1e9:12.6f} GB/s  {need.source}: "
        f"{need.text}"
        for need in decision.needs
    ]
    if len({need.direction for need in decision.needs}) == 2:
        total = decision.required_per_s / 1e9
        lines.append(f"  sum {total:12.6f} GB/s  both directions at once")
    lines += ["", "declared of the direct path from the network to one device:"]
    rows = (
        ("in", path.ingress_gb_s),
        ("out", path.egress_gb_s),
        ("sum", path.both_gb_s),
    )
    lines += [
        f"  {name:3} {value:12.6f} GB/s" if value is not None else f"  {name:3} missing"
        for name, value in rows
    ]
    lines += ["", "measured between pinned host memory and the device:"]
    if probe is None:
        lines.append("  not measured")
    else:
        at = f"copies of {probe.size:,} bytes on {probe.device}"
        lines += [
            f"  in  {probe.in_per_s / 1e9:12.6f} GB/s",
            f"  out {probe.out_per_s / 1e9:12.6f} GB/s",
            f"  sum {probe.both_per_s / 1e9:12.6f} GB/s  ({at})",
        ]
    lines += [
        "",
        f"diagram: {path.diagram or 'missing'}",
        f"software: {path.software or 'missing'}",
    ]
    if decision.reasons:
        lines += ["", "refused because:", *(f"  - {why}" for why in decision.reasons)]
    lines += [
        "",
        "The committee's approval is a person's work; this file is what to ask with.",
    ]
    return "\n".join(lines) + "\n"
