"""What a run's program decides on, as values; the text for people is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from typing import Any

from pytest_mlperf.core.power.result import describe_power

BARE_LOOP = "bare_loop_per_s"
"""The text that says what the engines did alone, samples/s."""

CONTENDED = 0.1
"""Share of a run's CPUs above which other programs' load stands beside its verdict."""
BURST = 0.2
"""The same of one second of a run: its queries waited."""
NAMED_SESSIONS = 2
"""Sessions beside a run that are named in a line; the others are counted."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run's facts. Everything that code reads stands in a field of its own.

    ``texts`` holds what only people read: its names and words may change at any time.
    """

    device: str = ""
    """The device as NVML or the engine calls it; empty where neither says."""
    uses_gpu: bool = True
    """False where the engine leaves a visible GPU alone."""
    accelerators: int = 0
    """GPUs that answered; 0 where CPUs or a service elsewhere did."""
    devices: int = 1
    """Devices that answered together behind one LoadGen."""
    precision: str = ""
    """``int8``, ``fp8`` …; empty where a server does not say."""
    input_types: tuple[str, ...] = ()
    """Types of a sample's arrays as submissions name them: ``fp32``."""
    workload: str = ""
    """Model and data in one line."""
    weights_file: str = ""
    weight_transformations: str = ""
    start_from_device: bool = False
    end_on_device: bool = False
    bare_loop_per_s: float | None = None
    """Samples/s of the engines alone, over all devices."""
    probed_share: float | None = None
    """Latency of a trial in the probe as a share of its bound, at this run's load or
    more; None where the load was given."""
    target_qps: float | None = None
    """LoadGen's setting: the load of a Server run, the rate that Offline expects."""
    is_disturbed: bool = False
    """True where other programs took so much CPU time that the figure suffered."""
    others_share: float = 0.0
    """Share of the run's CPUs, 0 to 1, that other programs used meanwhile."""
    others_peak: float = 0.0
    """The same in the second in which they used most."""
    others_peak_at_s: float = 0.0
    """When that was, in seconds since LoadGen started."""
    rate_error: float = 0.0
    """Standard error of the mean rate, from the rates of its seconds, as a share of it;
    0 where the run was too short to tell."""
    stopped_after_s: float = 0.0
    """Seconds after which --mlperf-stop-early ended the run; 0: it ended by itself."""
    throttled: str = ""
    """How the cgroup's CPU quota held the run back, in words; empty: not at all."""
    sessions_beside: tuple[str, ...] = ()
    """Reports folders of other sessions that measured on this machine meanwhile."""
    is_attached: bool = False
    """The service ran before: its own load, if it is here, is other programs'."""
    requests: int = 0
    """That a service was sent; 0 where an engine answered."""
    resent: int = 0
    """Of those, that went out twice, because a connection closed under them."""
    refused_fields: tuple[str, ...] = ()
    """What the rules put into a request and the server refuses: ``ignore_eos``."""
    breakdown_us: Mapping[str, float] = field(default_factory=dict)
    """Step of a request -> its mean time, where a server tells it."""
    end_to_end_us: float = 0.0
    """LoadGen's mean latency beside it."""
    first_run: Mapping[str, str] = field(default_factory=dict)
    """Of the INVALID run that this one follows: its ``outcome``, ``cause``, ``figure``
    and ``folder``, and the ``change``; empty where the run is the first."""
    compared_with: Mapping[str, str] = field(default_factory=dict)
    """Compliance: what the test needs -> the folder of that run."""
    power: Mapping[str, float | str] = field(default_factory=dict)
    """A power meter's figures, ``PowerFigures.to_dict``; empty without a meter."""
    chip_watts: Mapping[str, float] = field(default_factory=dict)
    """Unofficial: what tells -> its average watts: ``GPU 0 (NVML)``."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Name -> words for people."""

    @property
    def on_device(self) -> tuple[str, ...]:
        """The flags of a run that started from, or ended on, the device."""
        flags = {
            "start_from_device": self.start_from_device,
            "end_on_device": self.end_on_device,
        }
        return tuple(flag for flag, is_set in flags.items() if is_set)

    @property
    def disturbance(self) -> str:
        """What ran beside and is worth a word beside the figure; empty for a quiet run.

        An attached server's own load is not told from other programs'.
        """
        parts = []
        if self.others_share > CONTENDED and not self.is_attached:
            parts.append(f"other load of {self.others_share:.0%} of its CPUs")
        if self.sessions_beside:
            names = list(self.sessions_beside[:NAMED_SESSIONS])
            if more := len(self.sessions_beside) - len(names):
                names.append(f"{more} more")
            parts.append(f"another session ({', '.join(names)})")
        return " and ".join(parts)

    @property
    def second_run(self) -> str:
        """What was changed after an INVALID run; empty where this one follows none."""
        first = self.first_run
        if not first:
            return ""
        text = f"second run: {first['change']}, the first was {first['outcome']}"
        return text + f" at {first['figure']}" * bool(first["figure"])

    def to_texts(self) -> dict[str, str]:
        """Return every fact in words, name -> text; empty ones are left out."""
        loop = self.bare_loop_per_s
        values = {
            "device": self.device,
            "accelerators": str(self.accelerators or ""),
            "devices": str(self.devices) if self.devices > 1 else "",
            "precision": self.precision,
            "input types": ", ".join(self.input_types),
            "workload": self.workload,
            "refused by the server": ", ".join(self.refused_fields),
            "weights file": self.weights_file,
            "weight transformations": self.weight_transformations,
            "chips": describe_power({}, self.chip_watts),
            BARE_LOOP: "" if loop is None else f"{loop:.6g}",
            **dict.fromkeys(self.on_device, "true"),
            **{f"compared with {k}": path for k, path in self.compared_with.items()},
        }
        return {**{k: v for k, v in values.items() if v}, **self.texts}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values that ``from_dict`` reads back, without the texts."""
        values = asdict(self)
        del values["texts"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunFacts:
        """Return the facts of ``to_dict``'s values; a newer version may have more."""
        names = ("input_types", "sessions_beside", "refused_fields")
        tuples = {name: tuple(values.get(name, ())) for name in names}
        known = {one.name for one in fields(cls)}
        given = {name: one for name, one in values.items() if name in known}
        return cls(**{**given, **tuples})
