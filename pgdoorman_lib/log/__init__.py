"""Logging: levels, lines, and where they go. Modules log with ``logging.getLogger(__name__)``.

What is below debug is logged at ``TRACE``.
"""

from __future__ import annotations

from pgdoorman_lib.log.levels import LEVELS, TRACE, Levels, level_text, levels, set_level
from pgdoorman_lib.log.limited import Limited
from pgdoorman_lib.log.lines import (
    FORMATS,
    Label,
    StructuredFormatter,
    TextFormatter,
    file_name,
    label,
    name_worker,
    of_pool,
    place,
    timestamp,
)
from pgdoorman_lib.log.output import detach, direct, is_directed, keep_standard_descriptors, reopen, setup

__all__ = [
    "FORMATS",
    "LEVELS",
    "TRACE",
    "Label",
    "Levels",
    "Limited",
    "StructuredFormatter",
    "TextFormatter",
    "detach",
    "direct",
    "file_name",
    "is_directed",
    "keep_standard_descriptors",
    "label",
    "level_text",
    "levels",
    "name_worker",
    "of_pool",
    "place",
    "reopen",
    "set_level",
    "setup",
    "timestamp",
]
