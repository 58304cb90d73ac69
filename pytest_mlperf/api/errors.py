"""How an engine, a service or a benchmark says what went wrong."""

from __future__ import annotations


class RequirementMissing(Exception):
    """A package, file or device that a cell needs is not here; the text says which
    one, where it comes from and where to put it. The item is skipped, not failed.
    """


class BuildFailed(Exception):
    """An engine could not be built; the text says what it met and what to try."""


class RequestFailed(Exception):
    """A request got no answer that counts: endpoint, request, time and problem."""

    def __init__(self, url: str, sample: int, after_s: float, problem: str) -> None:
        """``sample``: -1 where a stream failed before any request."""
        self.url = url
        self.sample = sample
        self.after_s = after_s
        self.problem = problem
        what = "stream" if sample < 0 else f"request for sample {sample}"
        super().__init__(f"{url}: {what} failed after {after_s:.3f} s: {problem}")


class BadAnswer(Exception):
    """An answer that does not count; the text says what was found and expected."""
