"""Where a request's time goes, in the columns that Triton's perf_analyzer prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

COLUMNS = (
    "Client Send", "Network+Server Send/Recv", "Server Queue", "Server Compute Input",
    "Server Compute Infer", "Server Compute Output", "Client Recv",
)  # fmt: skip
CLIENT_WAIT = "Client Wait"
"""Between LoadGen's issue and the request's first byte, and from the decoded answer to
LoadGen; perf_analyzer, which issues its requests itself, has no such step."""
SHORT = {
    CLIENT_WAIT: "wait", COLUMNS[0]: "send", COLUMNS[1]: "network", COLUMNS[2]: "queue",
    COLUMNS[3]: "input", COLUMNS[4]: "infer", COLUMNS[5]: "output", COLUMNS[6]: "recv",
}  # fmt: skip
TOLERANCE = 0.02
"""Of the end-to-end mean, by which the steps' sum may differ from it."""


@dataclass(frozen=True, slots=True)
class LatencyBreakdown:
    """Mean seconds of a request in each step."""

    requests: int
    client_wait_s: float
    client_send_s: float
    answer_s: float
    """From the first byte sent to the last byte received."""
    client_recv_s: float
    """From the first byte received to the last one."""
    decode_s: float
    """From the last byte received to arrays."""
    queue_s: float
    compute_input_s: float
    compute_infer_s: float
    compute_output_s: float
    server_s: float = 0.0
    """The server's own time from a request to its answer; 0 where it does not tell."""

    def describe_network(self) -> str:
        """Return the network's share: what the client waits without the server's own
        time.
        """
        if not self.server_s:
            return ""
        away_s = self.answer_s - self.server_s
        return (
            f"mean {away_s * 1e6:,.0f} us of a request's {self.answer_s * 1e6:,.0f} "
            f"({away_s / self.answer_s:.0%}): sent, on the way and received, without "
            f"the server's own {self.server_s * 1e6:,.0f}"
        )

    @property
    def network_s(self) -> float:
        """What neither the client nor the server's model accounts for: the network,
        and the server's own sending and receiving.
        """
        server = self.queue_s + self.compute_input_s
        server += self.compute_infer_s + self.compute_output_s
        return self.answer_s - self.client_send_s - self.client_recv_s - server

    def to_us(self) -> dict[str, float]:
        """Return step -> mean microseconds, in the order of a request's way.

        Triton's Python backend counts what it does after it has sent the answer as its
        output. That is no part of the latency and is left out.
        """
        overlap_s = min(max(0.0, -self.network_s), self.compute_output_s)
        seconds = (
            self.client_wait_s, self.client_send_s, self.network_s + overlap_s,
            self.queue_s, self.compute_input_s, self.compute_infer_s,
            self.compute_output_s - overlap_s, self.client_recv_s + self.decode_s,
        )  # fmt: skip
        names = (CLIENT_WAIT, *COLUMNS)
        return {n: s * 1e6 for n, s in zip(names, seconds, strict=True)}


def describe_breakdown(steps_us: Mapping[str, float], end_to_end_us: float) -> str:
    """Return the steps in one line, with their sum beside the end-to-end mean."""
    shown = [(short, steps_us[name]) for name, short in SHORT.items()]
    parts = " + ".join(f"{short} {us:,.0f}" for short, us in shown)
    total = sum(steps_us.values())
    text = f"mean us: {parts} = {total:,.0f}"
    if end_to_end_us <= 0:
        return text
    text += f" of LoadGen's {end_to_end_us:,.0f}"
    if abs(total - end_to_end_us) > TOLERANCE * end_to_end_us:
        text += f", more than {TOLERANCE:.0%} apart: do not trust the steps"
    return text
