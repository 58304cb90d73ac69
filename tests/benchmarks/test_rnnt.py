"""The benchmark rnnt: its workloads on onnxruntime, three graphs as one engine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_mlperf.api.benchmark import Benchmark
from pytest_mlperf.api.components import HasComponents
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks import rnnt
from pytest_mlperf.benchmarks.rnnt import RNNT
from pytest_mlperf.benchmarks.speech.workload import SpeechWorkload
from pytest_mlperf.core import rounds
from pytest_mlperf.core.rounds.rule import Rule
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME
from tests.support import speech


@pytest.fixture(scope="module")
def embedded() -> SpeechWorkload:
    return RNNT.open_workload("embedded", None)


@pytest.fixture(scope="module")
def engine(
    embedded: SpeechWorkload, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    cache = tmp_path_factory.mktemp("cache")
    opened = ONNXRUNTIME.open(
        ONNXRUNTIME.build(BuildRequest(embedded, "fp32", cache)), 1
    )
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def answers(embedded: SpeechWorkload, engine: Engine) -> dict[int, bytes]:
    """The reference engine's bytes for every clip."""
    return speech.answer_all(embedded, engine.infer, 8)


def rule() -> Rule:
    found = rounds.get("v4.0").find("rnnt", "", Scenario.OFFLINE)
    assert found is not None
    return found


def limit_of(workload: SpeechWorkload) -> float:
    (limit,) = rule().accuracy
    return limit.against(workload.reference[limit.metric]).threshold


def test_the_reference_is_what_the_engine_scores(
    embedded: SpeechWorkload, answers: dict[int, bytes]
) -> None:
    """In batches as one by one, which the manifest was made with."""
    assert embedded.score(answers) == pytest.approx(embedded.reference, abs=0.6)
    assert embedded.score(answers)["WER"] >= limit_of(embedded)
    assert embedded.reference["WER"] > 90


def test_permuted_answers_fail_the_limit(
    embedded: SpeechWorkload, answers: dict[int, bytes]
) -> None:
    """Each clip with its neighbor's words."""
    moved = {index: answers[(index + 1) % len(answers)] for index in answers}

    assert embedded.score(moved)["WER"] < limit_of(embedded)


def test_an_engine_that_hears_half_of_each_clip_fails_the_limit(
    embedded: SpeechWorkload, engine: Engine
) -> None:
    """The lengths that the encoder is told are halved."""

    def hear_half(batch: Batch, size: int) -> Sequence[Array]:
        found: Sequence[Array] = engine.infer(
            {**batch, "lengths": batch["lengths"] // 2}, size
        )
        return found

    found = speech.answer_all(embedded, hear_half, 8)

    assert embedded.score(found)["WER"] < limit_of(embedded)


def test_a_batch_has_no_padding_but_its_longest_clips(
    embedded: SpeechWorkload,
) -> None:
    """To an even number of frames, which the encoder joins in pairs."""
    embedded.dataset.load([0, 1, 2])
    batch = embedded.dataset.gather([0, 1, 2])
    longest = int(batch["lengths"].max())

    assert batch["features"].shape == (3, longest + longest % 2, 240)


def test_the_benchmark_and_its_workload_satisfy_the_protocols(
    embedded: SpeechWorkload,
) -> None:
    """The contract, checked by mypy and by use."""
    benchmark: Benchmark = RNNT
    workload: TensorWorkload = embedded

    assert (benchmark.name, benchmark.metric) == ("rnnt", "WER")
    assert isinstance(workload, HasComponents)
    assert len(embedded.transcripts) == workload.dataset.total == 40


def test_a_rehearsal_has_the_official_number_of_transcripts() -> None:
    """Its answers go through labels and word errors as a model's do."""
    workload = RNNT.open_workload("synthetic", None)
    answers = speech.answer_all(workload, lambda batch, _: list(batch.values()), 512)

    assert workload.dataset.total == rule().dataset_size
    assert workload.score(answers) == {"WER": 100.0}


@pytest.fixture
def scratch(tmp_path: Path, embedded: SpeechWorkload) -> Path:
    """A scratch folder with the embedded graphs, and three recordings, one too long."""
    folder = tmp_path / rnnt.MODEL_FOLDER
    folder.mkdir(parents=True)
    assert embedded.components is not None
    for part in embedded.components.parts.values():
        shutil.copy(part.path, folder)
    rows = [
        ("dev-clean-wav/1/a.wav", 16_000, "one"),
        ("dev-clean-wav/2/b.wav", 8000, "two"),
    ]
    (tmp_path / "data").mkdir()
    speech.write_dataset(
        tmp_path / "data/dev-clean-wav.json",
        [*rows, ("dev-clean-wav/3/c.wav", 240_001, "too long")],
    )
    return tmp_path


def test_the_official_workload_reads_graphs_and_manifest(scratch: Path) -> None:
    """Recordings of more than 15 s take no part."""
    workload = rnnt.open_official(scratch, count=2)

    assert workload.transcripts == ["one", "two"]
    assert workload.components is not None
    assert workload.components.parts["joint"].path.parent == scratch / "models/rnnt"


def test_another_number_of_recordings_is_refused(scratch: Path) -> None:
    """The reference holds for 2,513."""
    with pytest.raises(ValueError, match=r"has 2 recordings .* should have 2,513"):
        RNNT.open_workload("official", scratch)


def test_absent_official_files_are_listed(tmp_path: Path) -> None:
    """With the command that writes the graphs."""
    with pytest.raises(RequirementMissing) as caught:
        RNNT.open_workload("official", tmp_path)

    for part in ("encoder.onnx", "dev-clean-wav.json", "export_rnnt", "3662521"):
        assert part in str(caught.value)


def test_a_changed_graph_is_refused(tmp_path: Path) -> None:
    """Its hash is in the manifest."""
    folder = tmp_path / "rnnt"
    shutil.copytree(rnnt.EMBEDDED, folder)
    with (folder / "joint.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ValueError, match=r"joint.onnx has sha256 .*make_rnnt.py"):
        rnnt.open_embedded(folder)


def test_every_clip_was_said_in_words_of_the_alphabet(embedded: SpeechWorkload) -> None:
    """A transcript that no answer could match would lower the reference."""
    manifest = json.loads((rnnt.EMBEDDED / "manifest.json").read_text())

    assert [clip["transcript"] for clip in manifest["clips"]] == embedded.transcripts
    assert not set("".join(embedded.transcripts)) - set(embedded.alphabet.characters)


def test_the_export_says_how_it_is_called() -> None:
    """Without its two arguments."""
    command = [sys.executable, "-m", "pytest_mlperf.benchmarks.speech.export_rnnt"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)

    assert found.returncode == 2
    assert "export_rnnt CHECKPOINT FOLDER" in found.stderr


def test_every_clip_goes_through_loadgen(pytester: pytest.Pytester) -> None:
    """From the command line to the table, with the round's accuracy limit."""
    root = Path(__file__).parents[2]
    result = pytester.runpytest_subprocess(
        str(root / "suites"), "-c", str(root / "pyproject.toml"),
        "-k", "rnnt and offline and accuracy", "--mlperf-batch", "8",
        "--mlperf-reports", str(pytester.path / "reports"),
    )  # fmt: skip

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["accuracy * WER %  limit %", "  rnnt Offline  91.* 90.*"]
    )
