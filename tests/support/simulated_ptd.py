"""A simulated PTDaemon: its command line, text protocol and logs, and no meter.

``python simulated_ptd.py -l LOG -p PORT [-c CHANNELS] [-b BOARD] [FLAGS] TYPE DEVICE``.
Replies are worded as in published results (v5.1: WT210 and WT500). Environment:
``SIM_PERIOD_S`` seconds a sample (1 is PTDaemon's), ``SIM_WATTS`` the power,
``SIM_FAULT`` one of ``range`` (refuses ranges), ``silent`` (never measures) and
``start`` (ends at once).
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
import time
from datetime import UTC
from datetime import datetime

VERSION = f"{os.environ.get('SIM_VERSION', '1.11.1')}-simulated-20240907"
NAMES = {
    8: "YokogawaWT210", 35: "YokogawaWT500", 48: "YokogawaWT500_multichannel",
    49: "YokogawaWT310", 52: "YokogawaWT330", 77: "YokogawaWT330_multichannel",
    508: "YokogawaWT210_DC", 549: "YokogawaWT310_DC", 586: "YokogawaWT330_DC",
}  # fmt: skip
MULTICHANNEL = (48, 77)
DC = (508, 549, 586)
PERIOD_S = float(os.environ.get("SIM_PERIOD_S", "1"))
WATTS = float(os.environ.get("SIM_WATTS", "230"))
FAULT = os.environ.get("SIM_FAULT", "")


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%m-%d-%Y %H:%M:%S.%f")[:-3]


def say(text: str) -> None:
    sys.stdout.write(f"{stamp(time.time())}: {text}\n")
    sys.stdout.flush()


def figures(watts: float) -> str:
    amps = watts / 230 / 0.98
    return f"Watts,{watts:.6f},Volts,230.000000,Amps,{amps:.6f},PF,0.980000"


class Meter:
    """What the daemon knows: ranges, and the samples of the measurement."""

    def __init__(self, device: int, channels: int, log: str) -> None:
        self.device, self.channels, self.log = device, channels, log
        self.samples: list[str] = []
        self.thread: threading.Thread | None = None
        self.done = threading.Event()

    def measure(self, mark: str) -> None:
        """Take samples until ``done``; each also goes into the daemon's log."""
        self.done.wait(min(0.3, PERIOD_S))
        due = time.monotonic()
        while not self.done.is_set():
            count = max(1, self.channels)
            each = [figures(WATTS / count)] * self.channels
            head = f"Time,{stamp(time.time())},{figures(WATTS)}"
            if mark.endswith("ranging") and len(self.samples) < 3:
                say("ERROR: Can't evaluate uncertainty of this sample!")
            say("WARNING: Uncertainty unknown for the last measurement sample!")
            self.samples.append(",".join([head, *each]))
            with open(self.log, "a", encoding="utf-8") as file:  # noqa: PTH123
                more = [f"Ch{n},{one}" for n, one in enumerate(each, 1)]
                file.write(",".join([head, f"Mark,{mark}", *more]) + "\n")
            due += PERIOD_S
            self.done.wait(max(0.0, due - time.monotonic()))

    def answer(self, command: str) -> list[str]:
        words = command.split(",")
        match words:
            case ["Hello"]:
                return ["Hello, PTDaemon here!"]
            case ["Identify"]:
                more = f"version={VERSION},OS=Linux,mode=power,1,1,1,0,0,no_cal_date"
                return [f"{NAMES[self.device]},1000,1,1,1,1,0,0,1,{more},SIMULATED"]
            case ["RR"]:
                return ["Ranges,0,20.000000,0,300.000000"]
            case ["SR", "A" | "V" as what, _]:
                say(f"{'Ampere' if what == 'A' else 'Volt'} range set to {words[2]}")
                text = f"Range {what} changed"
                return ["Error: range is not available" if FAULT == "range" else text]
            case ["Go", "1000", "0", mark]:
                return self.go(mark)
            case ["Stop"] if self.thread:
                self.done.set()
                self.thread.join()
                self.thread = None
                say("Completed test")
                return ["Stopping untimed measurement"]
            case ["Stop"]:
                return ["Error: no measurement to stop"]
            case ["RL", "*", "*"] if self.device not in MULTICHANNEL:
                text = "Unknown command" if self.device in DC else (
                    "Invalid number of parameters"
                )  # fmt: skip
                return [f"Error: {text}"]
            case ["RL", *_] | ["DC-RL"] if (command == "DC-RL") == (self.device in DC):
                found, self.samples = self.samples, []
                return [f"Last {len(found)} samples", *found]
            case ["Uncertainty"]:
                return [f"Uncertainty,0.1,0.1,0.1,{len(self.samples)},0,0,0"]
            case ["Watts"]:
                return [f"Watts,{WATTS:.6f},{WATTS:.6f},{WATTS:.6f},1,0,1"]
        return ["Error: Unknown command"]

    def go(self, mark: str) -> list[str]:
        if FAULT == "silent":
            return ["Error: meter does not answer"]
        say(f"Go with mark '{mark}'")
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.measure, args=(mark,), daemon=True)
        self.thread.start()
        limits = "maximum 500000 samples at 1000ms with 0 rampup samples"
        return [f"Starting untimed measurement, {limits}"]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-l", required=True)
    parser.add_argument("-p", type=int, required=True)
    parser.add_argument("-c", default="")
    parser.add_argument("-b", type=int)
    for flag in ("-n", "-g", "-y", "-U", "-D"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("device", type=int)
    parser.add_argument("port")
    given = parser.parse_args()
    if FAULT == "start":
        say("ERROR: no analyzer found")
        return 1
    channels = [int(c) for c in given.c.split(",") if c]
    count = channels[-1] if given.device in MULTICHANNEL else 0
    say(f"Attempting to connect to measurement device type {given.device}...")
    say(f"Uncertainty checking for {NAMES[given.device]} is activated")
    meter = Meter(given.device, count, given.l)
    open(given.l, "w", encoding="utf-8").close()  # noqa: PTH123
    with socket.create_server(("127.0.0.1", given.p)) as server:
        say(f"Establishing the listener on port {given.p}...")
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile("rw", newline="") as lines:
                for line in lines:
                    for reply in meter.answer(line.strip()):
                        say(f"Response to client sent: {reply}")
                        lines.write(f"{reply}\r\n")
                    lines.flush()


if __name__ == "__main__":
    sys.exit(main())
