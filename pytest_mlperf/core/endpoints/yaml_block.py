"""Reads the block style of YAML that the endpoints client writes: config.yaml.

The client dumps its configuration with PyYAML's defaults: block mappings and
sequences, scalars that are plain or quoted. The rest of YAML (anchors, tags, flow
collections that hold something, literal blocks) is refused, never guessed at; the
tests compare with PyYAML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.core.logs.lines import LogError

DEEPEST = 40
LONGEST_NUMBER = 40
"""Digits; a seed of 64 bits has 20."""
KEY = re.compile(
    r"""(
        '(?:[^']|'')*'
        | "(?:[^"\\]|\\.)*"
        | (?:[^\s'"\[\]{}\#&*!|>%@`,?:-]|-(?=\S))(?:[^:\#]|:(?=\S)|(?<=\S)\#)*?
    )\s*:(?:\s+|$)""",
    re.VERBOSE,
)
"""A key, plain or quoted, and its colon."""
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
NUMBER = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?")
WORDS = {
    "null": None, "~": None, "": None, "true": True, "yes": True, "on": True,
    "false": False, "no": False, "off": False,
}  # fmt: skip
"""YAML 1.1, as PyYAML reads it; any of three capitalizations."""
ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f",
    "r": "\r", "e": "\x1b", " ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85",
    "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip
CODES = {"x": 2, "u": 4, "U": 8}
REMEDY = "use the config.yaml that the client wrote into its report folder"


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is neither blank nor a comment, but where a scalar goes on."""

    number: int
    indent: int
    text: str


def parse_yaml(path: Path, text: str) -> Any:
    """Return the value of a document; ``LogError`` for anything that is not read."""
    return BlockReader(path, text).read()


class BlockReader:
    """One pass over the lines of one document."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = [
            Line(number, len(raw) - len(raw.lstrip(" ")), raw.strip(" "))
            for number, raw in enumerate(text.split("\n"), 1)
        ]
        self.place = 0

    def read(self) -> Any:
        first = self._peek()
        if first is not None and first.text == "---":
            self.place += 1
            first = self._peek()
        value = None if first is None else self._read_block(first.indent, 0)
        if (rest := self._peek()) is not None:
            raise self._refuse(rest, "a line that belongs to no block")
        return value

    def _refuse(self, line: Line, found: str) -> LogError:
        required = "block YAML as the endpoints client writes it"
        return LogError(self.path, line.number, found, required, REMEDY)

    def _peek(self) -> Line | None:
        """Return the next line with content, without taking it."""
        while self.place < len(self.lines):
            line = self.lines[self.place]
            if line.text and not line.text.startswith("#"):
                if line.text.startswith("\t"):
                    raise self._refuse(line, "a tab")
                return line
            self.place += 1
        return None

    def _read_block(self, indent: int, depth: int) -> Any:
        line = self._peek()
        assert line is not None
        if depth > DEEPEST:
            raise self._refuse(line, f"more than {DEEPEST} levels")
        if is_item(line.text):
            return self._read_sequence(indent, depth)
        if KEY.match(line.text):
            return self._read_mapping(indent, depth)
        self.place += 1
        return self._read_scalar(line, line.text, indent - 1)

    def _read_sequence(self, indent: int, depth: int) -> list[Any]:
        items = []
        while (line := self._peek()) and line.indent == indent and is_item(line.text):
            rest = line.text[1:].lstrip(" ")
            if not rest or rest.startswith("#"):
                self.place += 1
                items.append(self._read_nested(indent, depth, in_sequence=True))
                continue
            inner = indent + len(line.text) - len(rest)
            if is_item(rest) or KEY.match(rest):
                self.lines[self.place] = Line(line.number, inner, rest)
                items.append(self._read_block(inner, depth + 1))
                continue
            self.place += 1
            items.append(self._read_scalar(line, rest, indent))
        return items

    def _read_mapping(self, indent: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while (line := self._peek()) and line.indent == indent:
            match = KEY.match(line.text)
            if match is None or is_item(line.text):
                break
            key = str(self._read_key(line, match[1]))
            if key in found:
                raise self._refuse(line, f"{key} twice")
            rest = line.text[match.end() :]
            self.place += 1
            if not rest or rest.startswith("#"):
                found[key] = self._read_nested(indent, depth, in_sequence=False)
            else:
                found[key] = self._read_scalar(line, rest, indent)
        return found

    def _read_nested(self, indent: int, depth: int, *, in_sequence: bool) -> Any:
        """Return the block below a key or a dash; None where there is none."""
        line = self._peek()
        if line is None or line.indent < indent:
            return None
        if line.indent > indent:
            return self._read_block(line.indent, depth + 1)
        # A sequence may stand under its key without being indented.
        if is_item(line.text) and not in_sequence:
            return self._read_sequence(indent, depth + 1)
        return None

    def _read_key(self, line: Line, text: str) -> str:
        if text[0] in "'\"":
            return self._unquote(line, text)[0]
        return text

    def _read_scalar(self, line: Line, text: str, indent: int) -> Any:
        if text[0] in "'\"":
            value, rest = self._read_quoted(line, text)
            if rest and not rest.startswith("#"):
                raise self._refuse(line, f"{rest[:30]!r} after a quoted text")
            return value
        bare = cut_comment(text)
        if bare in ("[]", "{}"):
            return [] if bare == "[]" else {}
        if text[0] in "[]{}&*!|>%@`,?#":
            raise self._refuse(line, f"{text[:40]!r}")
        return resolve_plain(self._join_plain(bare, text, indent))

    def _join_plain(self, bare: str, text: str, indent: int) -> str:
        """Return a plain scalar with the lines on which it goes on, folded."""
        parts, blanks = [bare], 0
        while len(bare) == len(text) and self.place < len(self.lines):
            line = self.lines[self.place]
            if not line.text:
                blanks += 1
            elif line.indent <= indent or line.text.startswith("#"):
                break
            else:
                if KEY.match(line.text):
                    raise self._refuse(line, "a key inside a text")
                bare, text = cut_comment(line.text), line.text
                parts += ["\n" * blanks or " ", bare]
                blanks = 0
            self.place += 1
        return "".join(parts)

    def _read_quoted(self, line: Line, text: str) -> tuple[str, str]:
        """Return a quoted scalar, on as many lines as it takes, and what follows."""
        pieces = text
        while (end := find_quote(pieces)) is None:
            if self.place >= len(self.lines):
                raise self._refuse(line, "a quoted text without its end")
            following = self.lines[self.place].text
            self.place += 1
            if text[0] == '"' and re.search(r"(?<!\\)(\\\\)*\\$", pieces):
                pieces = pieces[:-1] + following
            elif not following:
                pieces = pieces.rstrip(" ") + "\n"
            elif pieces.endswith("\n"):
                pieces += following
            else:
                pieces = f"{pieces.rstrip(' ')} {following}"
        value, _ = self._unquote(line, pieces[: end + 1])
        return value, pieces[end + 1 :].strip(" ")

    def _unquote(self, line: Line, text: str) -> tuple[str, str]:
        body = text[1:-1]
        if text[0] == "'":
            return body.replace("''", "'"), ""
        out, at = [], 0
        while at < len(body):
            if body[at] != "\\":
                out.append(body[at])
                at += 1
                continue
            kind = body[at + 1]
            size = CODES.get(kind, 0)
            digits = body[at + 2 : at + 2 + size]
            if kind in ESCAPES:
                out.append(ESCAPES[kind])
            elif size and re.fullmatch(f"[0-9a-fA-F]{{{size}}}", digits):
                code = int(digits, 16)
                if code > 0x10FFFF:
                    raise self._refuse(line, f"\\{kind}{digits}")
                out.append(chr(code))
            else:
                raise self._refuse(line, f"\\{kind} in a quoted text")
            at += 2 + size
        return "".join(out), ""


def is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def cut_comment(text: str) -> str:
    """Return a plain scalar without the comment behind it."""
    return re.split(r"\s#", text, maxsplit=1)[0].rstrip()


def find_quote(text: str) -> int | None:
    """Return where a quoted scalar ends; None where it goes on."""
    if text[0] == "'":
        match = re.match(r"'(?:[^']|'')*'(?!')", text, re.DOTALL)
    else:
        match = re.match(r'"(?:[^"\\]|\\.)*"', text, re.DOTALL)
    return None if match is None else match.end() - 1


def resolve_plain(text: str) -> Any:
    """Return what a plain scalar means: a number, a truth value, nothing, or a text."""
    if len(text) <= LONGEST_NUMBER and INTEGER.fullmatch(text):
        return int(text)
    if NUMBER.fullmatch(text):
        return float(text)
    low = text.lower()
    if low in WORDS and text in (low, low.capitalize(), low.upper()):
        return WORDS[low]
    return text
