"""Errors and answers of several processes as plain values, and what is said when some of them did not do a thing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgdoorman_lib.errors import ConfigError, DoormanError
from pgdoorman_lib.net.parcel_terms import ChannelClosed, ParcelError
from pgdoorman_lib.together.kinds import SUPERVISOR
from pgdoorman_lib.wire.handover import Plain

#: What each process has said, by its number, or why it has said nothing: ChannelClosed when it is gone.
Answers = dict[int, Any]

#: Those that are made again as what they were; others come as a DoormanError with their SQLSTATE.
_KINDS: dict[str, type[DoormanError]] = {"ConfigError": ConfigError}


class NotEverywhere(DoormanError):
    """An order that some processes of the pooler have not carried out, while others have."""

    sqlstate = "58000"


def called(number: int) -> str:
    """A process, in words."""
    return "the supervisor" if number == SUPERVISOR else f"worker {number}"


def pack_error(exc: DoormanError) -> Plain:
    """An error as plain values."""
    return {
        "kind": type(exc).__name__,
        "sqlstate": exc.sqlstate,
        "message": exc.message,
        "detail": exc.detail,
        "hint": exc.hint,
    }


def unpack_error(packed: Mapping[str, Any]) -> DoormanError:
    """The error that ``pack_error`` has packed."""
    made = _KINDS.get(packed["kind"], DoormanError)
    return made(packed["message"], detail=packed["detail"], hint=packed["hint"], sqlstate=packed["sqlstate"])


def pack_answers(answers: Mapping[int, Any]) -> Plain:
    """Answers as plain values, for whoever asks through another process."""
    packed = {}
    for number, answer in answers.items():
        if isinstance(answer, Exception):
            packed[str(number)] = {"failed": str(answer), "gone": isinstance(answer, ChannelClosed)}
        else:
            packed[str(number)] = {"answer": answer}
    return packed


def unpack_answers(packed: Mapping[str, Any]) -> Answers:
    """What ``pack_answers`` has packed."""
    answers: Answers = {}
    for number, one in packed.items():
        if "failed" in one:
            answers[int(number)] = (ChannelClosed if one["gone"] else ParcelError)(one["failed"])
        else:
            answers[int(number)] = one["answer"]
    return answers


def results(what: str, answers: Mapping[int, Any]) -> dict[int, Any]:
    """What an order came to in each process, or the error that tells where it was not carried out.

    A process that is gone has nothing left to obey with, and the next with its number begins by what was ordered. One
    error that all have is raised as it is; else NotEverywhere.
    """
    done: dict[int, Any] = {}
    refused: dict[int, DoormanError] = {}
    silent: dict[int, str] = {}  # in words that name the process
    gone: dict[int, str] = {}
    for number, answer in sorted(answers.items()):
        if isinstance(answer, ChannelClosed):
            gone[number] = str(answer)
        elif isinstance(answer, Exception):
            silent[number] = str(answer)
        elif "error" in answer:
            refused[number] = unpack_error(answer["error"])
        else:
            done[number] = answer.get("result")
    texts = {exc.message for exc in refused.values()}
    if len(texts) == 1 and not silent and not set(done) - {SUPERVISOR}:
        raise next(iter(refused.values()))
    if refused or silent:
        reasons = {number: f"{called(number)}: {exc.message}" for number, exc in refused.items()} | silent
        told = "; ".join(reason for _, reason in sorted(reasons.items()))
        others = f"; carried out by {_list(done)}" if done else ""
        raise NotEverywhere(
            f"{what} was not carried out everywhere: {told}{others}",
            hint="Give it once more; SHOW WORKERS tells which workers there are.",
        )
    if not done:
        why = "; ".join(gone.values())
        raise NotEverywhere(f"{what} was not carried out: there is no worker{': ' + why if why else ''}")
    return done


def _list(numbers: Mapping[int, Any]) -> str:
    return ", ".join(called(number) for number in numbers)
