"""Whether clocks agree: with an NTP server, and with the other end.

Source: time_sync.py of ptd_client_server refuses 400 ms, so that two clocks at either
side of the NTP server's stay within the 800 ms that the checker allows between
client's and server's checkpoints (TIME_DELTA_TOLERANCE).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pytest_mlperf.power.line_socket import PowerFailed

APART_S = 0.4
NTP_PORT = 123
TIMEOUT_S = 5.0
PROMPT_S = 0.1
"""An answer that took longer says little of a clock: where one end was held up, half of
that looks like a difference. Such a question is asked again."""
TRIES = 5


def split_address(address: str, port: int) -> tuple[str, int]:
    """Return host and port of HOST or HOST:PORT; ``ValueError`` for another text."""
    host, colon, number = address.rpartition(":")
    if not colon or address.endswith("]"):  # [::1], an IPv6 address alone
        return address.strip("[]"), port
    if not number.isdecimal() or not 0 < int(number) < 1 << 16 or not host:
        raise ValueError("HOST or HOST:PORT, PORT from 1 to 65535")
    return host.strip("[]"), int(number)


def read_ntp_offset(server: str) -> float:
    """Return by how many seconds this clock is behind an NTP server's.

    By the promptest of some answers; ``PowerFailed`` where there is none.
    """
    try:
        import ntplib
    except ImportError:
        raise PowerFailed(
            "power measurements ask an NTP server for the time, which takes ntplib: "
            "pip install 'pytest-mlperf[power]'"
        ) from None
    host, port = split_address(server, NTP_PORT)
    answers: list[tuple[float, float]] = []
    while len(answers) < TRIES and not (answers and min(answers)[0] <= PROMPT_S):
        try:
            answer = ntplib.NTPClient().request(
                host, version=4, port=port, timeout=TIMEOUT_S
            )
        except (OSError, ntplib.NTPException) as error:
            raise PowerFailed(
                f"the NTP server {server} did not answer ({error}); name one that both "
                "machines reach"
            ) from error
        answers.append((float(answer.delay), float(answer.offset)))
    return min(answers)[1]


def check_ntp(server: str) -> str:
    """Return the offset in words; ``PowerFailed`` where it is too large."""
    offset_s = read_ntp_offset(server)
    if abs(offset_s) > APART_S:
        raise PowerFailed(
            f"this machine's clock is {offset_s * 1000:+.0f} ms from {server}'s, but "
            f"should be within {APART_S * 1000:.0f} ms: let chrony or ntpd follow it, "
            f"or set it once as root: ntpdate -b {server}"
        )
    return f"NTP: offset {offset_s * 1000:+.1f} ms from {server}"


def check_remote(ask_time: Callable[[], str]) -> str:
    """Return how far the other end's clock is away, in words.

    ``ask_time`` returns its seconds since 1970. ``PowerFailed`` where it is too far.
    """
    answers: list[tuple[float, float, float]] = []
    while len(answers) < TRIES and not (answers and min(answers)[0] <= PROMPT_S):
        before = time.time()
        text = ask_time()
        after = time.time()
        try:
            remote = float(text)
        except ValueError:
            raise PowerFailed(
                f"the director was asked for its time and said {text[:60]!r}, but it "
                "should be seconds since 1970; is it a PTDaemon's director?"
            ) from None
        answers.append((after - before, before - remote, after - remote))
    _, first_s, last_s = min(answers)
    if max(abs(first_s), abs(last_s)) > APART_S:
        raise PowerFailed(
            f"the director's clock is {first_s * 1000:+.0f} to {last_s * 1000:+.0f} ms "
            f"from this machine's, but should be within {APART_S * 1000:.0f} ms: let "
            "both follow one NTP server"
        )
    return f"director's clock: {first_s * 1000:+.1f} to {last_s * 1000:+.1f} ms"
