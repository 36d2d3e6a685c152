"""Numbers that stand twice, for Python and for C: they are the same."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from pgdoorman_lib.client import events
from pgdoorman_lib.net import pollable, tls_terms
from pgdoorman_lib.server import states
from pgdoorman_lib.wire import consts, letters, owed

_DECLARED = re.compile(r"^    ([A-Z_0-9]+) = (\d+)$", re.MULTILINE)


@pytest.mark.parametrize(
    "module", [consts, owed, letters, events, states, tls_terms], ids=lambda module: str(module.__name__)
)
def test_compiled_modules_read_the_same_numbers(module: ModuleType) -> None:
    declared = Path(str(module.__file__)).with_suffix(".pxd").read_text()
    ours = {name: value for name, value in vars(module).items() if name.isupper()}
    assert {name: int(value) for name, value in _DECLARED.findall(declared)} == ours


def test_events_are_told_apart() -> None:
    numbers = [value for name, value in vars(events).items() if name.isupper() and value]
    assert len(set(numbers)) == len(numbers)
    assert events.PENDING == pollable.PENDING
