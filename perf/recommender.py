"""A recommender of 22 billion parameters on one GPU, measured without LoadGen.

    python -m perf.recommender --model dlrm,dcnv2 --precision fp16,fp32 --out reports

Rows and weights are made up; keys follow a power law over Criteo's tables. A tenth of
the rows is on the device, all of them are in pinned host memory. Every batch has keys
that no batch before had drawn, so that the hit rate is not that of a replay. Prints the
tables of NVIDIA's deployment guide and writes them as CSV and Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.recommender_deployment import CROSS
from perf.recommender_deployment import HALF
from perf.recommender_deployment import Deployment
from perf.recommender_deployment import add_network
from perf.recommender_deployment import deploy
from perf.recommender_deployment import hash_rows
from perf.recommender_deployment import log
from perf.recommender_replay import Replay
from perf.recommender_replay import measure
from perf.recommender_report import BATCHES
from perf.recommender_report import FP32
from perf.recommender_report import write_report
from pytest_mlperf.benchmarks.recommender.official import DIMENSION
from pytest_mlperf.benchmarks.recommender.official import NUMBERS
from pytest_mlperf.engines.torch.recommender import dense

PRECISIONS = (*HALF, *FP32)
WARM_BATCH = 65_536


def warm_up(deployment: Deployment, seconds: float) -> None:
    """Look up fresh batches until the time is over; print how the hit rate rises."""
    import torch

    batch = WARM_BATCH
    replay = Replay(deployment, batch)
    cache, ends = deployment.cache, time.monotonic() + seconds
    pairs = 0
    while time.monotonic() < ends:
        cache.reset_counts()
        for _ in range(100):
            replay.keys.copy_(deployment.draw_keys(batch))
            replay.steps["lookup"].replay()
            replay.insert.replay()
        torch.cuda.synchronize()
        pairs += 100 * batch
        counts = cache.count_rows(100 * batch)
        log(
            f"warm-up: {pairs:,} pairs, hit rate {counts.hit_rate:.2%}, cached tables "
            f"{counts.cached_hit_rate:.2%}, {counts.evictions:,} evictions"
        )


def check_answers(deployment: Deployment, batch: int = 4096) -> None:
    """Compare a warm lookup with the rows' recipe, bit for bit, and the dense part
    with fp32.
    """
    import torch

    cache, network = deployment.cache, deployment.network
    keys = deployment.draw_keys(batch)
    features = network.make_features(batch, cache.device)
    cache.look_up(keys, features[:, 1:])
    rows = (keys.long() + cache.offsets[:, None]).T[:, :, None]
    wrong = int((features[:, 1:] != hash_rows(rows, network.dtype)).any(2).sum())
    numbers = torch.randn(batch, NUMBERS, device=cache.device)
    exact = dense.DenseNetwork(
        deployment.weights, network.tables, cache.device, torch.float32
    )
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    reference = exact.run(numbers, features.float())
    torch.backends.cuda.matmul.allow_tf32 = allowed
    error = float((network.run(numbers, features) - reference).abs().max())
    log(
        f"check: {wrong} wrong rows of {rows.numel():,}, largest difference of a "
        f"probability from fp32 {error:.2e}, their spread {float(reference.std()):.2f}"
    )
    if wrong or not error < 0.05:
        raise SystemExit("the answers are wrong: nothing was measured")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="dlrm", help=", ".join(CROSS))
    parser.add_argument(
        "--precision",
        default="fp16,fp32",
        help="fp16, fp32, tf32, and tf32x3: fp32 of three TF32 products",
    )
    parser.add_argument("--parameters", type=float, default=22e9)
    parser.add_argument("--gpucacheper", type=float, default=0.1)
    parser.add_argument("--policy", choices=("lfu", "lru"), default="lfu")
    parser.add_argument("--exponent", type=float, default=1.1)
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--warm-up", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("reports/recommender"))
    options = parser.parse_args(arguments)
    for name, known in (("model", CROSS), ("precision", PRECISIONS)):
        chosen = getattr(options, name).split(",")
        if unknown := sorted({*chosen} - {*known}):
            parser.error(
                f"--{name} {unknown[0]} is unknown, but should be of {', '.join(known)}"
            )
        setattr(options, name, chosen)
    return options


def run_models(
    options: argparse.Namespace, precisions: Sequence[str], dtype: Any
) -> Iterator[str]:
    """Measure all models in the precisions of a row type; yield each one's report.

    They share rows and cache, which is warmed up once.
    """
    import torch

    deployment = deploy(options, dtype)
    is_warm = False
    for model in options.model:
        for precision in precisions:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            log(f"{model} {precision}")
            add_network(deployment, model, precision)
            check_answers(deployment)
            if not is_warm:
                warm_up(deployment, options.warm_up)
                check_answers(deployment)
                is_warm = True
            yield run_model(options, deployment, model, precision)
    deployment.pinned.close()


def run_model(
    options: argparse.Namespace, deployment: Deployment, model: str, precision: str
) -> str:
    """Measure all batch sizes; return the report."""
    import torch

    rows = []
    for batch in map(int, options.batches.split(",")):
        result = measure(deployment, batch)
        rows.append(result.as_row(model, precision))
        log(", ".join(f"{name} {text}" for name, text in rows[-1].items()))
    plan = deployment.cache.plan
    configuration = {
        "GPU": torch.cuda.get_device_name(),
        "Model architecture": model.upper(),
        "Model size": f"{sum(plan.sizes) * DIMENSION / 1e9:.1f}B parameters, "
        f"{len(plan.sizes)} tables of dimension {DIMENSION}, generated",
        "Backend": f"PyTorch {torch.__version__}, in-process",
        "Precision": precision.upper(),
        "Device cache": f"{plan.slots:,} rows (gpucacheper {options.gpucacheper:g}), "
        f"{deployment.cache.rows.nbytes / 1e9:.2f} GB, {options.policy}",
        "Host memory": f"{deployment.pinned.tensor.nbytes / 1e9:.1f} GB pinned",
        "Keys": f"power law, exponent {options.exponent:g}, fresh in every batch",
        "CUDA graph": "Enabled",
        "Device memory": f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB at most",
    }
    return write_report(options.out, f"{model}-{precision}", configuration, rows)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; a row type's memory is given back before the next."""
    import torch

    options = parse_arguments(arguments)
    for dtype, known in ((torch.float16, HALF), (torch.float32, FP32)):
        precisions = [one for one in options.precision if one in known]
        if precisions:
            for text in run_models(options, precisions, dtype):
                print(text, flush=True)  # noqa: T201
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
