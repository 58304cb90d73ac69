"""The question-answering benchmark: BERT on SQuAD v1.1, official or embedded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api.errors import Missing
from pytest_mlperf.api.workload import Model
from pytest_mlperf.benchmarks.squad import windows
from pytest_mlperf.benchmarks.squad.workload import SquadDataset
from pytest_mlperf.benchmarks.squad.workload import SquadWorkload
from pytest_mlperf.benchmarks.standins import squad as synthetic_squad

EMBEDDED = Path(__file__).resolve().parent.parent / "embedded" / "bert"
OFFICIAL_REFERENCE = {"F1": 90.874}
"""mlcommons/inference, language/bert/README.md: BERT-Large, fp32."""
OFFICIAL_QUESTIONS = 10570
"""Questions in SQuAD v1.1's dev set; they become 10,833 windows."""
# NVIDIA's scratch layout first, then the reference implementation's.
MODELS = (
    "models/bert/bert_large_v1_1.onnx",
    "models/bert/model.onnx",
    "data/bert_tf_v1_1_large_fp32_384_v2/model.onnx",
)
VOCABULARIES = (
    "models/bert/vocab.txt",
    "data/bert_tf_v1_1_large_fp32_384_v2/vocab.txt",
)
QUESTIONS = ("data/squad/dev-v1.1.json", "data/dev-v1.1.json")
ROLES = {
    "input_ids": "ids",
    "input_mask": "mask",
    "attention_mask": "mask",
    "segment_ids": "segments",
    "token_type_ids": "segments",
}
"""Names that published BERT graphs give to the three inputs."""


def open_embedded(folder: Path = EMBEDDED) -> SquadWorkload:
    """Open the stand-in that ships with the package.

    Raises ``ValueError`` when a file is not the one that the manifest records.
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name, wanted in manifest["sha256"].items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != wanted:
            raise ValueError(
                f"{folder / name} has sha256 {found}, but should be {wanted}"
                " [manifest.json]. Install the package again, or make the artefacts"
                " and their manifest together with scripts/make_bert.py."
            )
    vocab, data = folder / "vocab.txt", folder / "evaluation.json.gz"
    features = windows.tokenize(windows.read(data), vocab)
    inputs = {n: ROLES[n] for n in ("input_ids", "attention_mask", "token_type_ids")}
    model = Model(
        path=folder / "model.onnx",
        inputs=tuple(inputs),
        outputs=("start_logits", "end_logits"),
        dynamic_length=True,
        # No calibration data: activations are quantised as they come. Static ranges
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
    """Open BERT-Large and SQuAD's dev set from a scratch space.

    The published graph fixes its length at 384, so that every row is padded to it; a
    graph exported with a free length is found out and padded by batch only.
    Raises ``Missing`` for absent files, ``ValueError`` for wrong ones.
    """
    wanted = {"model": MODELS, "vocabulary": VOCABULARIES, "questions": QUESTIONS}
    found = {
        what: next((scratch / n for n in names if (scratch / n).is_file()), None)
        for what, names in wanted.items()
        if scratch is not None
    }
    model, vocab, data = (found.get(what) for what in wanted)
    if model is None or vocab is None or data is None:
        absent = [names[0] for what, names in wanted.items() if not found.get(what)]
        where = f"in {scratch}" if scratch else "because no scratch space is named"
        raise Missing(
            f"bert official: {', '.join(absent)} not found {where}. Set"
            " MLPERF_SCRATCH_PATH or --mlperf-scratch to a folder with"
            f" {MODELS[0]} (or {MODELS[1]}) and {VOCABULARIES[0]} from Zenodo record"
            f" 3733910 (files model.onnx, vocab.txt) and {QUESTIONS[0]} from"
            " the SQuAD v1.1 page (rajpurkar, SQuAD-explorer). Or use the embedded"
            " workload."
        )
    graph = read_graph(model)
    read = windows.read(data)
    if len(read) != questions:
        raise ValueError(
            f"{data} has {len(read)} questions, but SQuAD v1.1's dev set should have"
            f" {questions}: the reference F1 holds for the whole set only. Download"
            " dev-v1.1.json again."
        )
    features = windows.tokenize(read, vocab)
    return SquadWorkload(
        kind="official",
        title=f"BERT-Large ({model.name}) on SQuAD v1.1 dev, {len(read):,} questions",
        model=Model(
            path=model,
            inputs=tuple(graph.inputs),
            outputs=graph.outputs,
            dynamic_length=graph.fixed is None,
        ),
        dataset=SquadDataset(features, graph.inputs, graph.fixed, graph.dtype),
        reference=OFFICIAL_REFERENCE,
        features=features,
        files=(model, vocab, data),
    )


@dataclass(frozen=True, slots=True)
class Graph:
    """What a BERT graph wants and gives."""

    inputs: dict[str, str]
    outputs: tuple[str, str]
    fixed: int | None
    dtype: np.dtype[Any]


def read_graph(path: Path) -> Graph:
    """Read input roles, output order, fixed length and integer type from a graph.

    Raises ``ValueError`` for a graph that is not a question-answering BERT.
    """
    try:
        import onnx
    except ImportError as error:
        raise Missing(
            "bert official: the package onnx is not installed; pip install"
            " 'pytest-mlperf[onnxruntime]'."
        ) from error
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
    return Graph(
        inputs={name: ROLES[name] for name in names},
        outputs=(starts[0], ends[0]),
        fixed=length or None,
        dtype=np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)),
    )


class Bert:
    """The benchmark ``bert``: question answering, F1."""

    name = "bert"
    aliases = ("bert-large",)
    metric = "F1"

    def precision(self, target: str) -> str:
        return "fp32" if target == "99.9" else "int8"

    def workload(self, kind: str, scratch: Path | None) -> SquadWorkload:
        """Open ``official``, ``embedded``, ``generated`` or ``synthetic``.

        Raises ``Missing`` for an absent file or package.
        """
        if kind == "synthetic":
            return synthetic_squad.open_synthetic()
        try:
            import tokenizers  # noqa: F401
        except ImportError as error:
            raise Missing(
                "bert: the package tokenizers is not installed; pip install"
                " 'pytest-mlperf[onnxruntime]'."
            ) from error
        if kind == "official":
            return open_official(scratch)
        if kind == "generated":
            from pytest_mlperf.benchmarks.standins import generated

            return generated.bert()
        return open_embedded()


BERT = Bert()
