"""The protocol's numbers stand twice, for Python and for C: they are the same."""

from __future__ import annotations

import re
from pathlib import Path

from pgdoorman_lib.wire import consts

_DECLARED = re.compile(r"^    ([A-Z_0-9]+) = (\d+)$", re.MULTILINE)


def test_compiled_modules_read_the_same_numbers() -> None:
    declared = Path(consts.__file__).with_suffix(".pxd").read_text()
    ours = {name: value for name, value in vars(consts).items() if name.isupper()}
    assert {name: int(value) for name, value in _DECLARED.findall(declared)} == ours
