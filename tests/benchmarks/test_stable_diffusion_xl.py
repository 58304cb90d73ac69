"""The benchmark stable-diffusion-xl: its workloads, scores and the shipped model."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api.benchmark import Benchmark
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.workload import ShowsAnswers
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks.diffusion import embedded as stand_in
from pytest_mlperf.benchmarks.diffusion import official
from pytest_mlperf.benchmarks.diffusion.captions import read_captions
from pytest_mlperf.benchmarks.diffusion.scores import Statistics
from pytest_mlperf.benchmarks.diffusion.scores import measure_distance
from pytest_mlperf.benchmarks.diffusion.workload import DiffusionWorkload
from pytest_mlperf.benchmarks.stable_diffusion_xl import STABLE_DIFFUSION_XL
from pytest_mlperf.core import rounds
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME

Answers = Mapping[int, bytes]


@pytest.fixture(scope="module")
def embedded() -> DiffusionWorkload:
    return STABLE_DIFFUSION_XL.open_workload("embedded", None)


@pytest.fixture(scope="module")
def answers(
    embedded: DiffusionWorkload, tmp_path_factory: pytest.TempPathFactory
) -> Answers:
    """What the engine onnxruntime answers, in batches of 40, on one thread."""
    cache = tmp_path_factory.mktemp("cache")
    build = ONNXRUNTIME.build(BuildRequest(embedded, "fp32", cache))
    engine = ONNXRUNTIME.open(build, 1)
    found: dict[int, bytes] = {}
    for start in range(0, embedded.dataset.total, 40):
        indices = list(range(start, start + 40))
        outputs = engine.infer(embedded.dataset.gather(indices), 40)
        rows = embedded.respond(outputs, indices).rows
        found |= {i: row.tobytes() for i, row in zip(indices, rows, strict=True)}
    engine.close()
    return found


def passes(workload: DiffusionWorkload, answers: Answers) -> dict[str, bool]:
    """Return metric -> whether it lies in the newest round's band."""
    rule = rounds.get("v6.1").find("stable-diffusion-xl", "", Scenario.OFFLINE)
    assert rule is not None
    scores = workload.score(answers)
    limits = [one.against(workload.reference[one.metric]) for one in rule.accuracy]
    return {
        one.metric: one.threshold <= scores[one.metric] <= (one.upper or np.inf)
        for one in limits
    }


def test_the_benchmark_and_its_workload_satisfy_the_protocols(
    embedded: DiffusionWorkload,
) -> None:
    """The contract of the api, checked by mypy and by use."""
    benchmark: Benchmark = STABLE_DIFFUSION_XL
    workload: TensorWorkload = embedded

    assert benchmark.metric == "CLIP_SCORE"
    assert isinstance(workload, ShowsAnswers)
    assert workload.blank.shape == (16, 16, 3)
    with pytest.raises(ValueError, match="has no 'other' workload, but has 'official'"):
        benchmark.open_workload("other", None)


def test_fp32_reproduces_the_reference_in_batches(
    embedded: DiffusionWorkload, answers: Answers
) -> None:
    """Both scores lie in the middle of their bands, whatever the batch."""
    scores = embedded.score(answers)
    middle = {n: embedded.reference[n] / stand_in.BAND[n] for n in stand_in.BAND}

    assert scores == pytest.approx(middle, rel=1e-3)
    assert passes(embedded, answers) == {"CLIP_SCORE": True, "FID_SCORE": True}


def change(answers: Answers, spoil: Callable[[np.ndarray], np.ndarray]) -> Answers:
    pictures = {
        i: np.frombuffer(one, np.uint8).reshape(16, 16, 3) for i, one in answers.items()
    }
    return {i: spoil(one).astype(np.uint8).tobytes() for i, one in pictures.items()}


def noise(picture: np.ndarray) -> np.ndarray:
    return np.random.default_rng(int(picture.sum())).integers(0, 256, picture.shape)


WRONG: Mapping[str, Callable[[Answers], Answers]] = {
    "pictures of other captions": lambda a: {i: a[(i + 1) % len(a)] for i in a},
    "noise": lambda a: change(a, noise),
    "one picture for all": lambda a: dict.fromkeys(a, a[0]),
    "red and blue exchanged": lambda a: change(a, lambda p: p[..., ::-1]),
    "upside down": lambda a: change(a, lambda p: p[::-1]),
    "half as bright": lambda a: change(a, lambda p: p // 2),
    "answers lost": lambda a: {i: a[i] for i in range(len(a) - 10)},
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_engines_fail_the_band(
    embedded: DiffusionWorkload, answers: Answers, name: str
) -> None:
    """The official limits allow 0.2 % of the CLIP score, and 2 % of FID."""
    assert not all(passes(embedded, WRONG[name](answers)).values())


def test_a_real_judge_that_likes_pictures_too_much_fails_too(
    embedded: DiffusionWorkload, answers: Answers
) -> None:
    """Both bands have an upper end."""
    rule = rounds.get("v6.1").find("stable-diffusion-xl", "", Scenario.OFFLINE)
    assert rule is not None
    uppers = {
        one.metric: one.against(embedded.reference[one.metric]).upper
        for one in rule.accuracy
    }
    scores = embedded.score(answers)

    assert uppers == pytest.approx(
        {"CLIP_SCORE": 1.002 * scores["CLIP_SCORE"],
         "FID_SCORE": 1.02 * scores["FID_SCORE"]}, rel=1e-3
    )  # fmt: skip


def test_answers_are_pictures_and_wrong_ones_are_errors(
    embedded: DiffusionWorkload,
) -> None:
    """Rounded to eight bits as the reference does, channels last."""
    outputs = np.zeros((2, 3, 16, 16), np.float32)
    outputs[1, 2, 3, 4] = 0.5
    rows = embedded.respond([outputs], [0, 1]).rows

    assert rows.shape == (2, 16, 16, 3)
    assert rows[1, 3, 4].tolist() == [0, 0, 128]
    assert rows.sum() == 128
    with pytest.raises(ValueError, match=r"\[2, 3, 16, 16\], but should have \[1, 3"):
        embedded.respond([outputs], [0])
    outputs[1, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="first: sample 9"):
        embedded.respond([outputs], [5, 9])
    with pytest.raises(ValueError, match="4 bytes for sample 0, but should be 768"):
        embedded.score({0: b"1234"})
    with pytest.raises(ValueError, match="sample 320"):
        embedded.score({320: bytes(768)})


def test_the_answers_that_a_submission_shows_are_png_files(
    embedded: DiffusionWorkload, answers: Answers
) -> None:
    """With their captions, in the form of the reference's accuracy_coco.py."""
    from PIL import Image

    shown = embedded.show(answers, [7, 4000, 3])
    picture = np.asarray(Image.open(io.BytesIO(shown["7.png"])))

    assert sorted(shown) == ["3.png", "7.png", "captions.txt"]
    assert picture.tobytes() == answers[7]
    assert shown["captions.txt"].decode() == (
        f"7  {embedded.captions[7]}\n3  {embedded.captions[3]}\n"
    )
    assert embedded.show(answers, [4000]) == {}


def test_accuracy_txt_is_read_by_the_official_pattern(
    embedded: DiffusionWorkload,
) -> None:
    """The reference prints a dictionary of texts."""
    text = embedded.accuracy_text({"CLIP_SCORE": 31.75, "FID_SCORE": 23.5})

    assert text == "Accuracy Results: {'FID_SCORE': '23.5', 'CLIP_SCORE': '31.75'}"


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    """Another network would make the reference meaningless."""
    folder = tmp_path / "model"
    shutil.copytree(stand_in.EMBEDDED, folder)
    (folder / "unet.onnx").write_bytes(b"")

    with pytest.raises(ValueError, match=r"unet\.onnx has sha256"):
        stand_in.open_embedded(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\tcaption\n1\ta cat\n2\t \n", "empty caption in row 3"),
        ("id\ttext\n1\ta cat\n", "but should have one called caption"),
        ("id\tcaption\n1\ta cat\n", "has 1 captions, but should have 2"),
        ("", "has 0 captions"),
    ],
)
def test_wrong_captions_are_named(tmp_path: Path, text: str, message: str) -> None:
    """When the dataset is opened: nothing is scored."""
    path = tmp_path / "captions.tsv"
    path.write_text(text)

    with pytest.raises(ValueError, match=message):
        read_captions(path, 2)


def test_captions_of_another_encoding_are_named(tmp_path: Path) -> None:
    """A binary file with the right name."""
    path = tmp_path / "captions.tsv"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ValueError, match="no tab-separated text in UTF-8"):
        read_captions(path)


def test_wrong_latents_and_statistics_are_named(tmp_path: Path) -> None:
    """A file cut off, and one of another size."""
    path = tmp_path / "latents.npy"
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match="is no npy file"):
        official.read_latents(path)
    np.save(path, np.zeros((1, 4, 64, 64), np.float32))
    with pytest.raises(ValueError, match=r"\[1, 4, 64, 64\], but should have"):
        official.read_latents(path)
    with pytest.raises(ValueError, match="no npz file with mu and sigma"):
        Statistics.read(path)
    np.savez(tmp_path / "s.npz", mu=np.zeros(3), sigma=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"sigma of shape \(2, 2\)"):
        Statistics.read(tmp_path / "s.npz")


def test_absent_official_files_are_named_with_their_origin(tmp_path: Path) -> None:
    """All at once, and what to do instead."""
    with pytest.raises(RequirementMissing, match="Or choose --mlperf-workload") as told:
        STABLE_DIFFUSION_XL.open_workload("official", tmp_path)

    assert "captions_5k_final.tsv (5,000 samples)" in str(told.value)
    assert "val2014.npz" in str(told.value)


def test_the_distance_is_that_of_the_root_of_the_matrix() -> None:
    """The reference's formula, with scipy's root."""
    linalg = pytest.importorskip("scipy.linalg")
    random = np.random.default_rng(0)
    one, other = (
        Statistics(values.mean(0), np.cov(values, rowvar=False))
        for values in (random.normal(m, 1 + m, (90, 40)) for m in (0.0, 0.3))
    )
    root = linalg.sqrtm(one.covariance @ other.covariance)
    difference = one.mean - other.mean
    expected = difference @ difference
    expected += np.trace(one.covariance + other.covariance - 2 * root.real)

    assert measure_distance(one, other) == pytest.approx(expected, rel=1e-9)
    assert measure_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_a_rehearsal_scores_true_pictures_as_the_official_model() -> None:
    """And wrong ones below."""
    workload = STABLE_DIFFUSION_XL.open_workload("synthetic", None)
    answers: dict[int, bytes] = {}
    for start in range(0, 5000, 500):
        indices = list(range(start, start + 500))
        outputs = list(workload.dataset.gather(indices).values())
        rows = workload.respond(outputs, indices).rows
        answers |= {i: row.tobytes() for i, row in zip(indices, rows, strict=True)}
    some = {i: answers[i] for i in range(4900)}

    assert workload.score(answers) == pytest.approx(workload.reference)
    assert passes(workload, answers) == {"CLIP_SCORE": True, "FID_SCORE": True}
    assert not any(passes(workload, {}).values())
    assert not passes(workload, some)["CLIP_SCORE"]


def test_onnxruntime_refuses_the_generated_pipeline(tmp_path: Path) -> None:
    """Its networks are diffusers' to make."""
    workload = STABLE_DIFFUSION_XL.open_workload("generated", None)

    with pytest.raises(BuildFailed, match="no single ONNX file"):
        ONNXRUNTIME.build(BuildRequest(workload, "fp32", tmp_path))
