"""The NUMA grammar and its detection: NVIDIA's tuning guide is the specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.machine.gpus import Gpu
from pytest_mlperf.machine.numa import NumaError
from pytest_mlperf.machine.numa import NumaNode
from pytest_mlperf.machine.numa import check_numa
from pytest_mlperf.machine.numa import format_numa
from pytest_mlperf.machine.numa import list_differences
from pytest_mlperf.machine.numa import parse_numa
from pytest_mlperf.machine.topology import assign_cpus
from pytest_mlperf.machine.topology import detect_numa
from tests.support.kernel_files import Grow

GUIDE = "3:0-15,64-79&2:16-31,80-95&1:32-47,96-111&0:48-63,112-127"


def test_the_guides_configuration_maps_nodes_to_gpus() -> None:
    """Node 0 has GPU 3 with CPUs 0-15 and 64-79, and so on to node 3 with GPU 0."""
    nodes = parse_numa(GUIDE)

    assert [node.gpus for node in nodes] == [(3,), (2,), (1,), (0,)]
    assert (*range(16), *range(64, 80)) == nodes[0].cpus
    assert (*range(48, 64), *range(112, 128)) == nodes[3].cpus
    assert format_numa(nodes) == GUIDE


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
    found = list_differences(swapped, parse_numa(GUIDE))

    assert found == [
        "GPU 1: configured CPUs 0-15,64-79, detected 32-47,96-111",
        "GPU 3: configured CPUs 32-47,96-111, detected 0-15,64-79",
    ]
    assert list_differences(parse_numa(GUIDE)[::-1], parse_numa(GUIDE)) == []
    assert list_differences(swapped, ()) == []


def test_configuration_decides_a_gpus_cpus() -> None:
    """A configured GPU gets its node's CPUs; the others keep what was detected."""
    gpus = assign_cpus(guide_gpus((9,), (8,)), parse_numa("0:1-2"))

    assert [gpu.cpus for gpu in gpus] == [(1, 2), (8,), (), ()]
