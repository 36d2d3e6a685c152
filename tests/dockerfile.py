"""A Dockerfile's instructions, one by one, as the tests of ours need them; hadolint checks the rest."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    """``word`` in capitals and what stands behind it, in one line."""

    word: str
    text: str

    @property
    def exec_form(self) -> list[str] | None:
        """The command as a list, or None where a shell would run it."""
        found = re.search(r"\[.*\]$", self.text)
        return json.loads(found[0]) if found else None


def stages(path: Path) -> list[list[Instruction]]:
    """The instructions of each stage, its FROM first; what stands before the first FROM is left out."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    found: list[list[Instruction]] = []
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        word, _, text = line.strip().partition(" ")
        if word == "FROM":
            found.append([])
        if found and word:
            found[-1].append(Instruction(word, re.sub(r"\s+", " ", text)))
    return found


def of(stage: list[Instruction], word: str) -> list[Instruction]:
    """Those of ``stage`` that begin with ``word``."""
    return [instruction for instruction in stage if instruction.word == word]
