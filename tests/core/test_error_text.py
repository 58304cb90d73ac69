"""Any exception becomes a text of a bounded size."""

from __future__ import annotations

import pytest

from pytest_mlperf.core import error_text


class MuteError(Exception):
    """Its text cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no text")


class NumberError(Exception):
    """Its text is not a text."""

    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class LeavingError(Exception):
    """Asking for its text would end the process."""

    def __str__(self) -> str:
        raise SystemExit(0)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("plain"), "ValueError: plain"),
        (MuteError(), "MuteError: (its text cannot be made: __str__ raised ValueErr"),
        (NumberError(), "NumberError: (its text cannot be made: __str__ raised TypeE"),
        (LeavingError(), "LeavingError: (its text cannot be made: __str__ raised Syst"),
    ],
)
def test_a_cause_is_named_whatever_the_exception(error: Exception, text: str) -> None:
    """The type at least is known."""
    assert error_text.describe_error(error).startswith(text)


def test_no_character_of_a_text_is_a_command_to_the_terminal() -> None:
    """What a server sent is shown as it is; a compiler's colors are left out."""
    try:
        raise ValueError("HTTP 500: \x1b[31mred\x1b[0m\x1b[2J\0\r\n\tén\x07")
    except ValueError as caught:
        told, traced = error_text.read_text(caught), error_text.format_traceback(caught)

    assert told == "HTTP 500: red\\x1b[2J\\x00\\r\n\tén\\x07"
    assert told in traced


@pytest.mark.parametrize("error", [MuteError(), NumberError(), LeavingError()])
def test_the_place_is_shown_although_the_text_cannot_be(error: Exception) -> None:
    """The traceback says where it was raised."""
    try:
        raise error
    except Exception as caught:  # noqa: BLE001 - any of them
        text = error_text.format_traceback(caught)

    assert "raise error" in text
    assert type(error).__name__ in text


def test_a_huge_text_is_cut_in_the_middle_and_the_cut_is_noted() -> None:
    """A compiler says what it was doing first, and what went wrong last."""
    error = RuntimeError("begin " + "x" * 5_000_000 + " end")
    try:
        raise error
    except RuntimeError as caught:
        cause = error_text.describe_error(caught)
        trace = error_text.format_traceback(caught)

    for text, most in (
        (cause, error_text.MOST_CAUSE),
        (trace, error_text.MOST_TRACEBACK),
    ):
        assert len(text) < most + 100
        assert "RuntimeError: begin xxx" in text
        assert text.strip().endswith("x end")
        assert "characters left out …]" in text
    assert "raise error" in trace
