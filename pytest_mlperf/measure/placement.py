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

from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.machine.devices import Device
from pytest_mlperf.machine.devices import find_devices
from pytest_mlperf.machine.devices import split_cpus
from pytest_mlperf.machine.numa import format_ids
from pytest_mlperf.machine.system import System
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.runner.messages import DeviceSlot

ALL = "all"
Count = int | str
"""How many devices an item takes: a number, or ``all``."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Placement:
    """The part of this machine that an item measures on."""

    cpus: tuple[int, ...]
    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    """For the runner: the devices it may see, set before anything touches them."""
    slots: tuple[DeviceSlot, ...] = ()
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
        return max(1, len(self.slots))

    @property
    def single(self) -> Placement:
        """The same part of the machine, where one process is to have its first device
        (scenarios of one stream).
        """
        if not self.slots:
            return self
        first = self.slots[0]
        return replace(
            self,
            cpus=first.cpus,
            name=first.name,
            environment=first.environment,
            slots=(),
        )


def place(session: MeasureSession, count: Count = 1) -> Placement:
    """Return the devices of an item that takes so many.

    Raises ``RunRefused`` when the machine has fewer.
    """
    devices = find_devices(session.system)
    if session.options.rehearsal:
        # Nothing is measured: everybody may sleep on the same CPUs.
        every = {cpu for device in devices for cpu in device.cpus}
        return Placement(tuple(sorted(every)), "simulated")
    workers, mine = session.workers, session.worker
    if devices[0].kind == "gpu":
        return place_on_gpus(devices, count, workers, mine)
    # A container's quota allows fewer threads at a time than it shows CPUs.
    cpus = devices[0].cpus[: max(1, devices[0].threads)]
    nodes = [tuple(n for n in cpus if n in node) for node in session.system.numa]
    nodes = [node for node in nodes if node]
    return place_on_cpus(devices[0].name, cpus, nodes, count, workers, mine)


def place_on_gpus(
    found: Sequence[Device], wanted: Count, workers: int, mine: int
) -> Placement:
    """Return some GPUs: of a worker's own, or of all."""
    count = len(found) if wanted == ALL else int(wanted)
    refuse_too_few(count, len(found), "devices")
    share = max(1, len(found) // workers)
    own = found[mine * share : (mine + 1) * share]
    alone = count > len(own)
    taken = (found if alone else own)[:count]
    # What a neighbour builds must not hold up what is measured here.
    is_beside = workers > 1 and not alone
    busy = found[: workers * share] if is_beside else taken
    slots = gpu_slots(taken, busy) if count > 1 else ()
    node = [one for one in own if one.cpus == taken[0].cpus] if is_beside else taken
    shares = [slot.cpus for slot in slots] or [share_cpus(one, busy) for one in node]
    names = {device.name for device in taken}
    each = " + ".join(
        f"{sum(d.name == name for d in taken)} x {name}" for name in sorted(names)
    )
    return Placement(
        tuple(sorted({cpu for cpus in shares for cpu in cpus})),
        each if count > 1 else taken[0].name,
        {VISIBLE: ",".join(device.visible for device in taken)},
        slots,
        alone,
    )


def gpu_slots(
    taken: Sequence[Device], busy: Sequence[Device]
) -> tuple[DeviceSlot, ...]:
    """Return a slot a GPU, with CPUs of its own among those that are ``busy``."""
    return tuple(
        DeviceSlot(one.name, share_cpus(one, busy), {VISIBLE: one.visible})
        for one in taken
    )


def share_cpus(device: Device, busy: Sequence[Device]) -> tuple[int, ...]:
    """Return a GPU's part of its node's CPUs, which the busy ones share out.

    All of them where there are fewer than GPUs.
    """
    beside = [one for one in busy if one.cpus == device.cpus]
    if len(beside) > len(device.cpus):
        return device.cpus
    return split_cpus(device.cpus, len(beside))[beside.index(device)]


def place_on_cpus(
    name: str,
    cpus: Sequence[int],
    nodes: Sequence[Sequence[int]],
    wanted: Count,
    workers: int,
    mine: int,
) -> Placement:
    """Return CPUs: a worker's own, cut into as many devices as are wanted.

    ``all`` is a device a NUMA node, on all CPUs.
    """
    whole = tuple(cpus)
    own = split_cpus(whole, workers)[mine] if workers > 1 else whole
    label = f"{len(own)} of {len(whole)} CPUs" if workers > 1 else name
    if wanted == 1:
        return Placement(own, label)
    alone = workers > 1 and (wanted == ALL or int(wanted) > len(own))
    taken = whole if alone else own
    if wanted == ALL:
        shares = [tuple(node) for node in nodes if {*node} <= {*taken}] or [taken]
    else:
        refuse_too_few(int(wanted), len(taken), "usable CPUs and no GPU")
        shares = [*split_cpus(taken, int(wanted))]
    if len(shares) == 1:
        return Placement(taken, name, alone=alone)
    slots = tuple(DeviceSlot(f"CPUs {format_ids(share)}", share) for share in shares)
    label = f"{len(shares)} shares of {len(taken)} CPUs"
    return Placement(taken, label, slots=slots, alone=alone)


def refuse_too_few(wanted: int, there: int, what: str) -> None:
    """Raise ``RunRefused`` for an item that takes more devices than there are."""
    if wanted > there:
        raise RunRefused(
            f"an item is to take {wanted} devices, but this machine has {there} {what}"
            f": use --mlperf-devices-per-item {there} or all, or see what "
            f"{VISIBLE} hides"
        )


def room_for(system: System, wanted: Count) -> int:
    """Return how many items of so many devices can go side by side; at least one."""
    found = find_devices(system)
    if wanted == ALL or found[0].kind != "gpu":
        return 1
    return max(1, len(found) // int(wanted))
