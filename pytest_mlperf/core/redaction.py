"""Secrets are taken out of every text before it is sent, shown, written or cut.

What counts as a secret: the endpoints' bearer token, the values of environment
variables with names like ``OPENAI_API_KEY``, what a server's command line and an
endpoint's URL hold, and whatever stands where keys stand (``Bearer …``,
``api_key=…``). ``redact`` is for one text, ``redact_values`` for a message or a line
of a report, ``shorten`` for a text of any length: it cuts only what is redacted.
"""

from __future__ import annotations

import copy
import html
import json
import os
import re
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import fields
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any
from typing import TypeVar
from urllib.parse import parse_qsl
from urllib.parse import quote
from urllib.parse import quote_plus
from urllib.parse import unquote
from urllib.parse import urlsplit

Value = TypeVar("Value")
HIDDEN = "***"
SHORTEST = 6
"""Characters of a secret that somebody named; a shorter one would tear words apart."""
SHORTEST_GUESS = 8
"""The same, where only the name of a variable tells that its value is a secret."""
FRAGMENT = 12
"""Characters in a row of a secret of ``LONG`` that are hidden too: servers cut."""
LONG = 16
MARGIN = 4096
"""Characters beside a cut that are redacted and left out: no half of a key is shown."""

FOLDERS = ("PWD", "OLDPWD")
"""Variables of the shell with folders, not passwords."""

_KEY = (
    r"(?:(?:api|access|secret|auth|private|subscription)[-_ ]?key|(?:auth|access)token"
    r"|token|secret|passw(?:or)?d|pwd|credentials?)"
)
_KEY_NAME = re.compile(rf"(?i)(?:^|[^a-z])(?:{_KEY}|key)$")
_VALUE = r"""(?![$*<{])[^\s"',;&\])}]"""
_PREFIX = "sk|hf|nvapi|gh[pousr]|github_pat|glpat"
"""What the keys of well-known services begin with."""
_FLAG = rf"(?<![\w-])--?(?:[a-z0-9_][\w-]{{0,40}}?(?<![a-z]))?(?:{_KEY}|key)"
_SCHEMES = r"(?:basic|bearer)\s+"
_SCHEME = rf"(?:{_SCHEMES})?"
_PATTERNS = tuple(
    re.compile(f"(?i){pattern}")
    for pattern in (
        r"(://)[^/\s@\"']{1,256}(?=@)",
        r"(\bbearer\s+)(?=\S{0,256}\d)[\w.~+/=-]{8,}",
        rf"""(\bauthorization["']?\s*[:=]\s*["']?{_SCHEME})(?!{_SCHEMES}){_VALUE}{{4,}}""",
        rf"""((?<![a-z]){_KEY}["']?\s*=\s*[\["']*){_VALUE}{{4,}}""",
        rf"""((?<![a-z]){_KEY}["']\s*:\s*[\["']+){_VALUE}{{4,}}""",
        rf"((?<![a-z]){_KEY}:\s*)(?=\S{{0,256}}\d){_VALUE}{{8,}}",
        rf"""({_FLAG}[\s"',=]+)(?!-){_VALUE}+""",
        rf"([?&][\w.-]{{0,40}}(?<![a-z])(?:{_KEY}|key|sig|auth)=){_VALUE}+",
        rf"((?<![a-z0-9]))(?:{_PREFIX})[-_](?=[\w-]{{0,256}}\d)[\w-]{{16,}}",
    )
)
"""What stands behind the first group of each is hidden."""


class Redactor:
    """The secrets of a process, and their removal from texts."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._named: set[str] = set()
        self._added: dict[str, str] = {}
        self._forms: tuple[tuple[str, str], ...] = ()
        self._made_of: dict[str, str] | None = None

    def add(self, secret: str, label: str = HIDDEN) -> None:
        """Hide a secret from now on, under a label."""
        for part in {secret.strip(), *map(str.strip, secret.splitlines())}:
            if len(part) >= SHORTEST:
                self._added.setdefault(part, label)

    def add_variable(self, name: str) -> None:
        """Hide the value of an environment variable, whatever its name."""
        self._named.add(name)

    def add_url(self, url: str) -> None:
        """Hide what a URL holds of passwords, keys and fragments."""
        text = url.partition("://")[2] or url
        # A password may have # and ? in it, which should have been quoted.
        credentials, sign, _ = text.partition("/")[0].rpartition("@")
        try:
            parts = urlsplit(f"http://{text.removeprefix(credentials + sign)}")
            queries = parse_qsl(parts.query, keep_blank_values=True)
        except ValueError:
            return
        user, _, password = credentials.partition(":")
        keys = [value for name, value in queries if _KEY_NAME.search(name)]
        for text in (password or user * bool(sign), parts.fragment, *keys):
            self.add(text)
            self.add(unquote(text))

    def add_command(self, words: Iterable[str]) -> None:
        """Hide the values of options and variables that are named like keys."""
        before = ""
        for word in words:
            name, sign, value = word.partition("=")
            if sign and _KEY_NAME.search(name):
                self.add(value)
            elif before.startswith("-") and _KEY_NAME.search(before):
                self.add(word)
            elif "://" in word:
                self.add_url(word)
            before = word

    def redact(self, text: str) -> str:
        """Return a text without secrets."""
        self._refresh()
        return self._redact(text)

    def redact_values(self, value: Value, most: int | None = None) -> Value:
        """Return a value without secrets in its texts, also inside of mappings,
        sequences and dataclasses; texts above ``most`` characters are shortened.
        """
        self._refresh()
        redacted: Value = self._redact_value(value, most)
        return redacted

    def shorten(self, text: str, most: int) -> str:
        """Return a text without secrets and of about ``most`` characters.

        The middle is left out; how much is noted in its place.
        """
        self._refresh()
        return self._shorten(text, most)

    def cut(self, data: bytes | str, most: int) -> str:
        """Return the first ``most`` characters of a text, without secrets."""
        self._refresh()
        text = data
        if isinstance(text, bytes):
            text = text[: 4 * (most + self._margin)].decode("utf-8", "replace")
        return self._cut(text, most)

    @property
    def _margin(self) -> int:
        return max([MARGIN, *(len(form) for form, _ in self._forms)])

    def _refresh(self) -> None:
        secrets = {**self._added}
        for name, value in self._environ.items():
            is_named = name in self._named
            if is_named or (_KEY_NAME.search(name) and name not in FOLDERS):
                shortest = SHORTEST if is_named else SHORTEST_GUESS
                for part in {value.strip(), *map(str.strip, value.splitlines())}:
                    if len(part) >= shortest:
                        secrets[part] = f"${name}"
        if secrets == self._made_of:
            return
        self._made_of = secrets
        forms = {
            form: HIDDEN if form in label else label
            for secret, label in secrets.items()
            for form in _list_forms(secret)
        }
        # The longest first: one secret may be a part of another.
        self._forms = tuple(sorted(forms.items(), key=lambda one: -len(one[0])))

    def _redact(self, text: str) -> str:
        if len(text) < SHORTEST:
            return text
        for form, label in self._forms:
            if form in text:
                text = text.replace(form, label)
        for form, label in self._forms:
            if len(form) >= LONG and len(text) >= FRAGMENT:
                text = _replace_fragments(text, form, label)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\g<1>{HIDDEN}", text)
        return text

    def _shorten(self, text: str, most: int) -> str:
        if len(text) <= most:
            return self._redact(text)
        tail = most // 3
        first = self._cut(text, most - tail)
        last = self._redact(text[-tail - self._margin :])
        last = last[max(self._margin, len(last) - tail) :]
        count = len(text) - len(first) - len(last)
        return f"{first}\n[… {count:,} characters left out …]\n{last}"

    def _cut(self, text: str, most: int) -> str:
        begin = text[: most + self._margin]
        redacted = self._redact(begin)
        if len(begin) < len(text):
            # The end may be half of a secret, moved forward by what was hidden.
            redacted = redacted[: max(0, len(redacted) - self._margin)]
        return redacted[:most]

    def _redact_value(self, value: Any, most: int | None) -> Any:
        kind = type(value)
        if kind is str:
            return self._redact(value) if most is None else self._shorten(value, most)
        if isinstance(value, Mapping):
            pairs = [
                (self._redact_value(k, most), self._redact_value(v, most))
                for k, v in value.items()
            ]
            return value if pairs == list(value.items()) else dict(pairs)
        if kind in (tuple, list):
            return kind(self._redact_value(one, most) for one in value)
        if not is_dataclass(value) or isinstance(value, type):
            return value
        changed = {
            one.name: new
            for one in fields(value)
            if (old := getattr(value, one.name, None)) is not None
            and (new := self._redact_value(old, most)) is not old
        }
        if not changed:
            return value
        made = copy.copy(value)
        for name, new in changed.items():
            object.__setattr__(made, name, new)
        return made


def _list_forms(secret: str) -> set[str]:
    """Return a secret as JSON, reprs, URLs and HTML write it."""
    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        repr(secret.encode("utf-8", "surrogateescape"))[2:-1],
        quote(secret, safe="", errors="replace"),
        quote(secret, errors="replace"),
        quote_plus(secret, errors="replace"),
        html.escape(secret),
    }


def _replace_fragments(text: str, form: str, label: str) -> str:
    """Hide every run of at least ``FRAGMENT`` characters of a secret."""
    spans: list[list[int]] = []
    for begin in range(len(form) - FRAGMENT + 1):
        gram, at = form[begin : begin + FRAGMENT], -1
        while (at := text.find(gram, at + 1)) >= 0:
            spans.append([at, at + FRAGMENT])
    if not spans:
        return text
    merged: list[list[int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    for begin, end in reversed(merged):
        text = f"{text[:begin]}{label}{text[end:]}"
    return text


PROCESS = Redactor(os.environ)
"""Of this process: whoever meets a secret adds it here."""
add_secret = PROCESS.add
add_variable = PROCESS.add_variable
add_url = PROCESS.add_url
add_command = PROCESS.add_command
redact = PROCESS.redact
redact_values = PROCESS.redact_values
shorten = PROCESS.shorten
cut = PROCESS.cut


def redact_file(path: Path) -> None:
    """Rewrite a text file without secrets; one that cannot be read stays as it is.

    Nobody may be writing to it.
    """
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        redacted = redact(text)
        if redacted != text:
            path.write_bytes(redacted.encode("utf-8", "surrogateescape"))
    except OSError:
        return
