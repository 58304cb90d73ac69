"""Power analyzers that MLPerf takes, and what PTDaemon calls them.

Source: mlcommons/power-dev c4b3ad82, compliance/check.py (SUPPORTED_MODEL) and
ptd_client_server/lib/server.py (channels, highest ranges).
"""

from __future__ import annotations

METERS = {
    "YokogawaWT210": 8,
    "YokogawaWT500": 35,
    "YokogawaWT500_multichannel": 48,
    "YokogawaWT310": 49,
    "YokogawaWT310E": 49,
    "YokogawaWT330": 52,
    "YokogawaWT330E": 52,
    "YokogawaWT330_multichannel": 77,
    "YokogawaWT210_DC": 508,
    "YokogawaWT310_DC": 549,
    "YokogawaWT330_DC": 586,
}
"""Model as PTDaemon identifies it -> its device type."""
TWO_CHANNELS = 77
CHANNEL_COUNTS = {48: 1, TWO_CHANNELS: 2}
"""Device type of several channels -> numbers that ``channel`` has: WT500 takes how many
there are, WT330 the first one and how many."""
DC_TYPES = (508, 549, 586)
INTERFACES = {
    "": "serial line, or a USB device file such as /dev/usbtmc0",
    "-n": "network address",
    "-g": "GPIB address",
    "-y": "USB serial number, Yokogawa's driver",
    "-U": "USB",
}
"""PTDaemon's flag -> what the device's port then is."""


def find_device_type(meter: str) -> int:
    """Return the device type of a model, in any spelling of its name; or of a number.

    ``WT310E`` is enough. Raises ``ValueError`` with the legal names.
    """
    if meter.isdecimal() and int(meter) in METERS.values():
        return int(meter)
    folded = {name.removeprefix("Yokogawa").lower(): n for name, n in METERS.items()}
    found = folded.get(meter.lower().removeprefix("yokogawa"))
    if found is None:
        legal = ", ".join(name.removeprefix("Yokogawa") for name in METERS)
        raise ValueError(f"{meter!r}, but should be one of {legal}")
    return found


def find_channel_problem(device_type: int, channels: tuple[int, ...]) -> str:
    """Return what ``channel`` should be for a device type; empty where it is that."""
    wanted = CHANNEL_COUNTS.get(device_type)
    if wanted is None:
        legal = "one number, or left out, for a meter of one channel"
        return legal if len(channels) > 1 else ""
    names = {1: "one number: how many channels", 2: "two: the first and how many"}
    return "" if len(channels) == wanted else names[wanted]
