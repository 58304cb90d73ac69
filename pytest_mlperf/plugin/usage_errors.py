"""What the user has to change, as pytest says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_mlperf.core.redaction import redact


@contextmanager
def as_usage_errors(option: str = "") -> Iterator[None]:
    """Raise ``UsageError`` for a ``ValueError`` of the block, without its secrets.

    ``option``: what the error's text is about, where it does not say so itself.
    """
    try:
        yield
    except ValueError as error:
        text = f"{option}: {error}" if option else str(error)
        raise pytest.UsageError(redact(text)) from None
