"""The validator of the method ``oauth``: a command of the operator's, and everything it may do instead of answering."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from eventually import eventually
from pace import patience

from pgdoorman_lib.auth.clear_text import Claim
from pgdoorman_lib.auth.identity import IdentMaps
from pgdoorman_lib.auth.oauth import LONGEST_ANSWER, OAuthValidator
from pgdoorman_lib.errors import NoVerdict, Refusal
from pgdoorman_lib.net.syscalls import clock

MakeValidator = Callable[..., OAuthValidator]
TOKEN = b"abc.def-ghi"


@pytest.fixture
def script(tmp_path: Path) -> MakeValidator:
    def make(text: str, *arguments: str, idents: object = None) -> OAuthValidator:
        path = tmp_path / "validator"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        return OAuthValidator((str(path), *arguments), "https://issuer", "db", idents)  # type: ignore[arg-type]

    return make


def ask(validator: OAuthValidator, token: bytes = TOKEN, user: str = "alice", seconds: float = 10.0) -> None:
    validator.judge(Claim(user, "db", token, ""), clock() + patience(seconds))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_it_says_whose_token_it_is(script: MakeValidator) -> None:
    ask(script('test "$(cat)" = abc.def-ghi && echo alice'))
    ask(script("printf alice"))
    ask(script('test "$1" = "a b" && test $# = 1 && echo "$PGDOORMAN_USER"', "a b"))
    with pytest.raises(Refusal, match=r"provided user name \(alice\) and authenticated user name \(bob\) do not match"):
        ask(script("echo bob"))


def test_a_map_says_who_may_be_whom(script: MakeValidator) -> None:
    idents = IdentMaps.parse(r"m /^(.*)@example\.com$ \1", "pg_ident").named("m")
    ask(script("echo alice@example.com", idents=idents))
    with pytest.raises(Refusal, match="no match in usermap"):
        ask(script("echo alice", idents=idents))


def test_nothing_of_the_client_is_run(script: MakeValidator, tmp_path: Path) -> None:
    validator = script('printenv PGDOORMAN_USER; test "$PGDOORMAN_DATABASE" = db')
    name = f"$(touch {tmp_path}/mine);`touch {tmp_path}/mine`"
    ask(validator, b"$(touch x)", name)
    assert not (tmp_path / "mine").exists()


def test_it_sees_nothing_else_of_ours(script: MakeValidator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_SECRET", "x")
    with (tmp_path / "open_here").open("w"):
        ask(script('test -z "$SOME_SECRET" && ! ls -l /proc/self/fd | grep -q open_here && echo alice'))


def test_a_long_token_is_given_as_a_whole(script: MakeValidator) -> None:
    ask(script('test "$(wc -c)" -eq 65000 && echo alice'), b"x" * 65000)
    ask(script("sleep 0.1; echo alice"), b"x" * 1_000_000)  # which does not read it


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("exit 1", "refuses the token: status 1"),
        ("echo alice; exit 3", "refuses the token: status 3"),
        ("echo alice; kill -9 $$", "refuses the token: status -9"),
        ("true", "does not say in one line"),
        ("echo; echo alice", "does not say in one line"),
        ("echo alice; echo bob", "does not say in one line"),
        (r"printf 'alice\000'", "does not say in one line"),
        (r"printf '\377'", "does not say in one line"),
        (f"head -c {LONGEST_ANSWER + 1} /dev/zero | tr '\\0' a", "says more than a name"),
        ("yes", "says more than a name"),
    ],
)
def test_anything_else_refuses(script: MakeValidator, text: str, why: str) -> None:
    before = descriptors()
    with pytest.raises(Refusal, match=why):
        ask(script(text))
    assert descriptors() == before


def test_what_can_not_be_run(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    before = descriptors()
    for path in (tmp_path / "there", tmp_path / "nowhere", tmp_path):
        with pytest.raises(NoVerdict, match="can't be run"):
            ask(OAuthValidator((str(path),), "", "", None))
    assert descriptors() == before


@pytest.mark.parametrize("text", ["sleep 1000", "exec >&-; sleep 1000", "sleep 1000 & echo alice"])
def test_it_is_killed_with_all_it_has_started_when_its_time_is_over(
    script: MakeValidator, tmp_path: Path, text: str
) -> None:
    before = descriptors()
    validator = script(f"echo $$ > {tmp_path}/pid\n{text}")
    with pytest.raises(NoVerdict, match="has not ended in time"):
        validator.judge(Claim("alice", "db", b"", ""), clock() + 0.5)
    assert descriptors() == before
    group = int((tmp_path / "pid").read_text())
    eventually(lambda: not _has_processes(group), message="its processes end")


def _has_processes(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
