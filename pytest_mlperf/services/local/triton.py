"""A real Triton on this machine: the tritonserver of the package nvidia-pytriton.

``python -m pytest_mlperf.services.local.triton --port 8000 --grpc-port 8001
--model-repository DIR`` serves a repository whose models run in the Python backend,
with the packages of the Python that runs this, until SIGTERM. Further options, such as
--model-control-mode=explicit, are tritonserver's own.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from pytest_mlperf.api.embedded_server import ServerRecipe
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.config.load_options import read_load_options
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.whole_file import is_whole
from pytest_mlperf.core.whole_file import note_content
from pytest_mlperf.machine.process import name_signal
from pytest_mlperf.services.kserve import python_backend
from pytest_mlperf.services.kserve.client_options import drop_client_options
from pytest_mlperf.services.kserve.client_options import read_client_options
from pytest_mlperf.services.kserve.cuda_driver import missing_driver
from pytest_mlperf.services.kserve.deployment import Deployment
from pytest_mlperf.services.kserve.deployment import read_deployment
from pytest_mlperf.services.kserve.repository import export_model

PACKAGE = "pytriton"
REMEDY = (
    "pip install --no-deps nvidia-pytriton (55 MB; what it depends on is not used, and"
    " it asks for an older NumPy), or attach to a running server with --mlperf-triton"
    " URL"
)
MODEL = "model"
"""Name of the served model: the server serves one."""
MOST_INSTANCES = 16
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lies
PREFIX = "pytest-mlperf-triton"
"""Of the regions by which the server and its Python processes talk."""
EXIT_S = 4
"""How long the server waits until its models are unloaded, which they sometimes never
are. Its own 30 s outlast the grace of who started it: it was killed, and its shared
memory stayed."""
EXPORT_VERSION = 1
"""Increased whenever an exported repository is another."""
HEALTH = "/v2/health/ready"
URLS = {"http": "http://{host}:{port}", "grpc": "grpc://{host}:{grpc_port}"}
"""Protocol -> where the server is asked."""


def find_server() -> Path:
    """Return the wheel's folder; raises ``RequirementMissing``."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        found = Path(folder) / "tritonserver"
        if (found / "bin" / "tritonserver").is_file():
            return found
    raise RequirementMissing(f"no tritonserver on this machine: {REMEDY}")


def unavailable() -> str | None:
    """Return what is missing for a server here, or None."""
    try:
        find_server()
        find_python_library()
    except RequirementMissing as missing:
        return str(missing)
    return None


def find_python_library() -> Path:
    """Return the folder of this Python's shared library.

    Raises ``RequirementMissing`` for a Python that was built without one.
    """
    folder = Path(sysconfig.get_config_var("LIBDIR") or "")
    name = str(sysconfig.get_config_var("INSTSONAME") or "")
    if ".so" in name and (folder / name).is_file():
        return folder
    raise RequirementMissing(
        f"{sys.executable} has no shared library (libpython…so in {folder}), which "
        "Triton's Python backend loads; use a Python built with --enable-shared, or "
        "attach to a running server with --mlperf-triton URL"
    )


def make_server_recipe(
    workload: TensorWorkload,
    precision: str,
    cache: Path,
    cpus: Sequence[int],
    options: Mapping[str, str],
) -> ServerRecipe:
    """Return how the workload's model is served; exports it once into ``cache``.

    Raises ``RequirementMissing`` for a missing package and ``RunRefused`` for options
    that contradict.
    """
    find_server()
    find_python_library()
    instances = min(max(1, len(cpus)), MOST_INSTANCES)
    default = Deployment(instance_group_count=instances)
    try:
        asked = read_client_options(options)
        given = drop_client_options(options)
        deployment = read_deployment(given, os.environ, default)
    except ValueError as error:
        raise RunRefused(f"--mlperf-engine-options: {error}") from None
    if asked.shared_memory == "cuda" and (missing := missing_driver()):
        raise RequirementMissing(missing)
    if deployment.captures_torchscript:
        sizes = read_load_options(options, environ=os.environ).batch_size
        deployment = replace(deployment, batch_size=sizes)
    if deployment.format == "trt":
        raise RunRefused(
            "format=trt (FORMAT), but the server of nvidia-pytriton runs onnx and "
            "TorchScript; export the model (pytest-mlperf triton export) "
            "and attach to a stock server with --mlperf-triton URL"
        )
    if deployment.backend != "python":
        raise RunRefused(
            f"backend={deployment.backend}, but the server of nvidia-pytriton has the "
            "Python backend alone; leave it out, or export the model (pytest-mlperf "
            "triton export) and attach to a stock server with --mlperf-triton URL"
        )
    repository = prepare_repository(workload, precision, deployment, cache)
    command = (
        sys.executable, "-m", __name__, "--port", "{port}", "--grpc-port",
        "{grpc_port}", "--model-repository", str(repository),
    )  # fmt: skip
    return ServerRecipe(command, health=HEALTH, url=URLS[asked.protocol])


def prepare_repository(
    workload: TensorWorkload, precision: str, deployment: Deployment, cache: Path
) -> Path:
    """Return the model repository of a workload; it is written once."""
    source = Path(python_backend.__file__).read_bytes()
    digest = content_hash(
        {
            "workload": workload.digest,
            "precision": precision,
            "deployment": deployment,
            "backend": hashlib.sha256(source).hexdigest(),
            "version": EXPORT_VERSION,
        }
    )
    repository = cache / "triton" / digest[:32]
    repository.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(repository.with_suffix(".lock")):
        if not is_whole(repository):
            shutil.rmtree(repository, ignore_errors=True)
            making = repository.with_suffix(".making")
            shutil.rmtree(making, ignore_errors=True)
            export_model(workload, MODEL, precision, deployment, making)
            making.replace(repository)
            note_content(repository)
    return repository


def make_environment(server: Path) -> dict[str, str]:
    """Return the environment in which Triton finds its libraries and this Python.

    The stub that runs a model finds its packages by the first ``python3`` on the PATH.
    """
    own = find_python_library(), server.parents[1] / "nvidia_pytriton.libs"
    libraries = [*map(str, own), os.environ.get("LD_LIBRARY_PATH", "")]
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        "PATH": os.pathsep.join(filter(None, folders)),
    }


def link_backends(server: Path, folder: Path) -> None:
    """Make a folder of backends with the stub of this Python."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = "triton_python_backend_stub"
    source = server / "python_backend_stubs" / version / stub
    if not source.is_file():
        there = sorted(p.name for p in source.parents[1].iterdir())
        raise RequirementMissing(
            f"nvidia-pytriton has no stub for Python {version}, but for "
            f"{', '.join(there)}; use one of these"
        )
    python = folder / "python"
    python.mkdir(parents=True)
    for path in (server / "backends" / "python").iterdir():
        (python / path.name).symlink_to(path)
    (python / stub).unlink(missing_ok=True)
    (python / stub).symlink_to(source)


def remove_regions(owner: int | None = None) -> None:
    """Remove shared memory that a server left: an ``owner``'s, or of ended ones."""
    for path in SHARED_MEMORY.glob(f"{PREFIX}-*"):
        number = path.name.removeprefix(f"{PREFIX}-").partition("-")[0]
        is_theirs = number.isdecimal() and not Path(f"/proc/{number}").exists()
        if number == str(owner) or is_theirs:
            with suppress(OSError):
                path.unlink()


def serve(options: argparse.Namespace, further: Sequence[str] = ()) -> int:
    """Serve until a signal ends this process; return the server's status."""
    server = find_server()
    own = os.getpid()
    remove_regions()
    with tempfile.TemporaryDirectory(prefix="pytest-mlperf-triton-") as name:
        backends = Path(name)
        link_backends(server, backends)
        command = [
            str(server / "bin" / "tritonserver"),
            f"--model-repository={options.model_repository}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={PREFIX}-{own}-",
            "--http-address=127.0.0.1", f"--http-port={options.port}",
            "--grpc-address=127.0.0.1", f"--grpc-port={options.grpc_port}",
            "--allow-metrics=false", f"--exit-timeout-secs={EXIT_S}", *further,
        ]  # fmt: skip
        process = subprocess.Popen(command, env=make_environment(server))
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            status = process.wait()
            if status < 0:
                how = name_signal(-status)
                print(f"tritonserver was ended by {how}", file=sys.stderr)  # noqa: T201 - the log
            return status if status >= 0 else 128 - status
        finally:
            process.kill()
            remove_regions(own)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__spec__.name}" if __spec__ else None,
        description="Serve a model repository with the tritonserver of nvidia-pytriton",
        epilog="Further options are tritonserver's own.",
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--model-repository", type=Path, required=True)
    options, further = parser.parse_known_args(arguments)
    try:
        return serve(options, further)
    except RequirementMissing as missing:
        print(missing, file=sys.stderr)  # noqa: T201 - the log
        return 2


if __name__ == "__main__":
    sys.exit(main())
