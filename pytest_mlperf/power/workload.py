"""The command that mlcommons' client runs as its workload: ``… SOCKET``.

It tells the session that waits at the socket that the meter is running, waits until
LoadGen is done there, and ends as that run did.
"""

from __future__ import annotations

import socket
import sys

DONE, FAILED = "done", "failed"


def main(path: str) -> int:
    """Return 0 where the run was good."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        # Nothing at all: the session has died.
        return 0 if connection.makefile().readline().strip() == DONE else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
