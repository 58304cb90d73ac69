"""The table of checks: complete, and in the order of a verdict."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from pytest_mlperf.core import checks
from pytest_mlperf.core.checks.rule_check import RuleCheck
from pytest_mlperf.core.checks.table import CHECKS


def test_every_check_is_in_the_table_once() -> None:
    """A function with the decorator that is not in the table would never be asked."""
    modules = [
        import_module(f"{checks.__name__}.{module.name}")
        for module in pkgutil.iter_modules(checks.__path__)
    ]
    declared = {
        id(value): value.name
        for module in modules
        for value in vars(module).values()
        if isinstance(value, RuleCheck)
    }

    assert sorted(declared.values()) == sorted(check.name for check in CHECKS)
    assert declared.keys() == {id(check) for check in CHECKS}


def test_no_two_checks_have_one_name() -> None:
    """A waiver, a remedy and a reader look a check up by its name."""
    names = [check.name for check in CHECKS]

    assert len(set(names)) == len(names)
