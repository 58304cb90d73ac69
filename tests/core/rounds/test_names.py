"""One benchmark, many spellings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core import catalog
from pytest_mlperf.core import rounds
from pytest_mlperf.core.rounds.names import is_interactive
from pytest_mlperf.core.rounds.names import resolve_benchmark
from pytest_mlperf.core.rounds.names import squash

RULES = [rule for name in rounds.ROUNDS for rule in rounds.get(name).rules]
FACTS = catalog.read_all()
SPELLINGS = sorted({s for one in FACTS.values() for s in (one.name, *one.aliases)})
WAYS: dict[str, Callable[[str], str]] = {
    "upper": str.upper,
    "underscores": lambda text: text.replace("-", "_"),
    "blanks": lambda text: text.replace("-", " "),
    "padded": lambda text: f"  {text}\t",
    "in a folder": lambda text: f"results/system/{text}",
}


def joined(name: str, target: str) -> str:
    return f"{name}-{target}" if target else name


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("resnet", ("resnet50", "")),
        ("ResNet50", ("resnet50", "")),
        ("resnet50-v1.5", ("resnet50", "")),
        ("resnet50_v1.5", ("resnet50", "")),
        ("mobilenet-v1-precision_uint8-0.25-128", ("resnet50", "")),
        ("mobilenet-v3-precision_float-small-minimalistic-224", ("resnet50", "")),
        ("efficientnet-fp32-lite2", ("resnet50", "")),
        ("bert", ("bert", "")),
        ("BERT-99", ("bert", "99")),
        ("bert_99.9", ("bert", "99.9")),
        ("bert-99_9", ("bert", "99.9")),
        ("nvidia-bert-99.9-int8", ("bert", "99.9")),
        ("3d_unet", ("3d-unet", "")),
        ("3D U-Net", ("3d-unet", "")),
        ("3d-unet-99.9", ("3d-unet", "99.9")),
        ("dlrm-99.9", ("dlrm", "99.9")),
        ("dlrm_v2", ("dlrm-v2", "")),
        ("dlrm-v2-99", ("dlrm-v2", "99")),
        ("DLRM-DCNv2-99", ("dlrm-v2", "99")),
        ("dlrm-v3", ("dlrm-v3", "")),
        ("gptj-99.9", ("gptj", "99.9")),
        ("GPT-J", ("gptj", "")),
        ("llama3_1-8b", ("llama3.1-8b", "")),
        ("llama3.1-8b-edge", ("llama3.1-8b-edge", "")),
        ("llama3_1-405b_pruned", ("llama3.1-405b", "")),
        ("Llama 2 70B", ("llama2-70b", "")),
        ("llama2-70b-interactive", ("llama2-70b", "")),
        ("llama2-70b-interactive-99.9", ("llama2-70b", "99.9")),
        ("sdxl", ("stable-diffusion-xl", "")),
        ("deepseek_r1", ("deepseek-r1", "")),
        ("yolo-95", ("yolo", "95")),
        ("wan-2.2", ("wan-2.2-t2v-a14b", "")),
        ("R-GAT", ("rgat", "")),
        ("rnnt", ("rnnt", "")),
        ("ssd-mobilenet", ("ssd-small", "")),
        ("ssd_resnet50_v1_fpn_1024x1024", ("ssd-large", "")),
        ("ssd-mobilenet-coco-99", ("ssd-small", "")),
        ("llama3_1-70b-fp8_dyn", None),
        ("bert-95", None),
        ("resnet50-99", None),
        ("99.9", None),
        ("", None),
    ],
)
def test_a_spelling_is_of_one_benchmark(
    spelling: str, expected: tuple[str, str] | None
) -> None:
    """Folders of real submissions, LoadGen's models and names in prose."""
    assert expected == resolve_benchmark(spelling)


def test_every_rule_of_every_round_is_found_by_its_own_names() -> None:
    """The canonical name comes back unchanged, and LoadGen's model leads to it."""
    for rule in RULES:
        own = (rule.benchmark, rule.target)
        alone = resolve_benchmark(rule.loadgen_model, rule.round)

        assert own == resolve_benchmark(rule.model, rule.round)
        assert (rule.benchmark, "") == resolve_benchmark(rule.benchmark, rule.round)
        assert (rule.benchmark, "") == alone, rule.loadgen_model


def test_benchmarks_and_targets_are_those_of_the_rounds() -> None:
    """The table of names has no benchmark too many, none too few, nor a target."""
    targets = {rule.benchmark: set[str]() for rule in RULES}
    for rule in RULES:
        targets[rule.benchmark] |= {rule.target} - {""}

    assert set(targets) == set(FACTS)
    assert {n: t for n, t in targets.items() if t} == {
        name: set(one.targets) for name, one in FACTS.items() if one.targets
    }


def test_no_two_benchmarks_share_a_spelling() -> None:
    """Each spelling stands once, whatever its case and separators."""
    taken = Counter(squash(spelling) for spelling in SPELLINGS)

    assert dict.fromkeys(taken, 1) == dict(taken)


@given(
    spelling=st.sampled_from(SPELLINGS),
    ways=st.lists(st.sampled_from(sorted(WAYS)), max_size=3),
    target=st.sampled_from(["", "95", "99", "99.9"]),
)
def test_canonical_names_are_fixed_points(
    spelling: str, ways: list[str], target: str
) -> None:
    """However an alias is written, its canonical name leads to itself."""
    text = joined(spelling, target)
    for way in ways:
        text = WAYS[way](text)
    found = resolve_benchmark(text)

    assert resolve_benchmark(joined(spelling, target)) == found
    if not target:
        assert found is not None
    if found:
        assert found == resolve_benchmark(joined(*found))
        assert found[1] in ("", target)


@given(st.text(max_size=60))
def test_any_text_has_at_most_one_benchmark(text: str) -> None:
    """What is no name is None; what is one is canonical and leads to itself."""
    found = resolve_benchmark(text)

    assert found is None or (
        found[0] in FACTS and resolve_benchmark(joined(*found)) == found
    )


def test_ssd_resnet34_is_an_entry_to_retinanet_since_there_is_one() -> None:
    """The checkers of v2.1 and later map it; v2.0's calls it ssd-large."""
    assert resolve_benchmark("ssd-resnet34") == ("ssd-large", "")
    assert resolve_benchmark("ssd-resnet34", "v2.0") == ("ssd-large", "")
    assert resolve_benchmark("ssd-resnet34", "v5.1") == ("retinanet", "")


def test_interactive_is_told_by_the_name() -> None:
    """v5.0 has benchmarks of that name, and LoadGen has models."""
    assert is_interactive("llama2-70b-interactive-99")
    assert is_interactive("gpt-oss-120b-Interactive")
    assert not is_interactive("llama2-70b-99")
    assert not is_interactive("hyperinteractivenet")
