"""The question-answering benchmark: BERT on SQuAD v1.1, official or embedded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api.sources import Source
from pytest_mlperf.api.sources import require_files
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.squad import windows
from pytest_mlperf.benchmarks.squad.workload import SquadDataset
from pytest_mlperf.benchmarks.squad.workload import SquadWorkload
from pytest_mlperf.benchmarks.standins import synthetic_squad
from pytest_mlperf.core.rounds.rule import Rule

EMBEDDED = files.EMBEDDED / "bert"
OFFICIAL_QUESTIONS = 10570
"""Questions in SQuAD v1.1's dev set; they become 10,833 windows."""
# NVIDIA's scratch layout first, then the reference implementation's.
MODEL = Source(
    paths=(
        "models/bert/bert_large_v1_1.onnx",
        "models/bert/model.onnx",
        "data/bert_tf_v1_1_large_fp32_384_v2/model.onnx",
    ),
    origin="Zenodo record 3733910, model.onnx",
    urls=("https://zenodo.org/record/3733910/files/model.onnx?download=1",),
)
VOCABULARY = Source(
    paths=(
        "models/bert/vocab.txt",
        "data/bert_tf_v1_1_large_fp32_384_v2/vocab.txt",
    ),
    origin="Zenodo record 3733910, vocab.txt",
    urls=("https://zenodo.org/record/3733910/files/vocab.txt?download=1",),
)
QUESTIONS = Source(
    paths=("data/squad/dev-v1.1.json", "data/dev-v1.1.json"),
    origin="the SQuAD v1.1 page (rajpurkar, SQuAD-explorer)",
    terms="CC BY-SA 4.0",
    sha256="95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9",
    urls=("https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v1.1.json",),
)
SOURCES = (MODEL, VOCABULARY, QUESTIONS)
ROLES = {
    "input_ids": "ids",
    "input_mask": "mask",
    "attention_mask": "mask",
    "segment_ids": "segments",
    "token_type_ids": "segments",
}
"""Names that published BERT graphs give to the three inputs."""


def open_embedded(folder: Path = EMBEDDED) -> SquadWorkload:
    """Open the stand-in that ships with the package, or one made like it.

    Raises ``ValueError`` when a file is not the one that the manifest records.
    """
    manifest = files.read_manifest(folder, "make_bert.py")
    vocab, data = folder / "vocab.txt", folder / "evaluation.json.gz"
    features = windows.tokenize(windows.read_questions(data), vocab)
    inputs = {n: ROLES[n] for n in ("input_ids", "attention_mask", "token_type_ids")}
    model = ModelFile(
        path=folder / "model.onnx",
        inputs=tuple(inputs),
        outputs=("start_logits", "end_logits"),
        dynamic_length=True,
        # No calibration data: activations are quantized as they come. Static ranges
        # lose the answers here (F1 falls to 4), the mask's -10000 being among them.
        keep_fp32=tuple(manifest["keep_fp32"]),
    )
    return SquadWorkload(
        kind="embedded",
        title=manifest["title"],
        model=model,
        dataset=SquadDataset(features, inputs),
        reference=manifest["reference"],
        features=features,
        files=(model.path, vocab, data),
    )


def open_official(
    scratch: Path | None, questions: int = OFFICIAL_QUESTIONS
) -> SquadWorkload:
    """Open BERT-Large and SQuAD's dev set from the scratch folder.

    The published graph fixes its length at 384, so that every row is padded to it. A
    graph with a free length is recognized, and batches are padded to their longest row.
    Raises ``RequirementMissing`` for absent files, ``ValueError`` for wrong ones.
    """
    model, vocab, data = require_files("bert", SOURCES, scratch, files.USE_EMBEDDED)
    graph = read_signature(model)
    dev_set = windows.read_questions(data)
    if len(dev_set) != questions:
        raise ValueError(
            f"{data} has {len(dev_set)} questions, but SQuAD v1.1's dev set should have"
            f" {questions}: the reference F1 holds for the whole set only. Download"
            " dev-v1.1.json again."
        )
    features = windows.tokenize(dev_set, vocab)
    return SquadWorkload(
        kind="official",
        title=f"BERT-Large ({model.name}) on SQuAD v1.1 dev, {questions:,} questions",
        model=ModelFile(
            path=model,
            inputs=tuple(graph.inputs),
            outputs=graph.outputs,
            dynamic_length=graph.fixed_length is None,
        ),
        dataset=SquadDataset(features, graph.inputs, graph.fixed_length, graph.dtype),
        reference={},
        features=features,
        files=(model, vocab, data),
    )


@dataclass(frozen=True, slots=True)
class BertSignature:
    """Inputs and outputs of a BERT graph."""

    inputs: dict[str, str]
    """Graph name -> role, in the graph's order."""
    outputs: tuple[str, str]
    """Start logits, end logits."""
    fixed_length: int | None
    """Tokens that every row must have; None where the length is free."""
    dtype: np.dtype[Any]
    """Integer type of the inputs."""


def read_signature(path: Path) -> BertSignature:
    """Read a graph's inputs and outputs.

    Raises ``ValueError`` for a graph that is not a question-answering BERT.
    """
    files.require_package("onnx", "bert's official graph cannot be read")
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    names = [value.name for value in inputs]
    # Start before end whatever the graph's order; published names contain the words.
    outputs = sorted(value.name for value in graph.output)
    starts = [name for name in outputs if "start" in name]
    ends = [name for name in outputs if "end" in name and "start" not in name]
    roles = sorted(ROLES.get(name, name) for name in names)
    if roles != ["ids", "mask", "segments"] or len(starts) != 1 or len(ends) != 1:
        raise ValueError(
            f"{path} has the inputs {names} and outputs {outputs}, but should have"
            f" three of {sorted(ROLES)} and two whose names hold 'start' and 'end'."
            " Use the fp32 BERT-Large graph of Zenodo record 3733910."
        )
    kind = inputs[0].type.tensor_type
    length = kind.shape.dim[1].dim_value if len(kind.shape.dim) > 1 else 0
    return BertSignature(
        inputs={name: ROLES[name] for name in names},
        outputs=(starts[0], ends[0]),
        fixed_length=length or None,
        dtype=np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)),
    )


@dataclass(frozen=True, slots=True)
class BertBenchmark:
    """The benchmark as it registers itself."""

    name: str = "bert"
    aliases: tuple[str, ...] = ("bert-large",)
    metric: str = "F1"
    takes: frozenset[str] = frozenset({"tensors"})
    rules: tuple[Rule, ...] = ()
    sources: tuple[Source, ...] = SOURCES
    rehearses: bool = True

    def precision(self, target: str) -> str:
        return "fp32" if target == "99.9" else "int8"

    def open_workload(self, kind: str, scratch: Path | None) -> SquadWorkload:
        """Open ``official``, ``embedded``, ``generated`` or ``synthetic``.

        Raises ``RequirementMissing`` for an absent file or package, ``ValueError`` for
        another kind.
        """
        if kind == "synthetic":
            return synthetic_squad.open_synthetic()
        files.require_package("tokenizers", "bert's questions cannot be tokenized")
        if kind == "official":
            return open_official(scratch)
        if kind == "generated":
            from pytest_mlperf.benchmarks.standins import generated

            return generated.open_bert()
        if kind == "embedded":
            return open_embedded(files.find_embedded(scratch, "bert"))
        kinds = "official", "embedded", "generated", "synthetic"
        raise files.unknown_kind(self.name, kind, *kinds)


BERT = BertBenchmark()
