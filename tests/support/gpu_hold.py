"""Holds memory of the first GPU: ``python gpu_hold.py GIB [PORT [left]]``.

With a port it also serves as an LLM endpoint does; with ``left`` it leaves a process
behind that keeps the memory when the server ends. Needs the driver's library alone.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

LEFT_S = 120
"""How long a process that is left behind lives at most."""


def hold(gib: float) -> None:
    """Take device memory until this process ends."""
    driver = ctypes.CDLL("libcuda.so.1")
    context, address = ctypes.c_void_p(), ctypes.c_ulonglong()
    device = ctypes.c_int()
    for name, *arguments in (
        ("cuInit", 0),
        ("cuDeviceGet", ctypes.byref(device), 0),
        ("cuDevicePrimaryCtxRetain", ctypes.byref(context), device),
        ("cuCtxSetCurrent", context),
        ("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(int(gib * 2**30))),
    ):
        code = getattr(driver, name)(*arguments)
        if code:
            raise SystemExit(f"{name} failed with {code}")


def main(arguments: list[str]) -> None:
    gib = float(arguments[0])
    if len(arguments) == 1:
        hold(gib)
        sys.stdout.write("held\n")
        sys.stdout.flush()
        time.sleep(LEFT_S)
        return
    if "left" in arguments:
        # Out of the server's process group, so that its end does not reach it.
        left = subprocess.Popen(
            [sys.executable, __file__, str(gib)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert left.stdout is not None
        left.stdout.readline()
        Path(os.environ["LEFT_PID"]).write_text(str(left.pid))
    else:
        hold(gib)
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.support.endpoint_double import serve_endpoint

    with serve_endpoint(port=int(arguments[1])):
        time.sleep(LEFT_S)


if __name__ == "__main__":
    main(sys.argv[1:])
