"""The ctranslate2 engine: Whisper models on CPUs and CUDA devices.

CTranslate2 brings the model's graph, so that a checkpoint is all it reads: its own
files, or Hugging Face's, which are converted once.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.whisper_model import HasWhisperModel
from pytest_mlperf.api.whisper_model import WhisperModel
from pytest_mlperf.core.whole_file import is_whole
from pytest_mlperf.core.whole_file import note_content
from pytest_mlperf.engines.build_lock import lock_build
from pytest_mlperf.engines.cpu_layouts import spread_over_cpus

COMPUTE_TYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
"""Precision -> CTranslate2's name; what is left of int8 computes in the fastest type
that the device has."""
NATIVE, HUGGING_FACE = "model.bin", "model.safetensors"
CONVERTER = "pip install transformers torch"


@dataclass(slots=True)
class WhisperEngine:
    """One model, whose transcripts of a batch are decoded together."""

    model: Any
    whisper: WhisperModel
    answers: bool = False

    def infer(self, batch: Batch, size: int) -> Sequence[Array]:
        """Return tokens int32 [size, longest], and how many each transcript has.

        The end token is one of them, as the reference implementation counts.
        """
        import ctranslate2

        whisper = self.whisper
        prompt, most = list(whisper.prompt), whisper.max_tokens
        found = self.model.generate(
            ctranslate2.StorageView.from_array(batch["features"]),
            [prompt] * size,
            beam_size=1,
            # Half of it goes to the transcript, or what the prompt leaves if less.
            max_length=max(2 * most, most + len(prompt)),
            # The reference suppresses nothing; CTranslate2 would by itself.
            suppress_blank=False,
            suppress_tokens=list(whisper.suppressed),
        )
        ended = [_end_tokens(one.sequences_ids[0], whisper) for one in found]
        counts = np.array([len(tokens) for tokens in ended], np.int32)
        rows = np.zeros((size, int(counts.max())), np.int32)
        for row, tokens in zip(rows, ended, strict=True):
            row[: len(tokens)] = tokens
        return rows, counts

    def close(self) -> None:
        self.model = None


def _end_tokens(tokens: Sequence[int], whisper: WhisperModel) -> Sequence[int]:
    """Return a transcript with its end token, which CTranslate2 leaves out."""
    is_cut = len(tokens) >= whisper.max_tokens
    return tokens if is_cut else [*tokens, whisper.end]


@dataclass(frozen=True, slots=True)
class CTranslate2Provider:
    """Reads a Whisper checkpoint, and runs it where CTranslate2 can."""

    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    answers: bool = False
    more_exact: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"int8": ("fp32",)}
    )
    options: Mapping[str, str] = field(
        default_factory=lambda: {"device": "auto, cpu or cuda"}
    )

    def check_options(self, given: Mapping[str, str]) -> None:
        try:
            _find_device(given.get("device", "auto"))
        except (BuildFailed, RequirementMissing) as error:
            raise ValueError(str(error)) from None

    @property
    def precision_for(self) -> Mapping[str, str]:
        """Held to the same limit: weights of 8 bits on a CPU, of 16 on a GPU."""
        return {"fp32": "fp16" if _has_cuda() else "int8"}

    @property
    def batches(self) -> tuple[int, ...]:
        """A CPU gains little by a batch, and a large one takes it a minute."""
        return (1, 8, 32, 64, 128) if _has_cuda() else (1, 2)

    def unavailable(self) -> str | None:
        if importlib.util.find_spec("ctranslate2"):
            return None
        return (
            "the engine ctranslate2 needs ctranslate2: "
            "pip install 'pytest-mlperf[speech]'"
        )

    def build(self, request: BuildRequest) -> Build:
        """Find the model's folder, converted where it is Hugging Face's.

        Raises ``BuildFailed`` for a workload without a Whisper model, or a precision
        that the device has not.
        """
        import ctranslate2

        whisper = find_whisper_model(request)
        device = _find_device(request.options.get("device", "auto"))
        _check_precision(request.precision, device)
        digest = content_hash(
            {
                "engine": "ctranslate2",
                "version": ctranslate2.__version__,
                "device": device,
                "precision": request.precision,
                "workload": request.workload.digest,
            }
        )
        started = time.monotonic()
        folder = find_folder(whisper)
        path, is_new = folder, False
        if not (path / NATIVE).is_file():
            path = request.cache / "ctranslate2" / f"{request.workload.digest[:32]}"
            with lock_build(path.with_suffix(".lock"), [path / NATIVE]):
                is_new = not is_whole(path / NATIVE)
                if is_new:
                    convert(folder, path)
                    note_content(path / NATIVE)
        seconds = time.monotonic() - started
        return Build(
            digest,
            path / NATIVE,
            request,
            f"converted in {seconds:.1f} s" if is_new else "nothing to build",
            {"device": device, "ctranslate2": ctranslate2.__version__},
            device,
            uses_gpu=device == "cuda",
            device="" if device == "cuda" else "CPU",
        )

    def open(self, build: Build, threads: int) -> WhisperEngine:
        import ctranslate2

        assert build.path is not None
        whisper = find_whisper_model(build.request)
        try:
            model = ctranslate2.models.Whisper(
                str(build.path.parent),
                device=build.details,
                compute_type=COMPUTE_TYPES[build.request.precision],
                intra_threads=threads,
                inter_threads=1,
            )
        except (RuntimeError, ValueError) as error:
            raise BuildFailed(
                f"the Whisper model in {build.path} cannot be opened on"
                f" {build.details} in {build.request.precision}: {error}. Copy or"
                " convert the model again, or choose another --mlperf-precision."
            ) from error
        return WhisperEngine(model, whisper)

    def layouts(self, cpus: int) -> tuple[Streams, ...]:
        if _has_cuda():
            # Beside the others' batches, each computes the features of its next one.
            return Streams(4, 1), Streams(2, 1), Streams(1, 1)
        return spread_over_cpus(cpus)


def find_whisper_model(request: BuildRequest) -> WhisperModel:
    """Return the workload's model; raises ``BuildFailed`` where it has none."""
    workload = request.workload
    whisper = workload.whisper if isinstance(workload, HasWhisperModel) else None
    if whisper is None:
        raise BuildFailed(
            f"{workload.title} has no Whisper model, but the engine ctranslate2 runs"
            " nothing else; choose another --mlperf-engine"
        )
    return whisper


def find_folder(whisper: WhisperModel) -> Path:
    """Return the checkpoint's folder; weights that are made up are written first."""
    if whisper.folder is not None:
        return whisper.folder
    assert whisper.write_folder is not None, "made-up weights are in no folder yet"
    return whisper.write_folder()


@cache
def _has_cuda() -> bool:
    if not importlib.util.find_spec("ctranslate2"):
        return False
    import ctranslate2

    return bool(ctranslate2.get_cuda_device_count() > 0)


def _find_device(name: str) -> str:
    """Return ``cpu`` or ``cuda``; raises for a device that is not there."""
    if name == "auto":
        return "cuda" if _has_cuda() else "cpu"
    if name not in ("cpu", "cuda"):
        raise BuildFailed(
            f"the engine ctranslate2 got device={name}, but should get auto, cpu or"
            " cuda [--mlperf-engine-options]"
        )
    if name == "cuda" and not _has_cuda():
        raise RequirementMissing(
            "the engine ctranslate2 finds no CUDA device: check nvidia-smi, or drop"
            " device=cuda from --mlperf-engine-options to measure the CPU"
        )
    return name


def _check_precision(precision: str, device: str) -> None:
    import ctranslate2

    supported = ctranslate2.get_supported_compute_types(device)
    if COMPUTE_TYPES[precision] in supported:
        return
    able = [name for name, kind in COMPUTE_TYPES.items() if kind in supported]
    raise BuildFailed(
        f"CTranslate2 does not compute in {precision} on this {device}, but does in"
        f" {', '.join(able)}; choose one with --mlperf-precision"
    )


def convert(folder: Path, target: Path) -> None:
    """Write CTranslate2's files of a Hugging Face checkpoint; about a minute for large.

    Raises ``RequirementMissing`` without the packages that read such a checkpoint, and
    ``BuildFailed`` for a folder that is no checkpoint.
    """
    needed = ("transformers", "torch")
    missing = [name for name in needed if not importlib.util.find_spec(name)]
    if missing:
        raise RequirementMissing(
            f"{folder} is a Hugging Face checkpoint, and converting it needs"
            f" {' and '.join(missing)}: {CONVERTER}; or put a converted model"
            f" ({NATIVE}) there"
        )
    from ctranslate2.converters import TransformersConverter

    making = target.with_suffix(".making")
    try:
        TransformersConverter(os.fspath(folder)).convert(os.fspath(making), force=True)
    except Exception as error:
        shutil.rmtree(making, ignore_errors=True)
        raise BuildFailed(
            f"the checkpoint in {folder} cannot be converted:"
            f" {type(error).__name__}: {error}. It should have config.json,"
            f" tokenizer.json and {HUGGING_FACE} of a Whisper model: copy it again."
        ) from error
    shutil.rmtree(target, ignore_errors=True)
    making.rename(target)


CTRANSLATE2 = CTranslate2Provider()
