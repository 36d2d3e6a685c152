"""HTTP of a real process: the pages, and what it makes of peers that mean no good."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import re
import resource
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from eventually import eventually
from fix_doorman import ADMIN_PASSWORD, ADMIN_USER, Doorman, MakeDoorman
from pace import patience
from ports import free_port
from prometheus_client.parser import text_string_to_metric_families

from pgdoorman_lib.auth.md5 import hash_password
from pgdoorman_lib.auth.scram import ScramSecret
from pgdoorman_lib.web.server import MAX_CONNECTIONS, MAX_HEAD

LOGIN = {"Authorization": "Basic " + base64.b64encode(f"{ADMIN_USER}:{ADMIN_PASSWORD}".encode()).decode()}


@pytest.fixture(scope="module")
def doorman_over() -> Mapping[str, Any]:
    return {"web": {"enabled": True, "port": free_port()}}


class Answer:
    """A response that was read whole."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)


def port_of(doorman: Doorman) -> int:
    return int(doorman.config["web"]["port"])


@contextmanager
def connected(doorman: Doorman) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(doorman), timeout=patience(20))
    try:
        yield connection
    finally:
        connection.close()


def ask(doorman: Doorman, path: str, method: str = "GET", **headers: str) -> Answer:
    with connected(doorman) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return Answer(connection.getresponse())


def table(doorman: Doorman, name: str) -> list[dict[str, Any]]:
    answer = ask(doorman, f"/api/{name}", **LOGIN)
    assert answer.status == 200, answer.text
    found = answer.json()
    assert isinstance(found, list)
    return found


def samples(doorman: Doorman, **headers: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = ask(doorman, "/metrics", **headers)
    assert answer.status == 200
    body = gzip.decompress(answer.body) if answer.headers["Content-Encoding"] == "gzip" else answer.body
    found = [s for family in text_string_to_metric_families(body.decode()) for s in family.samples]
    by_key = {(s.name, frozenset(s.labels.items())): s.value for s in found}
    assert len(by_key) == len(found), "no sample comes twice"
    return by_key


def sample(doorman: Doorman, name: str, **labels: str) -> float:
    return samples(doorman)["pg_doorman_" + name, frozenset(labels.items())]


APP = {"database": "testdb", "user": "app"}


# -- the pages


def test_metrics_tell_what_clients_do(doorman: Doorman) -> None:
    before = samples(doorman)
    with doorman.connect(prepare_threshold=None) as connection:
        for _ in range(7):
            connection.execute("SELECT 1")
        with pytest.raises(Exception, match="nonsense"):
            connection.execute("SELECT nonsense")
        eventually(lambda: sample(doorman, "pools_clients", status="idle", **APP) == 1, message="a client at rest")
        # The page may be one that another reads still.
        eventually(
            lambda: (
                sample(doorman, "pools_queries_total", **APP)
                == before["pg_doorman_pools_queries_total", frozenset(APP.items())] + 8
            ),
            message="eight queries",
        )
    after = samples(doorman)
    assert after["pg_doorman_pools_errors_by_code_total", frozenset({**APP, "sqlstate": "42703"}.items())] == 1
    assert after["pg_doorman_pools_errors_total", frozenset({**APP, "sqlstate": "other"}.items())] == 1
    assert after["pg_doorman_pools_query_duration_seconds_bucket", frozenset({**APP, "le": "+Inf"}.items())] >= 8
    assert after["pg_doorman_pool_size", frozenset(APP.items())] == 8
    assert after["pg_doorman_backend_create_duration_seconds_count", frozenset({("phase", "auth")})] >= 1
    assert after["pg_doorman_sockets", frozenset({("type", "tcp")})] >= 1
    assert after["pg_doorman_total_memory", frozenset()] > 10_000_000


def test_every_user_that_is_kept_out_counts(make_doorman: MakeDoorman) -> None:
    over = {
        "web": {"enabled": True, "port": free_port()},
        "general": {"hba": ["127.0.0.1/32"], "max_connections": 1},
    }
    doorman = make_doorman(over)
    with doorman.connect(), pytest.raises(Exception, match="too many clients"):
        doorman.connect()
    doorman.wait_log(r"client disconnected")  # by whichever worker had it
    with pytest.raises(Exception, match="password"):
        doorman.connect(password="wrong")
    with socket.create_connection(("127.0.0.1", doorman.port)) as client:
        client.sendall(b"\0\0\0\x04")
    for reason in ("too_many_clients", "authentication", "invalid_startup"):
        eventually(
            lambda reason=reason: sample(doorman, "listener_rejections_total", reason=reason) == 1, message=reason
        )


def test_gzip_for_who_asks(doorman: Doorman) -> None:
    answer = ask(doorman, "/metrics", Accept_Encoding="deflate, gzip;q=0.5")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.body).startswith(b"# HELP")
    for refused in ("gzip;q=0", "gzip; q=0.000", "identity", ""):
        answer = ask(doorman, "/metrics", Accept_Encoding=refused)
        assert answer.headers["Content-Encoding"] is None
        assert int(answer.headers["Content-Length"]) == len(answer.body)
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_what_prometheus_asks(doorman: Doorman) -> None:
    """The headers of Prometheus 3, over one connection that is kept."""
    accept = (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "text/plain;version=0.0.4;q=0.4,application/vnd.google.protobuf;q=0.7,*/*;q=0.1"
    )
    with connected(doorman) as connection:
        for _ in range(3):
            connection.request("GET", "/metrics", headers={"Accept": accept, "Accept-Encoding": "gzip"})
            sock = connection.sock
            answer = Answer(connection.getresponse())
            assert answer.status == 200
            assert list(text_string_to_metric_families(gzip.decompress(answer.body).decode()))
            assert connection.sock is sock, "the connection is kept"


@pytest.mark.parametrize("path", ["/", "/metrics", "/health", "/ready", "/api", "/nowhere"])
def test_head_is_answered_without_a_body(doorman: Doorman, path: str) -> None:
    with connected(doorman) as connection:
        for method in ("HEAD", "GET", "HEAD"):
            connection.request(method, path)
            answer = Answer(connection.getresponse())
            assert answer.status == {"/api": 401, "/nowhere": 404}.get(path, 200)
            assert bool(answer.body) == (method == "GET")


def test_health_and_ready(doorman: Doorman) -> None:
    assert (ask(doorman, "/health").status, ask(doorman, "/ready?x=1").text) == (200, "ready\n")


def test_not_ready_while_it_drains(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"web": {"enabled": True, "port": free_port()}, "general": {"shutdown_timeout": "20s"}})
    with doorman.connect(autocommit=False) as connection:
        connection.execute("SELECT 1")
        doorman.send_signal(signal.SIGTERM)
        eventually(lambda: ask(doorman, "/ready").status == 503, message="not ready")
        assert ask(doorman, "/health").status == 200
        connection.commit()
    assert doorman.wait() == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "get", "BREW"])
def test_other_methods(doorman: Doorman, method: str) -> None:
    answer = ask(doorman, "/metrics", method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path", ["/metric", "/metrics/", "/api/nothing", "//metrics/..", "/%6detrics", "/../etc/passwd"]
)
def test_other_paths(doorman: Doorman, path: str) -> None:
    assert ask(doorman, path, **LOGIN).status == 404


# -- the tables


def test_tables_are_those_of_the_console(doorman: Doorman) -> None:
    with doorman.connect(application_name="seen by HTTP") as connection:
        connection.execute("SELECT 1")
        names = ask(doorman, "/api", **LOGIN).json()
        assert {"/api/pools", "/api/clients", "/api/servers", "/api/stats", "/api/config"} <= set(names)
        clients = [row for row in table(doorman, "clients") if row["application_name"] == "seen by HTTP"]
        assert [(row["database"], row["user"], row["state"]) for row in clients] == [("testdb", "app", "idle")]
        pools = {(row["database"], row["user"]): row for row in table(doorman, "pools")}
        shown = {(row["database"], row["user"]): row for row in doorman.admin("SHOW POOLS")}
        assert pools.keys() == shown.keys()
        assert pools["testdb", "app"].keys() == shown["testdb", "app"].keys()
        assert pools["testdb", "app"]["pool_size"] == 8
        for name in names:
            path = name.removeprefix("/api/")
            assert isinstance(table(doorman, path), list)
    text = json.dumps(table(doorman, "config"))
    assert ADMIN_PASSWORD not in text


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"admin:wrong").decode(),
        "Basic " + base64.b64encode(b"app:app").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:\0").decode(),
        "Bearer x",
    ],
)
def test_tables_are_for_the_console_s_user(doorman: Doorman, header: str | None) -> None:
    answer = ask(doorman, "/api/clients", **({} if header is None else {"Authorization": header}))
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert "testdb" not in answer.text


SECRET = str(ScramSecret.derive(ADMIN_PASSWORD, b"0123456789abcdef", 4096))


@pytest.mark.parametrize("secret", [SECRET, hash_password(ADMIN_PASSWORD, ADMIN_USER)], ids=["SCRAM", "MD5"])
def test_a_stored_secret_is_no_password(make_doorman: MakeDoorman, secret: str) -> None:
    """The console's password may be configured in a form that whoever reads it can't log in with."""
    doorman = make_doorman({"general": {"admin_password": secret}, "web": {"enabled": True, "port": free_port()}})
    assert table(doorman, "pools")
    stolen = base64.b64encode(f"{ADMIN_USER}:{secret}".encode()).decode()
    assert ask(doorman, "/api/pools", Authorization=f"Basic {stolen}").status == 401
    assert ask(doorman, "/api/pools", Authorization="Basic " + base64.b64encode(b"admin:x").decode()).status == 401


def test_who_is_refused_is_in_the_log(doorman: Doorman) -> None:
    """As who tries passwords at the console is; a line a second at most."""
    mark = len(doorman.log_lines)

    def told() -> bool:
        assert ask(doorman, "/api/pools", Authorization="none").status == 401
        return any("wrong user or password for /api/pools" in line for line in doorman.log_lines[mark:])

    eventually(told)
    assert "[127.0.0.1:" in doorman.wait_log("wrong user or password for /api/pools", after=mark)


# -- hostile peers


def raw(doorman: Doorman, data: bytes, *, half_close: bool = False) -> bytes:
    """All that is answered to ``data``."""
    with socket.create_connection(("127.0.0.1", port_of(doorman)), timeout=patience(20)) as sock:
        sock.sendall(data)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while more := sock.recv(65536):
                answer += more
        except ConnectionResetError:
            pass
        return answer


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d\d\d) ", answer)]


HOST = b"Host: x\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /health HTTP/1.0\r\n\r\n", 200),
        (b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", 200),
        (b"GET http://elsewhere/health HTTP/1.0\r\n\r\n", 200),
        (b"GET http://elsewhere HTTP/1.0\r\n\r\n", 200),
        (b"GET * HTTP/1.0\r\n\r\n", 404),
        (b"GET /health\r\n\r\n", 400),
        (b"GET /health HTTP/2.0\r\n\r\n", 505),
        (b"GET /health HTTP/x\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"a b c d e\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"\0\0\0\x08\x04\xd2\x16\x2f\r\n\r\n", 400),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 413),
        (b"GET /health HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 30\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n", 413),
        (b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
        (b"GET /health HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 413),
        (b"GET /health HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", 417),
        (b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431),
        (b"GET /" + b"x" * MAX_HEAD + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 3 * MAX_HEAD, 431),
        (b"y" * 3 * MAX_HEAD, 431),
    ],
)
def test_odd_requests(doorman: Doorman, data: bytes, status: int) -> None:
    """One answer, and the connection ends."""
    assert statuses(raw(doorman, data)) == [status]
    assert ask(doorman, "/health").status == 200


@pytest.mark.parametrize("data", [b"", b"G", b"GET / HTTP/1.1\r\n", b"\r\n\r\n"])
def test_half_requests(doorman: Doorman, data: bytes) -> None:
    assert raw(doorman, data, half_close=True) == b""


def test_requests_behind_one_another(doorman: Doorman) -> None:
    one = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
    last = b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n"
    assert statuses(raw(doorman, one * 200 + last)) == [200] * 200 + [404]


def test_header_lines_cannot_be_injected(doorman: Doorman) -> None:
    answer = raw(doorman, b"GET /x%0d%0aSet-Cookie:a=b HTTP/1.0\r\n\r\n")
    assert statuses(answer) == [404]
    assert b"Set-Cookie" not in answer


def test_many_connections_keep_nobody_out(doorman: Doorman) -> None:
    """Those at rest make room; and no descriptor stays behind."""
    files = doorman.open_files()
    resting = [
        socket.create_connection(("127.0.0.1", port_of(doorman)), timeout=patience(20))
        for _ in range(3 * MAX_CONNECTIONS)
    ]
    assert ask(doorman, "/health").status == 200
    eventually(lambda: doorman.open_files() <= files + MAX_CONNECTIONS, message="the oldest were closed")
    resting[0].settimeout(patience(10))
    assert resting[0].recv(1) == b""
    for sock in resting:
        sock.close()
    eventually(lambda: doorman.open_files() <= files, message="all are closed")


def test_half_requests_keep_nobody_out(doorman: Doorman) -> None:
    """Whoever owes the rest of a request makes room as well as who has not begun."""
    halves = [
        socket.create_connection(("127.0.0.1", port_of(doorman)), timeout=patience(20)) for _ in range(MAX_CONNECTIONS)
    ]
    try:
        for sock in halves:
            sock.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(5):
            assert ask(doorman, "/health").status == 200
        assert halves[0].recv(1) == b""
        halves[-1].sendall(b"Connection: close\r\n\r\n")
        assert halves[-1].recv(100).startswith(b"HTTP/1.1 200 ")
    finally:
        for sock in halves:
            sock.close()


def test_without_descriptors_it_waits_for_some(make_doorman: MakeDoorman) -> None:
    config = {"web": {"enabled": True, "port": free_port()}}
    doorman = make_doorman(config, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50)))
    sockets = [
        socket.create_connection(("127.0.0.1", port_of(doorman)), timeout=patience(20)) for _ in range(MAX_CONNECTIONS)
    ]
    doorman.wait_log("cannot accept by HTTP: Too many open files; pausing for ")
    for sock in sockets:
        sock.close()
    assert ask(doorman, "/health").status == 200


def test_wrong_passwords_keep_nobody_out(doorman: Doorman) -> None:
    """Whoever waits to be told that it was wrong makes room, too."""
    wrong = b"GET /api HTTP/1.1\r\nAuthorization: none\r\n\r\n"
    for _ in range(3):
        sockets = [
            socket.create_connection(("127.0.0.1", port_of(doorman)), timeout=patience(20))
            for _ in range(MAX_CONNECTIONS)
        ]
        try:
            for sock in sockets:
                sock.sendall(wrong)
            assert ask(doorman, "/health").status == 200
        finally:
            for sock in sockets:
                sock.close()


def test_who_does_not_read_holds_nobody_up(doorman: Doorman) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port_of(doorman)))
    sock.sendall((b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n") * 60)
    try:
        with doorman.connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert ask(doorman, "/metrics").status == 200
    finally:
        sock.close()


def test_scrapes_beside_clients(doorman: Doorman) -> None:
    """Whoever scrapes as fast as possible, clients are served and every page is whole."""
    done = threading.Event()
    pages: list[int] = []
    failures: list[BaseException] = []

    def scrape() -> None:
        try:
            while not done.is_set():
                pages.append(len(samples(doorman, Accept_Encoding="gzip")))
        except BaseException as exc:  # told by the test
            failures.append(exc)

    threads = [threading.Thread(target=scrape) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with doorman.connect() as connection:
            for _ in range(50):
                assert connection.execute("SELECT 1").fetchone() == (1,)
            eventually(lambda: len(pages) > 10 or failures, message="pages came meanwhile")
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures


# -- life


def test_off_unless_asked_for(make_doorman: MakeDoorman) -> None:
    port = free_port()
    make_doorman({"web": {"port": port}})
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=patience(5))


def test_a_port_that_is_taken(make_doorman: MakeDoorman) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        doorman = make_doorman({"web": {"enabled": True, "port": port}}, start=False)
        doorman.start(wait=False)
        assert doorman.wait() == 1
        doorman.wait_log(f"could not listen for HTTP: 127.0.0.1:{port}: Address already in use")


def test_prometheus_is_another_name(make_doorman: MakeDoorman) -> None:
    port = free_port()
    doorman = make_doorman({"prometheus": {"enabled": True, "host": "localhost", "port": port}})
    with socket.create_connection(("127.0.0.1", port), timeout=patience(5)) as sock:
        sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")
    doorman.wait_log(r"listening for HTTP on 127.0.0.1:\d+")


def test_a_reload_says_that_it_waits_for_a_restart(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"web": {"enabled": True, "port": free_port()}})
    doorman.reload({**doorman.config, "web": {"enabled": False, "port": port_of(doorman)}})
    doorman.wait_log("web.enabled was changed: it is false after a restart")
    doorman.config["web"]["enabled"] = True
    assert ask(doorman, "/health").status == 200
