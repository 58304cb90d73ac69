"""A grid searched by optuna: it tries what earlier trials make likely to be good.

A trial is one combination, run for longer and longer while optuna's pruner lets it go
on. Trials are kept by optuna's own storages, so that a killed search goes on and
several machines may search together.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core.redaction import redact
from pytest_mlperf.tuning.grid_file import Grid
from pytest_mlperf.tuning.grid_file import Point
from pytest_mlperf.tuning.halving import Rung
from pytest_mlperf.tuning.journal import GridRun

if TYPE_CHECKING:
    import optuna

EXTRA = "pip install 'pytest-mlperf[tune]'"
STORAGES = "journal:FILE, redis://HOST:PORT/N, postgresql://… or sqlite:///FILE"
KINDS = ("journal", "redis", "rediss", "postgresql", "sqlite")
RUN = "run"
"""Of a trial: its last run, for whoever reads the study on another machine."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How optuna searches."""

    sampler: str
    trials: int
    """In all, of every machine."""
    storage: str
    seed: int | None = None


def open_study(sampling: Sampling, name: str, keep: int) -> optuna.Study:
    """Return the study of this name, with the trials that are in its storage.

    ``keep``: one trial in so many goes on to a longer run. ``RequirementMissing``
    without optuna or a database's driver, ``ValueError`` for a storage that is none.
    """
    try:
        import optuna
    except ImportError:
        raise RequirementMissing(f"--sampler needs optuna; {EXTRA}") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = {
        "tpe": optuna.samplers.TPESampler,
        "random": optuna.samplers.RandomSampler,
    }
    kind = sampling.storage.partition(":")[0]
    if kind.partition("+")[0] not in KINDS or kind == sampling.storage:
        found = redact(sampling.storage)
        raise ValueError(f"--storage {found!r}, but should be {STORAGES}")
    try:
        return optuna.create_study(
            study_name=name,
            storage=open_storage(kind, sampling.storage),
            sampler=samplers[sampling.sampler](seed=sampling.seed),
            pruner=optuna.pruners.SuccessiveHalvingPruner(1, keep),
            direction="maximize",
            load_if_exists=True,
        )
    except ImportError as error:
        why = f"--storage {kind}: {str(error).rstrip('.')}; {EXTRA}, and its driver"
        raise RequirementMissing(why) from None
    except Exception as error:  # noqa: BLE001 - every database has its own
        why = redact(str(error).strip().partition("\n")[0])  # it may quote the URL
        raise ValueError(f"--storage {kind}: {type(error).__name__}: {why}") from None


def open_storage(kind: str, text: str) -> optuna.storages.BaseStorage:
    """Return optuna's storage of ``journal:FILE`` or a database's URL."""
    from optuna import storages
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import journal

    if kind == "journal":
        file = text.partition(":")[2]
        return storages.JournalStorage(journal.JournalFileBackend(file))
    if kind in ("redis", "rediss"):
        with warnings.catch_warnings():
            # That its interface may change is our matter, not the user's.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return storages.JournalStorage(journal.JournalRedisBackend(text))
    return storages.RDBStorage(text)


def search(
    study: optuna.Study,
    grid: Grid,
    rungs: Sequence[Rung],
    trials: int,
    run: Callable[[Point, float], GridRun],
) -> list[GridRun]:
    """Run trials until there are so many, and return the whole ones, best first.

    A combination that cannot run is pruned at once, as is one that is worse than the
    others by its first, shorter runs.
    """
    import optuna
    from optuna.trial import TrialState

    counted = (TrialState.COMPLETE, TrialState.PRUNED)
    axes = {
        name: list(dict.fromkeys(dict(point)[name] for point in grid.points))
        for name, _ in grid.points[0]
    }

    def objective(trial: optuna.Trial) -> float:
        point = tuple((n, trial.suggest_categorical(n, v)) for n, v in axes.items())
        found = None
        for number, rung in enumerate(rungs):
            found = run(point, rung.seconds)
            trial.set_user_attr(RUN, asdict(found))
            if found.score is None:
                raise optuna.TrialPruned(found.figure)
            trial.report(found.score, grid.keep**number)
            if number + 1 < len(rungs) and trial.should_prune():
                raise optuna.TrialPruned
        assert found is not None
        assert found.score is not None
        return found.score

    if len(study.get_trials(deepcopy=False, states=counted)) < trials:
        stop = optuna.study.MaxTrialsCallback(trials, states=counted)
        study.optimize(objective, callbacks=[stop])
    return list_whole(study)


def list_whole(study: optuna.Study) -> list[GridRun]:
    """Return the combinations that ran to the end, each once, best first."""
    from optuna.trial import TrialState

    whole: dict[Point, GridRun] = {}
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    for trial in sorted(trials, key=lambda one: -(one.value or 0.0)):
        run = GridRun.from_values(trial.user_attrs[RUN])
        whole.setdefault(run.point, run)
    return [*whole.values()]
