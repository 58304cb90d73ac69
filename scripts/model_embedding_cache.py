"""What a cache of embedding rows is worth: hit rate and time of a lookup, simulated.

    python scripts/model_embedding_cache.py --out docs/images

The package's own ``RowCache`` sees batches of keys that follow a power law. What a miss
costs is then arithmetic, from the times in ``COSTS``. Prints the tables of
docs/recommenders.md and draws two plots (needs pytest-mlperf[html]).
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.embedding.row_cache import RowCache

ROWS, KEYS = 1_000_000, 16_384
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
EXPONENTS = (0.8, 1.0, 1.1, 1.2)
WARM_KEYS = 4_000_000
MEASURED_KEYS = 1_000_000
COSTS = {
    "host memory over PCIe 5": (5.0, 256 / 50e3),
    "RocksDB on the same machine": (50.0, 6.0),
    "Redis cluster, 10 Gb/s": (300.0, 256 / 1.25e3),
}
"""Tier behind the cache -> microseconds of a round trip and of each missing row of 256
bytes. Bandwidths are the links'; RocksDB's is this page's multi-get."""
PAIRS, TABLES = 4096, 26
"""A batch of DLRM."""
TERABYTE, ROW_BYTES, ROW_OVERHEAD = 10**12, 256, 96
"""Redis keeps some 96 bytes beside a value: key, object, entry of its table."""
NODE_MEMORY = 256 << 30
NODE_SHARE = 0.7
"""Of a node's memory that rows may take; the rest is for copies on write."""
NODE_LOOKUPS = 1.0e6
"""Rows/s that a node answers in pipelined MGETs of many keys, by one thread."""


def draw_keys(
    exponent: float, count: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return keys whose rank k has a probability of k ** -exponent, scattered."""
    uniform, power = random.random(count), 1 - exponent
    if abs(power) < 1e-9:
        ranks = np.exp(uniform * math.log(ROWS + 1))
    else:
        ranks = (uniform * ((ROWS + 1.0) ** power - 1) + 1) ** (1 / power)
    ranks = np.clip(ranks.astype(np.int64) - 1, 0, ROWS - 1)
    return ranks * 2_147_483_647 % ROWS


def simulate(exponent: float, share: float, policy: str) -> float:
    """Return the hit rate of a warm cache with a share of the rows."""
    random = np.random.default_rng(1)
    cache = RowCache(int(ROWS * share), ROWS, 1, np.float16, policy)
    for turn in range((WARM_KEYS + MEASURED_KEYS) // KEYS):
        if turn == WARM_KEYS // KEYS:
            cache.counters.hits = cache.counters.misses = 0
        keys = draw_keys(exponent, KEYS, random)
        _, is_hit = cache.lookup(keys)
        missing = np.unique(keys[~is_hit])
        cache.insert(missing, np.zeros((len(missing), 1), np.float16))
    return cache.counters.hit_rate


def expected_time(hit_rate: float, round_trip: float, per_row: float) -> float:
    """Return the microseconds that a batch waits for its missing rows."""
    missing = PAIRS * TABLES * (1 - hit_rate)
    return (round_trip if missing >= 1 else 0.0) + missing * per_row


def size_cluster(lookups: float) -> tuple[int, int, int]:
    """Return rows of a terabyte, and nodes for their memory and for the lookups/s."""
    rows = TERABYTE // ROW_BYTES
    held = int(NODE_MEMORY * NODE_SHARE) // (ROW_BYTES + ROW_OVERHEAD)
    return rows, -(-rows // held), math.ceil(lookups / NODE_LOOKUPS)


def draw_plot(
    path: Path, values: Sequence[dict[str, object]], y: tuple[str, str], scale: str
) -> None:
    """Write an SVG: one line for each ``series`` over the cache's share."""
    import vl_convert

    name, title = y
    plot = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": 460, "height": 260, "background": "white",
        "data": {"values": list(values)},
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {"field": "share", "type": "quantitative", "scale": {"type": "log"},
                  "axis": {"format": "%", "values": list(SHARES)},
                  "title": "share of the rows in the cache"},
            "y": {"field": name, "type": "quantitative", "title": title,
                  "scale": {"type": scale, "zero": False}},
            "color": {"field": "series", "type": "nominal", "title": None,
                      "sort": None},
        },
    }  # fmt: skip
    path.write_text(vl_convert.vegalite_to_svg(json.dumps(plot)), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, print tables, draw plots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    rates = {
        (exponent, policy, share): simulate(exponent, share, policy)
        for exponent in EXPONENTS
        for policy in ("lfu", "lru")
        for share in SHARES
    }
    heads = " | ".join(f"{share:.0%}" for share in SHARES)
    lines = [f"| exponent | policy | {heads} |", "|--:|---|" + "--:|" * len(SHARES)]
    for exponent in EXPONENTS:
        for policy in ("lfu", "lru"):
            found = (f"{rates[exponent, policy, share]:.1%}" for share in SHARES)
            lines.append(f"| {exponent} | {policy} | {' | '.join(found)} |")
    lines += [
        "",
        f"| tier behind the cache | {heads} |",
        "|---|" + "--:|" * len(SHARES),
    ]
    times = {
        (tier, share): expected_time(rates[1.1, "lfu", share], *cost)
        for tier, cost in COSTS.items()
        for share in SHARES
    }
    for tier in COSTS:
        found = (f"{times[tier, share] / 1000:,.2f} ms" for share in SHARES)
        lines.append(f"| {tier} | {' | '.join(found)} |")
    misses = 1e6 * TABLES * (1 - rates[1.1, "lfu", 0.1])
    rows, for_memory, for_lookups = size_cluster(misses)
    nodes = f"{for_memory} nodes for memory, {for_lookups} for the {misses:,.0f} misses"
    lines += ["", f"{rows:,} rows; {nodes}/s of a million pairs/s"]
    print("\n".join(lines))
    draw_plot(
        options.out / "embedding_hit_rate.svg",
        [{"series": f"exponent {e:g}", "share": s, "rate": r}
         for (e, policy, s), r in rates.items() if policy == "lfu"],
        ("rate", "hit rate (lfu)"), "linear",
    )  # fmt: skip
    draw_plot(
        options.out / "embedding_wait.svg",
        [{"series": tier, "share": s, "ms": us / 1000}
         for (tier, s), us in times.items()],
        ("ms", f"ms that {PAIRS:,} pairs wait for missing rows"), "log",
    )  # fmt: skip


if __name__ == "__main__":
    main()
