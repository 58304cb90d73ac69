"""Asks an engine whether it can run here, in a process of its own.

``python -m pytest_mlperf.run.availability ENGINE`` prints a JSON value: what is missing
and how to get it, or null. A framework or a driver that is loaded for this is gone
again before the first run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from pytest_mlperf.api import registry
from pytest_mlperf.machine.process import set_up_child


def main(arguments: Sequence[str] | None = None) -> int:
    (spec,) = sys.argv[1:] if arguments is None else arguments
    set_up_child()
    # What libraries print is not the answer.
    answer = os.dup(1)
    os.dup2(2, 1)
    reason = registry.load("engine", spec).unavailable()
    os.write(answer, json.dumps(reason).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
