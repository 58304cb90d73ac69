"""The plotting library inside the page: Vega, as vl-convert ships it."""

from __future__ import annotations

import base64
import gzip
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path

SNIPPET = "window.vegaEmbed = vegaEmbed; window.dispatchEvent(new Event('vega-ready'));"
"""What the page waits for, after the library."""


@cache
def pack_vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as text for the page: gzip, base64.

    That is a third of their size; the browser unpacks them when it shows the first
    plot. Bundling takes seconds, so the result stays in the user's cache folder.
    """
    kept = find_cache_folder() / f"vega-{version('vl-convert-python')}.txt"
    try:
        return kept.read_text(encoding="ascii")
    except (OSError, ValueError):
        text = _bundle()
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        whole = kept.with_name(f"{kept.name}.{os.getpid()}")
        whole.write_text(text, encoding="ascii")
        whole.replace(kept)
    except OSError:
        pass  # a cache that cannot be written costs time, nothing else
    return text


def find_cache_folder() -> Path:
    """Return the folder that ``--mlperf-cache`` means where nobody gives it."""
    home = os.environ.get("XDG_CACHE_HOME", "").strip() or "~/.cache"
    return Path(home).expanduser() / "pytest-mlperf"


def _bundle() -> str:
    import vl_convert

    bundle: str = vl_convert.javascript_bundle(SNIPPET)
    return base64.b64encode(gzip.compress(bundle.encode(), 9, mtime=0)).decode()
