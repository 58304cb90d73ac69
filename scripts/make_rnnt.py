"""Make the embedded RNN-T again: speech, weights, three graphs and their reference.

    apt-get install espeak-ng
    python -m venv make
    make/bin/pip install -e '.[onnxruntime]' torch scipy soundfile jiwer
    make/bin/python scripts/make_rnnt.py BUILD            # all steps, about 5 min
    make/bin/python scripts/make_rnnt.py BUILD manifest   # one step

Steps: ``speak`` has espeak-ng say random sequences of words in many voices
(BUILD/speech.npz); ``train`` trains the reference implementation's RNN-T at a small
size, one thread (BUILD/rnnt.npz); ``export`` writes the three graphs, weights in fp16;
``clips`` writes the evaluation clips, of other sentences;
``manifest`` scores the shipped files in fp32 through the package's own code and records
that reference and every sha256. All is seeded; another processor or torch may round
differently, and then gives other weights of the same quality.
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import time
import wave
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import embedded_model
import numpy as np

from pytest_mlperf.benchmarks.rnnt import open_embedded
from pytest_mlperf.benchmarks.speech import features
from pytest_mlperf.benchmarks.speech.transducer import write_parts

TARGET = embedded_model.EMBEDDED / "rnnt"
MANIFEST = TARGET / "manifest.json"
WORDS = """
zero one two three four five six seven eight nine alpha bravo charlie delta echo
foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec romeo
sierra tango uniform victor whiskey yankee zulu yes no stop go left right up down
""".split()  # noqa: SIM905
ALPHABET = " abcdefghijklmnopqrstuvwxyz'"
BLANK = len(ALPHABET)
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029")
VOICES = ("m1", "m2", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f5")
UTTERANCES, CLIPS = 3200, 40
HIDDEN, PREDICTED, JOINED = 160, 80, 128
BATCH, MINUTES, SEED = 24, float(os.environ.get("MINUTES", "2.5")), 11


def speak(text: str, voice: str, speed: int, pitch: int) -> Any:
    """Return int16 samples at 16 kHz."""
    from scipy.signal import resample_poly

    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout"]
    said = subprocess.run([*command, text], check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(said)) as file:
        rate = file.getframerate()
        sound = np.frombuffer(file.readframes(1 << 30), "<i2").astype(np.float64)
    assert rate == 22050, rate
    sound = resample_poly(sound, 320, 441)
    return np.rint(sound / np.abs(sound).max() * 16000).astype(np.int16)


def draw(rng: random.Random, most: int) -> tuple[str, Any]:
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, most)))
    voice = f"{rng.choice(ACCENTS)}+{rng.choice(VOICES)}"
    return text, speak(text, voice, rng.randint(110, 150), rng.randint(35, 65))


def make_speech(build: Path) -> None:
    rng = random.Random(SEED)
    rows = [draw(rng, 6) for _ in range(UTTERANCES)]
    texts = np.array([text for text, _ in rows])
    lengths = np.array([len(sound) for _, sound in rows])
    sounds = np.concatenate([sound for _, sound in rows])
    np.savez(build / "speech.npz", texts=texts, lengths=lengths, sounds=sounds)
    print(f"{len(rows)} utterances, {lengths.sum() / features.RATE / 60:.0f} min")


def make_model() -> Any:
    """Return the model with the names of the reference's checkpoint."""
    import torch
    from torch import nn

    class Stack(nn.Module):
        def __init__(self, inputs: int, width: int, layers: int) -> None:
            super().__init__()
            self.lstm = nn.LSTM(inputs, width, layers)

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pre_rnn = Stack(features.FRAME_WIDTH, HIDDEN, 1)
            self.post_rnn = Stack(2 * HIDDEN, HIDDEN, 1)

    class Prediction(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(BLANK, PREDICTED)
            self.dec_rnn = Stack(PREDICTED, PREDICTED, 1)

    class Joint(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(HIDDEN + PREDICTED, JOINED),
                nn.ReLU(),
                nn.Linear(JOINED, BLANK + 1),
            )

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.prediction, self.joint = Encoder(), Prediction(), Joint()
            self.ctc = nn.Linear(HIDDEN, BLANK + 1)  # helps the encoder to begin

        def forward(self, x: Any, labels: Any) -> tuple[Any, Any]:
            x, _ = self.encoder.pre_rnn.lstm(x.transpose(0, 1))
            frames, batch, width = x.shape
            x = x.transpose(0, 1).reshape(batch, frames // 2, 2 * width)
            x, _ = self.encoder.post_rnn.lstm(x.transpose(0, 1))
            x = x.transpose(0, 1)
            embedded = self.prediction.embed(labels.clamp(max=BLANK - 1))
            first = torch.zeros_like(embedded[:, :1])
            embedded = torch.cat([first, embedded], 1).transpose(0, 1)
            g = self.prediction.dec_rnn.lstm(embedded)[0].transpose(0, 1)
            one, _, two = self.joint.net
            # The first layer of each, and their sum: that of their concatenation.
            left = x @ one.weight[:, :HIDDEN].T
            right = g @ one.weight[:, HIDDEN:].T + one.bias
            both = torch.relu(left[:, :, None] + right[:, None])
            return two(both).log_softmax(-1), self.ctc(x).log_softmax(-1)

    torch.manual_seed(SEED)
    return Model()


def transducer_loss(logp: Any, labels: Any, frames: Any, counts: Any) -> Any:
    """Return the mean negative log-likelihood; logp [batch, frames, labels + 1, all].

    Row by row over the frames: within a row alpha[u] is the log of a sum over how many
    labels came before, which one cumulative log-sum-exp gives.
    """
    import torch

    blank = logp[..., BLANK]
    index = labels.clamp(max=BLANK)[:, None, :, None]
    index = index.expand(-1, logp.shape[1], -1, -1)
    emit = logp[:, :, :-1].gather(3, index)[..., 0]
    sums = torch.nn.functional.pad(emit.cumsum(2), (1, 0))
    alpha = sums[:, 0]
    rows = [alpha]
    for t in range(1, logp.shape[1]):
        before = alpha + blank[:, t - 1]
        alpha = sums[:, t] + torch.logcumsumexp(before - sums[:, t], 1)
        rows.append(alpha)
    every = torch.stack(rows, 1)
    batch = torch.arange(len(labels))
    last = every[batch, frames - 1, counts] + blank[batch, frames - 1, counts]
    return -last.mean()


def make_batches(build: Path, rng: np.random.Generator) -> Any:
    """Yield batches of neighbors in length, with noise of their own."""
    import torch

    saved = np.load(build / "speech.npz")
    ends = saved["lengths"].cumsum()
    sounds, texts = np.split(saved["sounds"], ends[:-1]), saved["texts"].tolist()
    order = np.argsort(saved["lengths"], kind="stable")
    groups = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    while True:
        for number in rng.permutation(len(groups)):
            rows, labels = [], []
            for one in groups[number]:
                sound = sounds[one].astype(np.float32) / 32768
                sound = sound * rng.uniform(0.4, 1.6)
                noise = rng.standard_normal(len(sound)) * 10 ** rng.uniform(-4, -2.3)
                noisy = (sound + noise).astype(np.float32)
                rows.append(features.transducer_features(noisy))
                labels.append([ALPHABET.index(c) for c in texts[one]])
            longest = max(map(len, rows))
            x = np.zeros((len(rows), longest + longest % 2, features.FRAME_WIDTH), "f4")
            y = np.full((len(rows), max(map(len, labels))), BLANK)
            for row, (frames, text) in enumerate(zip(rows, labels, strict=True)):
                x[row, : len(frames)], y[row, : len(text)] = frames, text
            lengths = np.array([-(-len(frames) // 2) for frames in rows])
            counts = np.array([len(text) for text in labels])
            yield tuple(map(torch.from_numpy, (x, y, lengths, counts)))


def train(build: Path) -> None:
    import torch

    torch.set_num_threads(1)
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-6, weight_decay=1e-3)
    started = time.process_time()
    batches = make_batches(build, np.random.default_rng(SEED))
    training = embedded_model.Training(optimizer, every=20, clip=2.0)
    for step, (x, y, frames, counts) in enumerate(batches):
        done = (time.process_time() - started) / 60 / MINUTES
        if done >= 1:
            break
        rate = 3e-3 * min(1.0, (step + 1) / 50) * (1 - done) ** 0.7 + 2e-5
        training.set_rate(rate)
        logp, ctc = model(x, y)
        loss = transducer_loss(logp, y, frames, counts)
        aligned = torch.nn.functional.ctc_loss(
            ctc.transpose(0, 1), y, frames, counts, BLANK, zero_infinity=True
        )
        helped = loss + 0.3 * counts.float().mean() * aligned * (done < 0.8)
        training.take_step(helped, {"loss": loss, "ctc": aligned})
    named = model.state_dict().items()
    np.savez(
        build / "rnnt.npz",
        **{name: value.numpy() for name, value in named if "ctc" not in name},
    )


def export(build: Path) -> None:
    write_parts(dict(np.load(build / "rnnt.npz")), TARGET, half=True)


def write_clips(build: Path) -> None:  # noqa: ARG001 - one shape
    """Write the evaluation clips and their part of the manifest."""
    import soundfile

    rng = random.Random(SEED + 1)
    (TARGET / "clips").mkdir(parents=True, exist_ok=True)
    clips = []
    for number in range(CLIPS):
        text, sound = draw(rng, 7)
        path = TARGET / "clips" / f"{number:02d}.flac"
        soundfile.write(path, sound, features.RATE, subtype="PCM_16")
        clips.append(
            {
                "file": f"clips/{path.name}",
                "sha256": embedded_model.hash_file(path),
                "samples": len(sound),
                "transcript": text,
            }
        )
    embedded_model.write_manifest(MANIFEST, {**read_manifest(), "clips": clips})


def read_manifest() -> dict[str, Any]:
    return json.loads(MANIFEST.read_text()) if MANIFEST.is_file() else {}


def finish(build: Path) -> None:  # noqa: ARG001 - one shape
    """Record hashes, and the accuracy of the shipped graphs in fp32."""
    names = ("encoder.onnx", "predictor.onnx", "joint.onnx")
    manifest = {
        **read_manifest(),
        "model": embedded_model.hash_files(TARGET, names),
        "predictor": {"layers": 1, "width": PREDICTED},
        "reference": {"WER": 0.0},
    }

    def score() -> dict[str, float]:
        return embedded_model.score_samples(open_embedded(TARGET))

    embedded_model.write_scored_manifest(MANIFEST, manifest, score)


STEPS = {
    "speak": make_speech,
    "train": train,
    "export": export,
    "clips": write_clips,
    "manifest": finish,
}

if __name__ == "__main__":
    embedded_model.run_steps(STEPS, STEPS)
