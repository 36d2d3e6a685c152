"""PAM as PAM's own functions say: a fake of them, which may answer anything. The real ones are in functional/test_pam."""

from __future__ import annotations

import builtins
import ctypes.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from pgdoorman_lib.auth import pam
from pgdoorman_lib.auth.clear_text import Claim
from pgdoorman_lib.auth.pam import PamService, pam_service
from pgdoorman_lib.errors import ConfigError, NoVerdict, Refusal

NOT_THERE = ' (not in /etc/pam.d: the service "other" was asked)'


class Handle:
    def __init__(self) -> None:
        self.items: dict[int, str] = {}

    def set_item(self, kind: int, item: str) -> None:
        self.items[kind] = item


@dataclass
class Fake:
    """Stands for pamela: ``results`` by function; ``calls`` has what was called."""

    results: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    told: list[bytes] = field(default_factory=list)
    handles: list[Handle] = field(default_factory=list)

    PAM_RHOST = 4
    LIBPAM = object()

    def __post_init__(self) -> None:
        for name in ("pam_start", "pam_authenticate", "pam_acct_mgmt", "pam_end"):
            setattr(self, name.upper(), self._function(name))

    def _function(self, name: str) -> Any:
        def function(*arguments: Any) -> int:
            self.calls.append(name)
            if name == "pam_end":
                self.calls.append(str(arguments[1]))
            return self.results.get(name, 0)

        function.__name__ = name
        return function

    def PamHandle(self) -> Handle:
        self.handles.append(Handle())
        return self.handles[-1]

    def PamConv(self, conversation: Any, data: int) -> Any:
        return conversation

    def new_simple_password_conv(self, passwords: tuple[bytes, ...], encoding: str) -> Any:
        self.told += passwords
        return self

    def pam_strerror(self, handle: Any, number: int) -> str:
        return f"error {number}"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    made = Fake()
    monkeypatch.setattr(pam, "load", lambda: made)
    monkeypatch.setattr(pam, "pointer", lambda it: it)
    yield made


def ask(password: bytes = b"told", address: str = "192.0.2.1") -> None:
    PamService("doors").judge(Claim("alice", "shop", password, address), 0.0)


def test_both_questions_are_asked(fake: Fake) -> None:
    ask()
    assert fake.calls == ["pam_start", "pam_authenticate", "pam_acct_mgmt", "pam_end", "0"]
    assert fake.told == [b"told"]
    assert fake.handles[0].items == {4: "192.0.2.1"}


def test_a_unix_socket_has_no_host(fake: Fake) -> None:
    ask(address="")
    assert fake.handles[0].items == {}


@pytest.mark.parametrize("function", ["pam_start", "pam_authenticate", "pam_acct_mgmt"])
@pytest.mark.parametrize("result", [*range(1, 33), -1, 255, 1 << 30])
def test_only_success_is_success(fake: Fake, function: str, result: int) -> None:
    fake.results[function] = result
    with pytest.raises(Refusal) as refused:
        ask()
    assert str(refused.value) == f'PAM service "doors"{NOT_THERE}: {function}: error {result} ({result})'
    assert isinstance(refused.value, NoVerdict) == (result in (1, 2, 3, 4, 5, 9, 19, 26, 28))
    ended = ["pam_end", str(result)] if function != "pam_start" else []
    assert fake.calls[-len(ended) :] == ended or not ended


def test_a_password_that_pam_would_cut_is_none(fake: Fake) -> None:
    ask(b"x" * 511)
    with pytest.raises(Refusal, match="longer than PAM takes"):
        ask(b"x" * 512)
    assert fake.told == [b"x" * 511]


# -- where it is not to be had


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pam.load.cache_clear()
    monkeypatch.delitem(sys.modules, "pamela", raising=False)
    yield
    pam.load.cache_clear()


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ModuleNotFoundError("No module named 'pamela'"), "pip install 'pgdoorman\\[pam\\]'"),
        (OSError("libpam.so.0: cannot open shared object file"), "not to be had on this system: libpam.so.0"),
        (AttributeError("undefined symbol: pam_start"), "not to be had on this system: undefined symbol"),
    ],
)
def test_it_is_missed_at_the_start(monkeypatch: pytest.MonkeyPatch, error: Exception, why: str) -> None:
    imports = builtins.__import__

    def fails(name: str, *rest: Any) -> Any:
        if name == "pamela":
            raise error
        return imports(name, *rest)

    monkeypatch.setattr(builtins, "__import__", fails)
    search = ctypes.util.find_library
    with pytest.raises(ConfigError, match=why):
        pam_service("doors", None)
    assert ctypes.util.find_library is search


@pytest.mark.usefixtures("unloaded")
def test_no_process_is_started_to_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def starts(*arguments: Any, **options: Any) -> Any:
        raise AssertionError(f"a process is started: {arguments}")

    monkeypatch.setattr("subprocess.Popen", starts)
    try:
        assert pam.load().PAM_SUCCESS == 0
    except ConfigError as exc:
        pytest.skip(exc.message)


def test_a_directory_of_services_needs_a_new_libpam(fake: Fake) -> None:
    @dataclass
    class Settings:
        auth_pam_confdir: str | None = "/etc/doors"
        auth_ldap_ca_cert: str | None = None
        max_concurrent_auths: int = 1
        auth_timeout: float = 1.0

    with pytest.raises(ConfigError, match=r"auth_pam_confdir needs Linux-PAM 1\.4"):
        pam_service("doors", Settings())
    assert pam_service("", None).service == "postgresql"
