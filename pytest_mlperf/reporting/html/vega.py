"""The plotting library inside the page: Vega, as vl-convert ships it."""

from __future__ import annotations

import base64
import gzip
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path

from pytest_mlperf.config.options import find_cache
from pytest_mlperf.core.whole_file import write_whole

SNIPPET = "window.vegaEmbed = vegaEmbed; window.dispatchEvent(new Event('vega-ready'));"
"""What the page waits for, after the library."""


@cache
def pack_vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as text for the page: gzip, base64.

    That is a third of their size; the browser unpacks them when it shows the first
    plot. Bundling takes seconds, so the result stays in the user's cache folder.
    """
    folder = find_cache(os.environ, Path.cwd())
    kept = folder / f"vega-{version('vl-convert-python')}.txt"
    try:
        return kept.read_text(encoding="ascii")
    except (OSError, ValueError):
        text = _bundle()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(kept, text)
    except OSError:
        pass  # a cache that cannot be written costs time, nothing else
    return text


def _bundle() -> str:
    import vl_convert

    bundle: str = vl_convert.javascript_bundle(SNIPPET)
    return base64.b64encode(gzip.compress(bundle.encode(), 9, mtime=0)).decode()
