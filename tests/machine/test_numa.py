"""The NUMA grammar and its listings: NVIDIA's tuning guide is the specification."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.machine.gpus import Gpu
from pytest_mlperf.machine.numa import NumaError
from pytest_mlperf.machine.numa import NumaNode
from pytest_mlperf.machine.numa import check_numa
from pytest_mlperf.machine.numa import differences
from pytest_mlperf.machine.numa import format_ids
from pytest_mlperf.machine.numa import format_numa
from pytest_mlperf.machine.numa import parse_numa
from pytest_mlperf.machine.topology import detect_numa
from pytest_mlperf.machine.topology import numa_of_listings
from pytest_mlperf.machine.topology import parse_numactl
from pytest_mlperf.machine.topology import parse_topo
from pytest_mlperf.machine.topology import placed

GUIDE = "3:0-15,64-79&2:16-31,80-95&1:32-47,96-111&0:48-63,112-127"


def spread(first: int) -> str:
    return " ".join(
        map(str, [*range(first, first + 16), *range(first + 64, first + 80)])
    )


NUMACTL = f"""\
available: 4 nodes (0-3)
node 0 cpus: {spread(0)}
node 0 size: 128825 MB
node 0 free: 124581 MB
node 1 cpus: {spread(16)}
node 1 size: 129016 MB
node 1 free: 127519 MB
node 2 cpus: {spread(32)}
node 2 size: 129016 MB
node 2 free: 120735 MB
node 3 cpus: {spread(48)}
node 3 size: 128978 MB
node 3 free: 125733 MB
node distances:
node   0   1   2   3
  0:  10  12  12  12
  1:  12  10  12  12
  2:  12  12  10  12
  3:  12  12  12  10
"""
"""What the guide shows of ``numactl --hardware``."""
TOPO = """\
GPU0    GPU1    GPU2    GPU3    CPU    Affinity        NUMA Affinity
GPU0     X      SYS     SYS     SYS    48-63,112-127   3
GPU1    SYS      X      SYS     SYS    32-47,96-111    2
GPU2    SYS     SYS      X      SYS    16-31,80-95     1
GPU3    SYS     SYS     SYS      X     0-15,64-79      0

Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes
  NODE = Connection traversing PCIe as well as the interconnect within a NUMA node
  PHB  = Connection traversing PCIe as well as a PCIe Host Bridge (typically the CPU)
  NV#  = Connection traversing a bonded set of # NVLinks
"""
"""What the guide shows of ``nvidia-smi topo -m``, its header torn as there."""


def test_the_guides_configuration_maps_nodes_to_gpus() -> None:
    """Node 0 has GPU 3 with CPUs 0-15 and 64-79, and so on to node 3 with GPU 0."""
    nodes = parse_numa(GUIDE)

    assert [node.gpus for node in nodes] == [(3,), (2,), (1,), (0,)]
    assert (*range(16), *range(64, 80)) == nodes[0].cpus
    assert (*range(48, 64), *range(112, 128)) == nodes[3].cpus
    assert format_numa(nodes) == GUIDE


def test_the_guides_listings_give_the_guides_configuration() -> None:
    """What a person is to work out by hand from both tools comes out the same."""
    assert format_numa(numa_of_listings(NUMACTL, TOPO)) == GUIDE


def test_the_guides_prose_is_not_its_listing() -> None:
    """Its sentence has CPUs 65-79 where its own listing of the node has 64-79."""
    assert format_ids(parse_numactl(NUMACTL)[0]) == "0-15,64-79"
    assert (parse_numactl(NUMACTL)[0], 0) == parse_topo(TOPO)[3]


@pytest.mark.parametrize(
    "text",
    ["0:0", "3:1,2,5", "0-1:0-3", "0,1:0-3&2-3:4-7", "7:0-15"],
)
def test_numbers_lists_and_ranges_are_legal(text: str) -> None:
    """All three spellings that the guide allows are read."""
    nodes = parse_numa(text)

    assert nodes == parse_numa(format_numa(nodes))


@st.composite
def configurations(draw: st.DrawFn) -> tuple[NumaNode, ...]:
    gpus = draw(st.lists(st.integers(0, 71), unique=True, min_size=1, max_size=9))
    nodes = draw(st.integers(1, len(gpus)))
    cpus = draw(st.lists(st.integers(0, 511), unique=True, min_size=nodes))
    return tuple(
        NumaNode(tuple(sorted(gpus[n::nodes])), tuple(sorted(cpus[n::nodes])))
        for n in range(nodes)
    )


@given(configurations())
def test_what_is_printed_reads_back(nodes: tuple[NumaNode, ...]) -> None:
    """Printing and parsing are inverses, for any assignment of GPUs and CPUs."""
    assert nodes == parse_numa(format_numa(nodes))


@given(st.text(alphabet="0123456789:&,- x", max_size=30))
def test_any_text_is_read_or_refused_with_its_place(text: str) -> None:
    """No text raises anything else, and the place lies in the text or at its end."""
    try:
        nodes = parse_numa(text)
    except NumaError as error:
        place = error.position
    else:
        place = 1
        assert nodes == parse_numa(format_numa(nodes))

    assert 1 <= place <= len(text) + 1


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("", 1, "the ':' between GPUs and CPUs is missing; a node is GPUs:CPUs"),
        ("0:0-3&1", 8, "the ':' between GPUs and CPUs is missing"),
        ("0:0-3:4", 6, "a second ':' in one node; nodes are joined by '&'"),
        (":0-3", 1, "a GPU number is missing; legal are numbers and ranges"),
        ("0:", 3, "a CPU number is missing"),
        ("0:0,,2", 5, "a CPU number is missing"),
        ("0:0-3&", 7, "the ':' between GPUs and CPUs is missing"),
        ("0: 1", 3, "found ' 1'; legal are numbers and ranges"),
        ("0:0-3&1:4..7", 9, "found '4..7'"),
        ("0:-3", 3, "found '-3'"),
        ("0:3-0", 3, "the range 3-0 runs backwards; write 0-3"),
        ("0:70000", 3, "70000 is above 65535"),
        ("0:0-3&1:2-5", 9, "CPU 2 stands at character 3 already; leave one of them"),
        ("0:0&0:1", 5, "GPU 0 stands at character 1 already"),
        ("0:1,1", 5, "CPU 1 stands at character 3 already"),
        ("0:²", 3, "found '²'"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, position: int, said: str) -> None:
    """The message has the character and what is legal there."""
    with pytest.raises(NumaError) as caught:
        parse_numa(text)

    assert position == caught.value.position
    assert f"{text!r}, character {position}: {said}" in str(caught.value)


@pytest.mark.parametrize(
    ("gpus", "cpus", "said"),
    [
        (
            2,
            128,
            "found GPU 2-3, but this machine has GPUs 0-1; a configuration",
        ),
        (0, 128, "found GPU 0-3, but this machine has GPUs none"),
        (5, 128, "GPU 4 is in no node; this machine has GPUs 0-4; add it, or remove"),
        (4, 96, "found CPU 96-127, but this machine has CPUs 0-95; a configuration"),
    ],
)
def test_another_machines_configuration_is_refused(
    gpus: int, cpus: int, said: str
) -> None:
    """The guide's warning about copied configurations is a check."""
    with pytest.raises(NumaError) as caught:
        check_numa(parse_numa(GUIDE), gpus, range(cpus))

    assert said in str(caught.value)


def test_the_right_machines_configuration_is_returned() -> None:
    """All GPUs are named once, and all CPUs are there."""
    assert parse_numa(GUIDE) == check_numa(parse_numa(GUIDE), 4, range(128))


Grow = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def grow(tmp_path: Path) -> Grow:
    def make(tree: Mapping[str, str]) -> Path:
        for name, text in tree.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def guide_machine(nodes: int = 4) -> dict[str, str]:
    """Describe the guide's machine as its kernel would: GPU 0 is on node 3."""
    tree = {"sys/devices/system/node/online": f"0-{nodes - 1}\n"}
    for node in range(nodes):
        cpus = f"{node * 16}-{node * 16 + 15},{node * 16 + 64}-{node * 16 + 79}\n"
        tree[f"sys/devices/system/node/node{node}/cpulist"] = cpus
    for gpu in range(4):
        tree[f"sys/bus/pci/devices/0000:0{gpu}:00.0/numa_node"] = f"{3 - gpu}\n"
    return tree


def guide_gpus(*cpus: tuple[int, ...]) -> tuple[Gpu, ...]:
    near = [*cpus, (), (), (), ()]
    return tuple(
        Gpu("G", 1, f"0000:0{gpu}:00.0", f"GPU-{gpu}", cpus=near[gpu])
        for gpu in range(4)
    )


def test_kernel_tells_the_guides_configuration(grow: Grow) -> None:
    """The PCI slots' nodes and the nodes' CPUs are the whole answer."""
    assert format_numa(detect_numa(guide_gpus(), grow(guide_machine()))) == GUIDE


def test_slot_without_a_node_is_placed_by_its_cpus(grow: Grow) -> None:
    """Firmware that says -1 leaves NVML's or the kernel's list of near CPUs."""
    tree = guide_machine()
    tree["sys/bus/pci/devices/0000:00:00.0/numa_node"] = "-1\n"
    near = (*range(48, 64), *range(112, 128))

    assert format_numa(detect_numa(guide_gpus(near), grow(tree))) == GUIDE


def test_gpu_nobody_can_place_is_left_out(grow: Grow) -> None:
    """A GPU that every CPU is near to (DGX Station) is placed nowhere."""
    tree = guide_machine()
    tree["sys/bus/pci/devices/0000:00:00.0/numa_node"] = "-1\n"
    found = detect_numa(guide_gpus(tuple(range(128))), grow(tree))

    assert [node.gpus for node in found] == [(3,), (2,), (1,)]


def test_memory_of_a_gpu_is_no_node_to_bind_to(grow: Grow) -> None:
    """A superchip's GPU is on its own node without CPUs; its near CPUs tell."""
    tree = {
        "sys/devices/system/node/online": "0-2\n",
        "sys/devices/system/node/node0/cpulist": "0-71\n",
        "sys/devices/system/node/node1/cpulist": "72-143\n",
        "sys/devices/system/node/node2/cpulist": "\n",
        "sys/bus/pci/devices/0000:01:00.0/numa_node": "2\n",
    }
    gpu = Gpu("G", 1, "0000:01:00.0", "GPU-1", cpus=tuple(range(72, 144)))

    assert format_numa(detect_numa((gpu,), grow(tree))) == "0:72-143"


def test_machine_of_one_node_has_no_configuration(grow: Grow) -> None:
    """With a single node there is nothing to choose, as the guide says."""
    assert detect_numa(guide_gpus(), grow(guide_machine(1))) == ()
    assert detect_numa((), grow(guide_machine())) == ()


def test_differences_name_gpu_and_both_lists() -> None:
    """What is configured wrongly is said GPU by GPU, whatever the order of nodes."""
    swapped = parse_numa("1:0-15,64-79&2:16-31,80-95&3:32-47,96-111&0:48-63,112-127")
    found = differences(swapped, parse_numa(GUIDE))

    assert found == [
        "GPU 1: configured CPUs 0-15,64-79, detected 32-47,96-111",
        "GPU 3: configured CPUs 32-47,96-111, detected 0-15,64-79",
    ]
    assert differences(parse_numa(GUIDE)[::-1], parse_numa(GUIDE)) == []
    assert differences(swapped, ()) == []


def test_configuration_decides_a_gpus_cpus() -> None:
    """A configured GPU gets its node's CPUs; the others keep what was detected."""
    gpus = placed(guide_gpus((9,), (8,)), parse_numa("0:1-2"))

    assert [gpu.cpus for gpu in gpus] == [(1, 2), (8,), (), ()]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("GPU0\t X \tNV12\tPXB\tPXB\t48-63,176-191\t3\t\tN/A\n", (range(48, 64), 3)),
        ("GPU0\t X \tNODE\t0-31\tN/A\n", (range(32), None)),
        ("GPU0\t X \t0-7\n", (range(8), None)),
    ],
)
def test_topo_rows_of_other_machines_are_read(
    row: str, expected: tuple[range, int | None]
) -> None:
    """NICs add columns, a later tool a last one, and one node has no affinity."""
    cpus, node = parse_topo("header\n" + row)[0]

    assert expected[0] == range(cpus[0], cpus[len(expected[0]) - 1] + 1)
    assert expected[1] == node


@pytest.mark.parametrize("text", ["", "soup", "GPU0 is here"])
def test_listing_without_rows_is_refused(text: str) -> None:
    """Output of the wrong command gives no configuration."""
    with pytest.raises(NumaError, match="no line"):
        parse_numactl(text)
    with pytest.raises(NumaError, match="no line of a GPU"):
        parse_topo(text)


def test_listings_that_disagree_are_refused() -> None:
    """A node that does not hold the CPUs beside it is not believed."""
    with pytest.raises(NumaError, match=r"GPU 3: topo -m says node 1, CPUs 0-15"):
        numa_of_listings(NUMACTL, TOPO.replace("64-79      0", "64-79      1"))
