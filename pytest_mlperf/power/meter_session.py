"""All meters of a director through one session's phases."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from pytest_mlperf.power.config import DirectorConfig
from pytest_mlperf.power.line_socket import PowerFailed
from pytest_mlperf.power.ptd import AUTO
from pytest_mlperf.power.ptd import Ptd
from pytest_mlperf.power.record import FOLDERS
from pytest_mlperf.power.record import PHASES
from pytest_mlperf.power.record import SessionRecord
from pytest_mlperf.power.record import digest_folder
from pytest_mlperf.power.samples import find_ranges
from pytest_mlperf.power.samples import mark_sample
from pytest_mlperf.power.samples import merge_samples


class MeterSession:
    """Ranging, then testing with the ranges found; raises ``PowerFailed``."""

    def __init__(
        self, config: DirectorConfig, folder: Path, name: str, settle_s: float
    ) -> None:
        self._config, self._folder, self._name = config, folder, name
        self._settle_s = settle_s
        self._outputs = [
            folder / f"meter-{number}.log" for number, _ in enumerate(config.analyzers)
        ]
        self.ptds = [
            Ptd(
                one.command(config.ptd, folder / f"ptd-{number}.log"),
                one.network_port,
                output,
                f"analyzer{number}",
            )
            for number, (one, output) in enumerate(
                zip(config.analyzers, self._outputs, strict=True), 1
            )
        ]
        self._ranges = [(AUTO, AUTO)] * len(self.ptds)
        self.running = ""
        """The phase that is being measured."""
        self.finished: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start every meter's daemon that does not run."""
        self._each(Ptd.start)

    def close(self) -> None:
        """Restore the meters and end their daemons, whatever happened before."""
        with ExitStack() as stack:
            for ptd in self.ptds:
                stack.callback(ptd.stop)

    def may_start(self, phase: str) -> bool:
        """Return whether a phase is the next one."""
        return not self.running and phase == next(
            (name for name in PHASES if name not in self.finished), ""
        )

    def start_phase(self, phase: str) -> None:
        """Set the ranges, let the meters settle, and measure."""
        self.start()
        for ptd, (volts, amps) in zip(self.ptds, self._ranges, strict=True):
            ptd.set_range("V", volts)
            ptd.set_range("A", amps)
            if phase == "ranging":
                # As server.py does: the checker counts four settings of amperes.
                ptd.set_range("A", amps)
        time.sleep(self._settle_s)
        mark = f"{self._name}_{phase}"
        # Together: the samples of several meters are added.
        self._each(lambda ptd: ptd.begin(mark))
        self.running = phase

    def stop_phase(self) -> None:
        """Measure no more, and write the phase's samples."""
        phase, mark = self.running, f"{self._name}_{self.running}"
        time.sleep(self._settle_s)
        folder = self._folder / FOLDERS[phase]
        folder.mkdir()
        lines = []
        for number, ptd in enumerate(self.ptds, 1):
            if phase == "testing":
                told = (
                    f"Power: {ptd.ask('Watts')}\nUncertainty: {ptd.ask('Uncertainty')}"
                )
                with (folder / "ptd_out.txt").open("a", encoding="utf-8") as file:
                    file.write(f"Analyzer {number}:\n{told}\n")
            ptd.end()
            lines.append([mark_sample(line, mark) for line in ptd.read()])
            ptd.ask("Uncertainty")
            ptd.ask("Watts")
        text = "".join(f"{line}\n" for line in merge_samples(lines))
        (folder / "spl.txt").write_text(text, encoding="utf-8")
        if phase == "ranging":
            try:
                self._ranges = [find_ranges(one) for one in lines]
            except ValueError as error:
                raise PowerFailed(str(error)) from None
        self.running, self.finished = "", (*self.finished, phase)

    def write_record(self, record: SessionRecord, path: Path) -> None:
        """Write the daemons' output and server.json, when all daemons have ended."""
        logs = [
            f"Analyzer {number}\n{output.read_text('utf-8', errors='replace')}"
            for number, output in enumerate(self._outputs, 1)
        ]
        (path.parent / "ptd_logs.txt").write_text("".join(logs), encoding="utf-8")
        more = {
            "ptd_messages": [one for ptd in self.ptds for one in ptd.messages],
            "ptd_config": [
                {
                    "command": one.command(self._config.ptd, Path("ptd.log")),
                    "device_type": one.device_type,
                    "interface_flag": one.interface_flag,
                    "dc_flag": one.dc_flag or None,
                    "device_port": one.device_port,
                    "channel": list(one.channels) or None,
                }
                for one in self._config.analyzers
            ],
        }
        record.write(path, digest_folder(self._folder), more)

    def _each(self, act: Callable[[Ptd], None]) -> None:
        with ThreadPoolExecutor(len(self.ptds)) as pool:
            list(pool.map(act, self.ptds))
