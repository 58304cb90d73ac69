"""The folder of a session: claimed by one, named to its workers, gone if empty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from pytest_mlperf.reporting import results


@dataclass(slots=True)
class ReportsFolder:
    """A session's folder below ``--mlperf-reports``."""

    root: Path
    known: Path | None = None
    """The folder, once it is made or workers know its name."""

    @property
    def path(self) -> Path:
        """The folder; a path that nobody has where none is known yet."""
        return self.known or results.plan_folder(self.root, datetime.now())

    def claim(self) -> None:
        """Make the folder where that is not done; raises ``UsageError``."""
        with refusing_folder(self.known or self.root):
            if self.known is None:
                self.known = results.claim_folder(self.root, datetime.now())
            self.known.mkdir(parents=True, exist_ok=True)

    def tell(self, *, is_certain: bool) -> str:
        """Return the folder as workers are to use it, before it is known what they run.

        It is made where that is certain to be MLPerf items.
        """
        if is_certain:
            self.claim()
        self.known = self.path
        return str(self.known)

    def remove_unused(self) -> None:
        """Remove the folder, and the root, if nobody has put anything there."""
        if self.known:
            with suppress(OSError):
                self.known.rmdir()
                self.root.rmdir()


@contextmanager
def refusing_folder(folder: Path) -> Iterator[None]:
    """Raise ``UsageError`` where a reports folder cannot be made or written to."""
    try:
        yield
    except OSError as error:
        raise pytest.UsageError(
            f"the reports folder {folder} cannot be made: {error.strerror}; results "
            "would be lost; name a folder you can write to with --mlperf-reports DIR"
        ) from None
