"""Registers the options with pytest, and reads them back as ``Options``."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from typing import Literal

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.config import aliases
from pytest_mlperf.config.option_specs import SPECS
from pytest_mlperf.config.option_types import suggest
from pytest_mlperf.config.options import Given
from pytest_mlperf.config.options import Options
from pytest_mlperf.core import redaction
from pytest_mlperf.plugin.usage_errors import as_usage_errors

PREFIX = "--mlperf-"
TYPED_ALIASES = "mlperf_aliases"
"""Where the namespace keeps the other harnesses' spellings that were typed."""


GROUPS = {
    "fast": "MLPerf: what runs",
    "precision": "MLPerf: tuning",
    "system": "MLPerf: machine and session",
    "submission": "MLPerf: submission",
    "endpoint": "MLPerf: servers",
    "power": "MLPerf: power",
    "start_from_device": "MLPerf: GPU",
}
"""First option of each group of ``pytest --help`` -> its title."""


def add_options(parser: pytest.Parser) -> None:
    """Register every option and its ini twin."""
    group = parser.getgroup("mlperf")
    for spec in SPECS.values():
        if title := GROUPS.get(spec.name):
            group = parser.getgroup(f"mlperf-{spec.name}", title)
        also = ", ".join(aliases.list_spellings(spec.name))
        shown = f"{spec.help}; also {also}" if also else spec.help
        if spec.is_switch:
            group.addoption(
                spec.flag, action="store_true", default=None, dest=spec.dest, help=shown
            )
        else:
            action = "append" if spec.repeats else "store"
            group.addoption(
                spec.flag, action=action, metavar=spec.metavar, dest=spec.dest,
                help=shown,
            )  # fmt: skip
        kind: Literal["bool", "string"] = "bool" if spec.is_switch else "string"
        parser.addini(spec.dest, f"twin of {spec.flag}", type=kind, default=None)


def add_aliases(parser: pytest.Parser, args: Sequence[str]) -> None:
    """Register the other harnesses' spellings among the arguments that nobody claims.

    Only what was typed, so that other sessions know nothing of them.
    """
    group = parser.getgroup("mlperf")
    for flag in dict.fromkeys(arg.partition("=")[0] for arg in args):
        alias = aliases.find_alias(flag)
        if alias is None or _is_claimed(parser, flag):
            continue
        spec = SPECS.get(alias.option)
        # A switch needs no value, and may have one: --start_from_device=true.
        valued = not (spec and spec.is_switch) or any(
            arg.startswith(f"{flag}=") for arg in args
        )
        group.addoption(
            flag, action=_AliasAction, nargs=None if valued else 0, dest=TYPED_ALIASES,
            default=None, help=argparse.SUPPRESS,
        )  # fmt: skip


def suggest_options(parser: pytest.Parser, args: Sequence[str]) -> None:
    """Have pytest say what a mistyped option of ours was probably meant to be.

    It prints what its parser knows beside an error, such as the ini file.
    """
    flags = {spec.flag.removeprefix(PREFIX): spec.flag for spec in SPECS.values()}
    for word in (arg.partition("=")[0] for arg in args):
        if word.startswith("--ml") and word not in flags.values():
            # The prefix that all share would make any of them look near.
            near = suggest(re.sub("--ml[a-z]*[-_]?", "", word), flags).strip()
            parser.extra_info[word] = (
                near.replace("'", f"'{PREFIX}", 1) or "pytest --help lists all options"
            )


class _AliasAction(argparse.Action):
    """Sets the options that a spelling stands for."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        del parser
        flag = option_string or self.option_strings[0]
        alias = aliases.find_alias(flag)
        hide_secrets(alias.option if alias else "", str(values))
        with as_usage_errors():
            texts = aliases.translate(flag, "true" if self.nargs == 0 else values)
        for name, text in texts.items():
            spec = SPECS[name]
            value: object = text
            if spec.is_switch:
                value = spec.parse(text)
            elif spec.repeats:
                value = [*(getattr(namespace, spec.dest, None) or []), text]
            setattr(namespace, spec.dest, value)
        typed = getattr(namespace, self.dest, None) or []
        setattr(namespace, self.dest, [*typed, flag])


def _is_claimed(parser: pytest.Parser, flag: str) -> bool:
    """Ask the parser itself: releases of pytest differ in how a clash shows."""
    try:
        _, unknown = parser.parse_known_and_unknown_args([flag])
    except pytest.UsageError:  # somebody's option that wants a value
        return True
    return flag not in unknown


def refuse_unused_aliases(config: pytest.Config) -> None:
    """Raise ``UsageError`` for other harnesses' spellings in a session without items.

    Without this plugin pytest would not know them either.
    """
    if typed := config.getoption(TYPED_ALIASES, default=None):
        raise pytest.UsageError(
            f"unrecognized arguments: {' '.join(typed)}: pytest-mlperf reads them, but "
            "no MLPerf item was collected; name a folder that has some, or leave them "
            "out"
        )


def read_options(config: pytest.Config) -> Options:
    """Return the user's choices; ``UsageError`` says what to change."""
    _refuse_swallowed_paths(config)
    with as_usage_errors():
        given = _find_given(config)
        for name, one in given.items():
            hide_secrets(name, one.text)
        return Options.from_given(
            given,
            here=config.invocation_params.dir,
            root=config.rootpath,
            installed=registry.benchmark_names() if "benchmark" in given else {},
        )


def hide_secrets(option: str, text: str) -> None:
    """Have this process hide what no message may show of an option's value."""
    if option == "endpoint":
        for url in text.split(","):
            redaction.add_url(url.strip())
    if option == "endpoint_token_env":
        redaction.add_variable(text)
        if text not in os.environ and not re.fullmatch("[A-Z_][A-Z0-9_]*", text):
            redaction.add_secret(text)  # the token itself, by mistake


def _refuse_swallowed_paths(config: pytest.Config) -> None:
    """Raise ``UsageError`` where pytest took an option's folder for a place of tests.

    It looks for its ini file before it loads plugins, among all words that exist.
    """
    here = config.invocation_params.dir
    has_ini = (here / "pyproject.toml").is_file() or (here / "pytest.ini").is_file()
    if config.inipath is not None or not has_ini:
        return
    flags = {spec.flag for spec in SPECS.values() if not spec.is_switch}
    for flag, value in pairwise(map(str, config.invocation_params.args)):
        if flag in flags and (here / value).exists():
            raise pytest.UsageError(
                f"{flag} {value}: pytest reads the command line before it loads "
                f"plugins and looked for its ini file in {value}, not here; write "
                f"{flag}={value}"
            )


def is_configured(config: pytest.Config) -> bool:
    """Return whether the user gave any mlperf option or ini value."""
    return any(one.text != "false" for one in _find_given(config).values())


def is_given(config: pytest.Config, name: str) -> bool:
    """Return whether the user gave an option, or its ini value."""
    return name in _find_given(config)


def _find_given(config: pytest.Config) -> dict[str, Given]:
    """Return the texts of the options, else of their ini twins."""
    found = {}
    for name, spec in SPECS.items():
        value, source = config.getoption(spec.dest), spec.flag
        is_typed = value is not None
        if not is_typed:
            source = f"{spec.dest} in {config.inipath}"
            try:
                value = config.getini(spec.dest)
            except (ValueError, pytest.UsageError) as error:
                raise ValueError(f"{source}: {error}") from None
        if value is None:
            continue
        if isinstance(value, list):
            value = ",".join(value)
        text = str(value).lower() if spec.is_switch else str(value)
        found[name] = Given(text, source, is_typed)
    return found
