"""Reads a report's HTML back: exact numbers, texts and embedded plots."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from pytest_mlperf.reporting.html.page import find_missing_package

needs_extra = pytest.mark.skipif(
    find_missing_package() is not None, reason="needs the extra html"
)


class ReportReader(HTMLParser):
    """Collects what a reader, or a script, finds in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[float] = []
        """The exact values of the table's cells, row by row."""
        self.plots: dict[str, Any] = {}
        """Id of a script element -> its Vega-Lite specification."""
        self.tags: list[str] = []
        self.text = ""
        self.links: list[str] = []
        """Addresses that the page would fetch."""
        self._script: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if value := found.get("data-value"):
            self.numbers.append(float(value))
        if tag == "script":
            is_plot = found.get("type") == "application/json"
            self._script = str(found["id"]) if is_plot else ""
        if address := found.get("src"):
            self.links.append(address)
        if tag == "link":
            self.links.append(str(found.get("href")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None

    def handle_data(self, data: str) -> None:
        if self._script:
            self.plots[self._script] = json.loads(data)
        elif self._script is None:
            self.text += data


def read_page(page: str) -> ReportReader:
    """Return what a page holds."""
    reader = ReportReader()
    reader.feed(page)
    reader.close()
    return reader
