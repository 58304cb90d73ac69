"""Lines of ``tegrastats`` as users of Jetsons published them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.machine.nvml import Reading
from pytest_mlperf.machine.tegrastats import parse_line
from tests.support.tegrastats_lines import ORIN_AGX

XAVIER_NX = (
    "RAM 2690/6854MB (lfb 6x1MB) SWAP 479/3427MB (cached 3MB) CPU "
    "[3%@1904,7%@1906,1%@1905,0%@1907,off,off] EMC_FREQ 0%@1600 GR3D_FREQ 0%@[510] "
    "VIC_FREQ 601 APE 150 AUX@39C CPU@39.5C AO@37.5C GPU@37.5C PMIC@50C "
    "VDD_IN 5079mW/5079mW VDD_CPU_GPU_CV 696mW/696mW VDD_SOC 1104mW/1104mW"
)
XAVIER_NX_OLDER = (
    "RAM 2387/7774MB (lfb 961x4MB) SWAP 0/3887MB (cached 0MB) CPU [14%@1190,9%@1190,"
    "2%@1190,4%@1190,0%@1190,1%@1344] EMC_FREQ 1%@1600 GR3D_FREQ 0%@114 VIC_FREQ "
    "0%@115 APE 150 MTS fg 0% bg 3% AO@31C GPU@31.5C PMIC@100C AUX@31.5C CPU@33C "
    "thermal@31.95C VDD_IN 3528/3569 VDD_CPU_GPU_CV 410/426 VDD_SOC 1107/1115"
)
ORIN_NX = (
    "RAM 3456/15388MB (lfb 20x4MB) SWAP 0/7694MB (cached 0MB) CPU [12%@1420,8%@1420,"
    "off,off,5%@1420,3%@1420,2%@1420,1%@1420] EMC_FREQ 24%@2133 GR3D_FREQ 0%@[306] "
    "cpu@52.5C soc2@50C soc0@50C gpu@51C tj@53.5C soc1@50C VDD_IN 5000mW/5000mW"
)
NANO = (
    "RAM 2145/3964MB (lfb 118x4MB) SWAP 0/1982MB (cached 0MB) CPU [25%@1479,35%@1479,"
    "15%@1479,25%@1479] EMC_FREQ 10%@1600 GR3D_FREQ 0%@921 NVENC 115 NVDEC 115 AO@45C "
    "GPU@43C PMIC@48C CPU@46.5C thermal@46.2C POM_5V_IN 4250/4250 POM_5V_CPU 1520/1520 "
    "POM_5V_GPU 480/480"
)


@pytest.mark.parametrize(
    ("line", "temperature", "power", "clock"),
    [
        pytest.param(XAVIER_NX, 37.5, 5.079, 510.0, id="xavier-nx"),
        pytest.param(XAVIER_NX_OLDER, 31.5, 3.528, 114.0, id="xavier-nx-r32"),
        pytest.param(ORIN_NX, 51.0, 5.0, 306.0, id="orin-nx"),
        pytest.param(ORIN_AGX, 46.343, 6.6, 1300.0, id="agx-orin"),
        pytest.param(NANO, 43.0, 4.25, 921.0, id="nano"),
    ],
)
def test_lines_of_five_boards_are_read(
    line: str, temperature: float, power: float, clock: float
) -> None:
    """GPU temperature and clock, and the module's power, in any spelling."""
    stats = parse_line(line)
    assert stats is not None
    reading = stats.reading()

    assert (reading.temperature_c, reading.sm_mhz) == (temperature, clock)
    assert power == pytest.approx(reading.power_w)


def test_sensors_and_rails_are_kept_by_name() -> None:
    """All sensors and rails are there; an unplugged sensor is not one."""
    stats = parse_line(ORIN_AGX)

    assert stats is not None
    assert set(stats.temperatures_c) == {"cpu", "soc0", "gpu", "tj"}
    assert (stats.rails_mw) == {
        "VDD_GPU_SOC": 3175,
        "VDD_CPU_CV": 400,
        "VIN_SYS_5V0": 3025,
    }


def test_rails_that_are_not_the_module_give_no_power() -> None:
    """A part of the board's power is not passed off as the whole."""
    stats = parse_line("RAM 1/2MB GR3D_FREQ 5% VDD_GPU_SOC 3175mW/3175mW")

    assert stats is not None
    assert stats.reading() == Reading()


@pytest.mark.parametrize("line", ["", "tegrastats: not found", "Sat 1 12:00 RAM lots"])
def test_other_lines_are_not_readings(line: str) -> None:
    """Headers and complaints are passed over."""
    assert parse_line(line) is None


@given(st.text(max_size=200))
def test_no_line_makes_the_parser_raise(line: str) -> None:
    """Garbage in any place gives less, never an exception."""
    assert parse_line(f"RAM 1/2MB {line}") is not None
