"""Resets a setting when its owner is done or has died.

``python setting_reset.py COMMAND …`` reads its standard input, a pipe from its owner:
``RESET``, or a pipe that closes without a word, runs the command; ``LEAVE`` does not.
This file imports nothing of the package: it starts in milliseconds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

RESET, LEAVE = "reset\n", "leave\n"
TRIES = 3
TIMEOUT_S = 30.0


def main(command: list[str]) -> int:
    """Wait for the owner; return the command's exit status, 0 when it did not run."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.write(1, b"on guard\n")
    if sys.stdin.read() == LEAVE:
        return 0
    status, output = 1, "not tried"
    for _ in range(TRIES):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
            status, output = done.returncode, (done.stdout + done.stderr).strip()
        except (OSError, subprocess.TimeoutExpired) as error:
            output = str(error)
        if not status:
            break
    try:
        os.write(1, output.encode())
    except OSError:  # the owner is dead
        return status
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
