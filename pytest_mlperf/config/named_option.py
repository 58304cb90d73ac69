"""How an option of a provider is declared: a field, which ``NAME=VALUE`` sets."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class NamedOption:
    """How an option is read and shown."""

    parse: Callable[[str], Any]
    """Raises ``ValueError`` whose text completes "but should be …"."""
    help: str
    """What it is of, and its default. Empty: another class shows it."""
    variables: tuple[str, ...] = ()
    """Environment variables of other people's scripts that mean the same."""
    name: str = ""
    """As it is typed, where that is no name of a field: ``cuda-graphs``."""


def named_option(
    parse: Callable[[str], Any],
    help: str,  # noqa: A002 - argparse's own word
    *variables: str,
    default: Any = None,
    name: str = "",
) -> Any:
    """Return the field of an option."""
    one = NamedOption(parse, help, variables, name)
    return field(default=default, metadata={"named": one})


def list_named(kind: Any) -> dict[str, NamedOption]:
    """Return name -> option of a dataclass, in its order; other fields are none."""
    return {one.name or field: one for field, one in _list_fields(kind).items()}


def list_help(kind: Any) -> dict[str, str]:
    """Return name -> what its option says."""
    return {name: one.help for name, one in list_named(kind).items() if one.help}


def list_variables(kind: Any) -> dict[str, str]:
    """Return environment variable -> the option that it means."""
    return {v: name for name, one in list_named(kind).items() for v in one.variables}


def read_named(
    kind: Any,
    given: Mapping[str, str],
    environ: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return field -> value of the options that are given; others are passed over.

    What is given wins over the environment. Raises ``ValueError``.
    """
    values: dict[str, Any] = {}
    for name_of_field, one in _list_fields(kind).items():
        name = one.name or name_of_field
        texts = {v: t for v in one.variables if (t := environ.get(v, "")).strip()}
        if name in given:
            texts = {name: given[name]}
        for source, text in texts.items():
            try:
                values[name_of_field] = one.parse(text.strip())
            except ValueError as error:
                raise ValueError(f"{source}={text}, but should be {error}") from None
    return values


def _list_fields(kind: Any) -> dict[str, NamedOption]:
    found = {one.name: one.metadata.get("named") for one in fields(kind)}
    return {name: one for name, one in found.items() if one is not None}
