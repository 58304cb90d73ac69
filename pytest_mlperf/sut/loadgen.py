"""The only importer of ``mlperf_loadgen``: settings in, a folder of logs out.

LoadGen is a process-wide singleton with sharp edges (a missing folder or a callback
that raises aborts the process), so ``run`` belongs into a runner's child process.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Never `mlcommons_loadgen`: that stub replaces the real module in sys.modules.
import mlperf_loadgen

from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.sut.protocol import SUT
from pytest_mlperf.sut.protocol import SampleLibrary

complete = mlperf_loadgen.QuerySamplesComplete
first_token = mlperf_loadgen.FirstTokenComplete
response = mlperf_loadgen.QuerySampleResponse


def responses(
    ids: Iterable[int],
    addresses: Iterable[int],
    sizes: Iterable[int],
    tokens: Iterable[int] | None = None,
) -> list[Any]:
    """Return LoadGen's responses: where each answer lies, its bytes, its tokens."""
    if tokens is None:
        return list(map(response, ids, addresses, sizes))
    return list(map(response, ids, addresses, sizes, tokens))


BUILT_IN_CONF = 0
"""``FromConfig`` conf_type: the mlperf.conf compiled into LoadGen."""
PLAIN_CONF = 2
"""``FromConfig`` conf_type: this file only. Type 1 (user.conf) keeps a counter for the
whole process and leaves out mlperf.conf from the second call on."""


def loadgen_settings(settings: Settings, user_conf: Path) -> Any:
    """Return LoadGen ``TestSettings`` for one run, from user.conf and the round.

    Raises ``ValueError`` when LoadGen does not take the configuration.
    """
    made = mlperf_loadgen.TestSettings()
    scenario = settings.scenario.loadgen
    for path, kind in (("", BUILT_IN_CONF), (str(user_conf), PLAIN_CONF)):
        code = made.FromConfig(path, settings.model, scenario, kind)
        if code:
            raise ValueError(
                f"LoadGen refused {path or 'its built-in mlperf.conf'} with code "
                f"{code} (-2: no such file, -22: a line it cannot parse)"
            )
    made.scenario = getattr(mlperf_loadgen.TestScenario, scenario)
    made.mode = getattr(mlperf_loadgen.TestMode, settings.mode.loadgen)
    # What the round fixes. LoadGen has its own round compiled in, so each of these
    # is set even where both agree.
    made.qsl_rng_seed = settings.seeds.qsl
    made.sample_index_rng_seed = settings.seeds.sample_index
    made.schedule_rng_seed = settings.seeds.schedule
    made.min_duration_ms = settings.min_duration_ms
    made.min_query_count = settings.min_query_count
    made.max_duration_ms = settings.max_duration_ms
    made.performance_sample_count_override = settings.performance_sample_count
    made.sample_concatenate_permutation = settings.equal_issue
    made.use_token_latencies = settings.token_latencies
    if settings.ttft_ns is not None:
        made.ttft_latency = settings.ttft_ns
    if settings.tpot_ns is not None:
        made.tpot_latency = settings.tpot_ns
    prefix = {
        Scenario.SINGLE_STREAM: "single_stream",
        Scenario.MULTI_STREAM: "multi_stream",
        Scenario.OFFLINE: "offline",
    }.get(settings.scenario, "server")
    values: dict[str, float | int | None] = {
        "single_stream_expected_latency_ns": settings.expected_latency_ns,
        "multi_stream_expected_latency_ns": settings.expected_latency_ns,
        "single_stream_target_latency_percentile": settings.percentile,
        "multi_stream_target_latency_percentile": settings.percentile,
        "multi_stream_samples_per_query": settings.samples_per_query,
        "server_target_latency_percentile": settings.percentile,
        "server_target_latency_ns": settings.target_latency_ns,
        "server_target_qps": settings.target_qps,
        "offline_expected_qps": settings.target_qps,
    }
    for name, value in values.items():
        if value is not None and name.startswith(prefix):
            setattr(made, name, value)
    return made


def run(
    settings: Settings,
    folder: Path,
    sut: SUT,
    dataset: SampleLibrary,
    on_failure: Callable[[BaseException], None],
) -> None:
    """Run LoadGen once; its four logs and user.conf are in ``folder`` afterwards.

    Blocks until LoadGen is done. Callback errors go to ``on_failure``, never into
    LoadGen. Raises ``RunRefused`` when the folder cannot be written: LoadGen itself
    would abort the process at its next run.
    """
    require_encodable(folder)
    user_conf = folder / "user.conf"
    # An empty name keeps LoadGen from applying one of the working directory.
    audit = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        user_conf.write_text(settings.user_conf(), encoding="utf-8")
        if settings.audit_config:
            audit = str(folder / "audit.config")
            Path(audit).write_text(settings.audit_config, encoding="utf-8")
    except OSError as error:
        raise RunRefused(
            f"cannot write LoadGen's logs into {folder}: {error.strerror}; give a "
            "folder that can be written with --mlperf-reports DIR"
        ) from error
    made = loadgen_settings(settings, user_conf)
    output = mlperf_loadgen.LogOutputSettings()
    output.outdir = str(folder)
    log_settings = mlperf_loadgen.LogSettings()
    log_settings.log_output = output
    log_settings.enable_trace = False  # 0.7 kB a sample, and time on the hot path

    def guarded(call: Callable[[list[int]], None]) -> Callable[[list[int]], None]:
        def callback(indices: list[int]) -> None:
            try:
                call(indices)
            except BaseException as error:  # noqa: BLE001 - must not reach LoadGen
                on_failure(error)

        return callback

    handle, destroy = construct_sut(sut, on_failure)
    library = mlperf_loadgen.ConstructQSL(
        dataset.total,
        settings.performance_sample_count or dataset.performance_count,
        guarded(dataset.load),
        guarded(dataset.unload),
    )
    sut.start()
    try:
        mlperf_loadgen.StartTestWithLogSettings(
            handle, library, made, log_settings, audit
        )
    finally:
        sut.stop()
        destroy(handle)
        mlperf_loadgen.DestroyQSL(library)


def construct_sut(
    sut: SUT, on_failure: Callable[[BaseException], None]
) -> tuple[Any, Callable[[Any], None]]:
    """Return LoadGen's handle of a SUT, and what destroys it.

    A SUT over a network is a query dispatch library: LoadGen asks it for its name,
    which goes to every server and back (inference rules, QDL constraints).
    """
    ask_name = sut.network_name
    if ask_name is None:
        fast = mlperf_loadgen.ConstructFastSUT(sut.issue, sut.flush)
        return fast, mlperf_loadgen.DestroyFastSUT

    def name() -> str:
        try:
            return ask_name()
        except BaseException as error:  # noqa: BLE001 - must not reach LoadGen
            on_failure(error)
            return ""

    def issue(samples: list[Any]) -> None:
        sut.issue([one.id for one in samples], [one.index for one in samples])

    dispatch = mlperf_loadgen.ConstructQDL(issue, sut.flush, name)
    return dispatch, mlperf_loadgen.DestroyQDL


def require_encodable(folder: Path) -> None:
    """Raise ``RunRefused`` for a path that cannot be handed to LoadGen."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise RunRefused(
            f"LoadGen cannot write into {str(folder)!a}: this locale cannot encode the "
            "path; set LC_ALL=C.UTF-8, or choose an ASCII path with "
            "--mlperf-reports DIR"
        ) from None
