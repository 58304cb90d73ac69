"""Which devices an item runs on: its worker's share of the machine, or all of it.

Worker ``i`` of ``n`` owns one run of neighbouring devices; where there is no GPU, of
CPUs. An item that takes more than its worker owns runs alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_mlperf.core.errors import Refused
from pytest_mlperf.machine.gpus import Device
from pytest_mlperf.machine.gpus import devices
from pytest_mlperf.machine.gpus import split_cpus
from pytest_mlperf.machine.numa import format_ids
from pytest_mlperf.runner.messages import Seat

if TYPE_CHECKING:
    from pytest_mlperf.machine.system import System
    from pytest_mlperf.plugin.session import State

ALL = "all"
Count = int | str
"""How many devices an item takes: a number, or ``all``."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of this machine that an item measures on."""

    cpus: tuple[int, ...]
    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    """For the runner: the devices it may see, set before anything touches them."""
    seats: tuple[Seat, ...] = ()
    """Several devices, a process each; empty: the runner has the one device itself."""
    alone: bool = False
    """True when other workers' devices are in it."""

    @property
    def visible(self) -> tuple[str, ...]:
        """The names of the GPUs, as ``CUDA_VISIBLE_DEVICES`` has them; none of CPUs."""
        return tuple(filter(None, self.environment.get(VISIBLE, "").split(",")))

    @property
    def count(self) -> int:
        """How many devices answer together."""
        return max(1, len(self.seats))

    @property
    def single(self) -> Slice:
        """The same part of the machine, where one process is to have its first device
        (scenarios of one stream).
        """
        if not self.seats:
            return self
        first = self.seats[0]
        return replace(
            self,
            cpus=first.cpus,
            name=first.name,
            environment=first.environment,
            seats=(),
        )


def slice_of(state: State, wanted: Count = 1) -> Slice:
    """Return the devices of an item that takes so many.

    Raises ``Refused`` when the machine has fewer.
    """
    found = devices(state.system)
    if state.options.rehearsal:
        # Nothing is measured: everybody may sleep on the same CPUs.
        return Slice(tuple(sorted({n for d in found for n in d.cpus})), "simulated")
    workers: int = getattr(state.config, "workerinput", {}).get("workercount", 1)
    if found[0].kind == "gpu":
        return of_gpus(found, wanted, workers, state.device)
    # A container's quota allows fewer threads at a time than it shows CPUs.
    cpus = found[0].cpus[: max(1, found[0].threads)]
    nodes = [tuple(n for n in cpus if n in node) for node in state.system.numa]
    nodes = [node for node in nodes if node]
    return of_cpus(found[0].name, cpus, nodes, wanted, workers, state.device)


def of_gpus(found: Sequence[Device], wanted: Count, workers: int, mine: int) -> Slice:
    """Return some GPUs: of a worker's own, or of all."""
    count = len(found) if wanted == ALL else int(wanted)
    refuse_too_few(count, len(found), "devices")
    share = max(1, len(found) // workers)
    own = found[mine * share : (mine + 1) * share]
    alone = count > len(own)
    taken = (found if alone else own)[:count]
    names = {device.name for device in taken}
    each = " + ".join(
        f"{sum(d.name == name for d in taken)} x {name}" for name in sorted(names)
    )
    return Slice(
        tuple(sorted({cpu for device in taken for cpu in device.cpus})),
        each if count > 1 else taken[0].name,
        {VISIBLE: ",".join(device.visible for device in taken)},
        gpu_seats(taken) if count > 1 else (),
        alone,
    )


def gpu_seats(taken: Sequence[Device]) -> tuple[Seat, ...]:
    """Return a seat a GPU; those of one node share its CPUs out among them."""
    seats = []
    for device in taken:
        beside = [other for other in taken if other.cpus == device.cpus]
        cpus = device.cpus
        if len(beside) <= len(cpus):
            cpus = split_cpus(cpus, len(beside))[beside.index(device)]
        seats.append(Seat(device.name, cpus, {VISIBLE: device.visible}))
    return tuple(seats)


def of_cpus(
    name: str,
    cpus: Sequence[int],
    nodes: Sequence[Sequence[int]],
    wanted: Count,
    workers: int,
    mine: int,
) -> Slice:
    """Return CPUs: a worker's own, cut into as many devices as are wanted.

    ``all`` is a device a NUMA node, on all CPUs.
    """
    whole = tuple(cpus)
    own = split_cpus(whole, workers)[mine] if workers > 1 else whole
    label = f"{len(own)} of {len(whole)} CPUs" if workers > 1 else name
    if wanted == 1:
        return Slice(own, label)
    alone = workers > 1 and (wanted == ALL or int(wanted) > len(own))
    taken = whole if alone else own
    if wanted == ALL:
        shares = [tuple(node) for node in nodes if {*node} <= {*taken}] or [taken]
    else:
        refuse_too_few(int(wanted), len(taken), "usable CPUs and no GPU")
        shares = [*split_cpus(taken, int(wanted))]
    if len(shares) == 1:
        return Slice(taken, name, alone=alone)
    seats = tuple(Seat(f"CPUs {format_ids(share)}", share) for share in shares)
    label = f"{len(shares)} shares of {len(taken)} CPUs"
    return Slice(taken, label, seats=seats, alone=alone)


def refuse_too_few(wanted: int, there: int, what: str) -> None:
    """Raise ``Refused`` for an item that takes more devices than there are."""
    if wanted > there:
        raise Refused(
            f"an item is to take {wanted} devices, but this machine has {there} {what}"
            f": use --mlperf-devices-per-item {there} or all, or see what "
            f"{VISIBLE} hides"
        )


def room_for(system: System, wanted: Count) -> int:
    """Return how many items of so many devices can go side by side; at least one."""
    found = devices(system)
    if wanted == ALL or found[0].kind != "gpu":
        return 1
    return max(1, len(found) // int(wanted))
