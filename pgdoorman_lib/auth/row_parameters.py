"""startup_parameters of one user, from the row that an auth_query has found: a text with a JSON object of strings.

What is no such text gives none at all, and says why: the user gets in, and has what everybody has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pgdoorman_lib.config.validate import Parameters, parameter_problems, size_problem
from pgdoorman_lib.wire.lookup import Answer

COLUMN = "startup_parameters"


def row_parameters(answer: Answer) -> tuple[Parameters, str]:
    """The parameters in ``answer``, which has one row; and why there are none though the column has something."""
    column = COLUMN.encode()
    if column not in answer.columns:
        return (), ""
    text = answer.rows[0][answer.columns.index(column)]
    if not text:
        return (), ""
    try:
        found = json.loads(text, object_pairs_hook=_pairs)
    except (ValueError, RecursionError):
        return (), "is no JSON"
    if not isinstance(found, _Pairs):
        return (), "is no JSON object"
    if not all(isinstance(value, str) for _, value in found):
        return (), "has a value that is no string"
    if len({name for name, _ in found}) < len(found):
        return (), "has a name twice"
    parameters: Parameters = tuple((name, str(value)) for name, value in found)
    problem = next(parameter_problems(parameters), "") or size_problem(parameters)
    return ((), problem) if problem else (parameters, "")


class _Pairs(tuple[tuple[str, object], ...]):
    """An object's, in their order, those of the same name, too."""


def _pairs(pairs: Sequence[tuple[str, object]]) -> _Pairs:
    return _Pairs(pairs)
