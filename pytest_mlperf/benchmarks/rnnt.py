"""rnnt: speech recognition with a transducer, word error rate.

Official: the reference's RNN-T on LibriSpeech dev-clean, recordings of up to 15 s.
Embedded: a small model of the same kind on synthesized speech that ships with the
project.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.components import ModelComponents
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.sources import Source
from pytest_mlperf.api.sources import files_digest
from pytest_mlperf.api.sources import require_files
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.speech import features
from pytest_mlperf.benchmarks.speech import transcripts
from pytest_mlperf.benchmarks.speech import transducer
from pytest_mlperf.benchmarks.speech.embedded import open_clips
from pytest_mlperf.benchmarks.speech.recordings import Recording
from pytest_mlperf.benchmarks.speech.recordings import RecordingDataset
from pytest_mlperf.benchmarks.speech.recordings import check_recordings
from pytest_mlperf.benchmarks.speech.recordings import read_manifest
from pytest_mlperf.benchmarks.speech.recordings import require_soundfile
from pytest_mlperf.benchmarks.speech.synthetic import open_synthetic
from pytest_mlperf.benchmarks.speech.workload import SpeechWorkload
from pytest_mlperf.benchmarks.speech.workload import make_digest
from pytest_mlperf.benchmarks.speech.workload import pad_rows
from pytest_mlperf.core.rounds.rule import Rule

EMBEDDED = files.EMBEDDED / "rnnt"
METRIC = "WER"
OFFICIAL_RECORDINGS = 2513
LONGEST_S = 15
OFFICIAL_PREDICTOR = {"layers": 2, "width": 320}
MODEL_FOLDER = "models/rnnt"
EXPORT = "python -m pytest_mlperf.benchmarks.speech.export_rnnt CHECKPOINT"
MODEL = tuple(
    Source(
        paths=(f"{MODEL_FOLDER}/{part}.onnx", f"models/rnn-t/{part}.onnx"),
        origin="Zenodo record 3662521 (DistributedDataParallel_1576581068.9962234-"
        f"epoch-100.pt), written as graphs by: {EXPORT} SCRATCH/{MODEL_FOLDER}",
    )
    for part in transducer.PARTS
)
MANIFEST = Source(
    paths=("data/rnnt/dev-clean-wav.json", "data/dev-clean-wav.json"),
    origin="speech_recognition/rnnt/run.sh of MLCommons' inference repository (stages"
    " 1 and 2), with its folder dev-clean-wav of wav files",
    samples=OFFICIAL_RECORDINGS,
    terms="LibriSpeech, CC BY 4.0",
)
SOURCES = (*MODEL, MANIFEST)


def make_features(sounds: Sequence[NDArray[np.float32]]) -> dict[str, Array]:
    """Return ``features``, padded to an even number of frames, and ``lengths`` int32
    [batch], in frames.
    """
    rows = [features.transducer_features(sound) for sound in sounds]
    lengths = np.array([len(row) for row in rows], np.int32)
    return {"features": pad_rows(rows, transducer.STACKED), "lengths": lengths}


def open_workload(
    kind: str,
    title: str,
    digest: str,
    recordings: Sequence[Recording],
    reference: dict[str, float],
    folder: Path,
    predictor: dict[str, int],
) -> SpeechWorkload:
    """Return the workload of these recordings and the graphs in ``folder``."""
    alphabet = transcripts.TRANSDUCER
    return SpeechWorkload(
        kind=kind,
        title=title,
        digest=digest,
        dataset=RecordingDataset(recordings, make_features),
        reference=reference,
        metric=METRIC,
        transcripts=[one.transcript for one in recordings],
        alphabet=alphabet,
        to_text=alphabet.to_text,
        error_rate=transcripts.word_error_rate,
        components=ModelComponents(
            transducer.find_parts(folder),
            partial(
                transducer.decode_greedily,
                layers=predictor["layers"],
                width=predictor["width"],
            ),
        ),
    )


def open_embedded(folder: Path = EMBEDDED) -> SpeechWorkload:
    """Open the stand-in that ships with the package.

    Raises ``ValueError`` when a file is not the one that the manifest records.
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name, sha256 in manifest["model"].items():
        files.check_embedded(folder / name, sha256, "make_rnnt.py")
    clips = open_clips(folder, manifest, "make_rnnt.py")
    hashes = [*manifest["model"].values(), *(c["sha256"] for c in manifest["clips"])]
    return open_workload(
        "embedded",
        f"embedded: a small RNN-T, {len(clips)} clips of synthesized speech",
        make_digest(hashes, [clip.transcript for clip in clips]),
        clips,
        manifest["reference"],
        folder,
        manifest["predictor"],
    )


def open_official(
    scratch: Path | None, count: int = OFFICIAL_RECORDINGS
) -> SpeechWorkload:
    """Open the reference's RNN-T and LibriSpeech dev-clean.

    The digest covers graphs and manifest by content; the recordings, 0.5 GB, by name
    and length. Raises ``RequirementMissing`` for absent files, ``ValueError`` for
    wrong ones.
    """
    found = require_files("rnnt", SOURCES, scratch, files.USE_EMBEDDED)
    *graphs, manifest = found
    roots = (manifest.parent, manifest.parent.parent)
    recordings = read_manifest(manifest, roots, LONGEST_S)
    if len(recordings) != count:
        raise ValueError(
            f"{manifest} has {len(recordings):,} recordings of up to {LONGEST_S} s, but"
            f" should have {count:,}: the reference accuracy holds for all of them."
            " Convert LibriSpeech's dev-clean again."
        )
    check_recordings(recordings)
    return open_workload(
        "official",
        f"RNN-T, LibriSpeech dev-clean ({len(recordings):,} recordings)",
        files_digest([*graphs, manifest]),
        recordings,
        {},
        graphs[0].parent,
        OFFICIAL_PREDICTOR,
    )


@dataclass(frozen=True, slots=True)
class RnntBenchmark:
    """The benchmark as it registers itself."""

    name: str = "rnnt"
    aliases: tuple[str, ...] = ("rnn-t",)
    metric: str = METRIC
    takes: frozenset[str] = frozenset({"tensors"})
    rules: tuple[Rule, ...] = ()
    sources: tuple[Source, ...] = SOURCES
    rehearses: bool = True

    def precision(self, target: str) -> str:  # noqa: ARG002
        return "fp32"

    def open_workload(self, kind: str, scratch: Path | None) -> SpeechWorkload:
        """Open ``official``, ``embedded`` or ``synthetic``.

        Raises ``RequirementMissing`` for an absent file or package, ``ValueError`` for
        a wrong one.
        """
        transcripts.require_jiwer()
        if kind == "synthetic":
            return open_synthetic(
                OFFICIAL_RECORDINGS,
                METRIC,
                transcripts.TRANSDUCER,
                transcripts.word_error_rate,
            )
        require_soundfile()
        if kind == "official":
            return open_official(scratch)
        if kind == "embedded":
            return open_embedded()
        kinds = "official", "embedded", "synthetic"
        raise files.unknown_kind(self.name, kind, *kinds)


RNNT = RnntBenchmark()
