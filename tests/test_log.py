"""Log lines in both formats, levels at run time, and what must never break a session."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator

import gevent
import pytest

from pgdoorman_lib import log
from pgdoorman_lib.errors import ConfigError, DoormanError
from pgdoorman_lib.log.printed import Printed

LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z {2}INFO test_log\.py:\d+: hello world$")


@pytest.fixture
def logger():
    """A logger of the package; the set-up of logging is as before afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield logging.getLogger("pgdoorman_lib.client.session")
    log.levels.set("info", as_default=True)
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_text(logger):
    stream = io.StringIO()
    log.setup(stream=stream)
    logging.getLogger("test_log").info("hello %s", "world")
    logger.debug("not this")
    assert LINE.match(stream.getvalue())
    assert len(lines(stream)) == 1


def test_a_compiled_module_is_named_without_a_line() -> None:
    record: dict[str, object] = {
        "pathname": "/somewhere/pgdoorman_lib/app.py",
        "filename": "app.py",
        "lineno": 7,
        "msg": "hello",
    }
    record["levelno"] = logging.INFO
    found = logging.makeLogRecord({**record, "name": "pgdoorman_lib.client.login"})
    assert log.place(found) == ("pgdoorman_lib/client/login.py", 0)
    assert log.TextFormatter().format(found).endswith(" INFO pgdoorman_lib/client/login.py: hello")
    found = logging.makeLogRecord({**record, "name": "pgdoorman_lib.app"})
    assert log.place(found) == ("pgdoorman_lib/app.py", 7)


def test_the_file_is_named_from_the_package_on():
    record = logging.makeLogRecord({"pathname": "/somewhere/pgdoorman_lib/client/login.py", "filename": "login.py"})
    assert log.file_name(record) == "pgdoorman_lib/client/login.py"


def test_a_timestamp_does_not_round_into_the_next_second():
    assert log.timestamp(logging.makeLogRecord({"created": 1767323045.9996})) == "2026-01-02T03:04:05.999Z"


def test_structured(logger):
    stream = io.StringIO()
    log.setup(format="structured", stream=stream)
    logging.getLogger("test_log").warning("two\nlines")
    entry = json.loads(stream.getvalue())
    assert list(entry) == ["timestamp", "level", "file", "line", "message"]
    assert (entry["level"], entry["message"], entry["file"]) == ("WARN", "two\nlines", "test_log.py")
    assert type(entry["line"]) is int


@pytest.mark.parametrize("format", ["text", "structured"])
def test_a_traceback_is_logged(logger, format):
    stream = io.StringIO()
    log.setup(format=format, stream=stream)
    try:
        raise RuntimeError("why")
    except RuntimeError:
        logger.exception("it broke")
    assert "it broke" in lines(stream)[0]
    assert "RuntimeError: why" in stream.getvalue()
    assert len(lines(stream)) == 1 or format == "text"


def test_what_a_client_sends_can_not_forge_a_line(logger):
    stream = io.StringIO()
    log.setup(stream=stream)
    logger.info("user %s", "a\n2026-01-02T03:04:05.678Z ERROR x:1: forged\x1b[2J\x9b")
    assert len(lines(stream)) == 1
    assert "\x1b" not in stream.getvalue()
    assert "\\n2026" in stream.getvalue()


@pytest.mark.parametrize(
    ("color", "no_color", "terminal", "expected"),
    [
        (None, None, True, True),
        (None, "", True, True),
        (None, "1", True, False),
        (None, None, False, False),
        (False, None, True, False),
        (True, "1", False, True),
    ],
)
def test_color(logger, monkeypatch, color, no_color, terminal, expected):
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal() if terminal else io.StringIO()
    log.setup(color=color, stream=stream)
    logger.error("x")
    assert ("\033[31mERROR\033[0m" in stream.getvalue()) == expected


def test_setting_up_again_does_not_log_twice(logger):
    first, second = io.StringIO(), io.StringIO()
    log.setup(stream=first)
    log.setup(stream=second)
    logger.info("x")
    assert (len(lines(first)), len(lines(second))) == (0, 1)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("error", "E"),
        ("WARN", "EW"),
        ("info", "EWI"),
        ("debug", "EWID"),
        ("trace", "EWIDT"),
        ("error,client=debug", "EWID"),
        ("error, client.session = trace", "EWIDT"),
        ("trace,pgdoorman_lib.client=error", "E"),
        ("error,pg_doorman::client=info", "EWI"),
        ("client=debug", "EWID"),
        ("server=debug", "EWI"),
        ("warn,pgdoorman=debug", "EWID"),
    ],
)
def test_levels(logger, text, shown):
    stream = io.StringIO()
    log.setup(stream=stream)
    log.set_level(text)
    for level in (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG, log.TRACE):
        logger.log(level, "x")
    assert "".join(line.split()[1][0] for line in lines(stream)) == shown
    assert log.level_text() == text


def test_back_to_the_default(logger):
    log.setup("warn,pool=debug", stream=io.StringIO())
    log.set_level("trace,client=error")
    assert not logger.isEnabledFor(logging.WARNING)
    log.set_level("default")
    assert log.level_text() == "warn,pool=debug"
    assert logger.getEffectiveLevel() == logging.WARNING
    assert logging.getLogger("pgdoorman_lib.pool").getEffectiveLevel() == logging.DEBUG


@pytest.mark.parametrize(
    "text", ["", "loud", "warn,", "warn,info", "x y=debug", "=debug", "client=", "warning", "client=default"]
)
def test_wrong_levels_change_nothing(logger, text):
    log.setup("warn", stream=io.StringIO())
    with pytest.raises(DoormanError) as caught:
        log.set_level(text)
    assert caught.value.sqlstate == "42601"
    assert log.level_text() == "warn"
    assert logger.getEffectiveLevel() == logging.WARNING


def test_wrong_set_up(logger):
    with pytest.raises(DoormanError):
        log.setup(format="xml")
    with pytest.raises(DoormanError):
        log.setup(level="loud")


def test_lines_of_one_kind_are_limited(logger, monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pgdoorman_lib.log.limited.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    log.setup(stream=stream)
    limited = log.Limited(logger)
    for number in range(5):
        limited.info("%d failed", number)
    now[0] += 1.0
    limited.info("%d failed", 5)
    assert [line.split(": ", 1)[1] for line in lines(stream)] == [
        "0 failed",
        "5 failed (and 4 more like it since the last)",
    ]


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_full_pipe_stops_nobody(logger) -> None:
    """A line that is not taken at once is lost, and said to be when there is room again."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as there, open(writer, "w") as stream:
        log.setup(stream=stream)
        for _ in range(200):
            logger.info("x" * 1000)
        handler = logging.getLogger().handlers[-1]
        assert 0 < handler.lost < 200
        lost = handler.lost
        read = there.read(1 << 20)
        logger.info("here again")
        text = (read + there.read(1 << 20)).decode()
    assert handler.lost == 0
    assert f"WARN pgdoorman_lib/log/sinks.py: {lost} lines of the log were lost" in text
    assert text.endswith(": here again\n")
    assert len(text.splitlines()) == 200 - lost + 2


def test_a_line_that_was_cut_is_ended(logger) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as there, open(writer, "w") as stream:
        log.setup(stream=stream)
        logger.info("x" * 200_000)
        begun = there.read(1 << 20)
        logger.info("next")
        text = (begun + there.read(1 << 20)).decode()
    assert begun and not begun.endswith(b"\n")
    assert len(text.splitlines()) == 3


def test_a_lost_stderr_is_counted_and_no_error(logger, capsys):
    log.setup(stream=Gone())
    closed = io.StringIO()
    logger.info("x")
    handler = logging.getLogger().handlers[-1]
    assert handler.lost == 1
    log.setup(stream=closed)
    closed.close()
    logger.info("x")
    assert logging.getLogger().handlers[-1].lost == 1
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_survived_and_lines_are_counted(logger) -> None:
    log.setup(stream=io.StringIO())
    log.direct("text", "/dev/full", None, "/dev/log")
    assert log.is_directed()
    for _ in range(3):
        logger.info("x")
    assert logging.getLogger().handlers[-1].lost == 3
    log.setup(stream=io.StringIO())
    assert not log.is_directed()


def test_a_pipe_that_nobody_reads_refuses_to_be_the_log(logger, tmp_path) -> None:
    """Instead of waiting for somebody."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=r"general\.log_file: could not open '.*/pipe'"):
        log.direct("text", str(path), None, "/dev/log")


@pytest.mark.parametrize(
    ("label", "text", "fields"),
    [
        (
            log.label("u", "d", 7, "1.2.3.4:5"),
            "[u@d #7]",
            {"user": "u", "database": "d", "id": 7, "address": "1.2.3.4:5"},
        ),
        (log.label("u", "d"), "[u@d]", {"user": "u", "database": "d"}),
        (log.label("u", "d", address="a:1"), "[u@d a:1]", {"user": "u", "database": "d", "address": "a:1"}),
        (log.label("u", "d", address="a:1", told=False), "[u@d]", {"user": "u", "database": "d", "address": "a:1"}),
        (log.label(address="a:1"), "[a:1]", {"address": "a:1"}),
        (log.label(database="d"), "[d]", {"database": "d"}),
    ],
)
def test_whom_a_line_is_about(logger, label, text, fields) -> None:
    stream = io.StringIO()
    log.setup(stream=stream)
    logger.info("%s comes", label)
    assert stream.getvalue().endswith(f"{text} comes\n")
    stream = io.StringIO()
    log.setup(format="structured", stream=stream)
    logger.info("%s comes", label)
    entry = json.loads(stream.getvalue())
    assert entry.pop("message") == f"{text} comes"
    assert {name: entry[name] for name in entry if name not in ("timestamp", "level", "file", "line")} == fields


# Standard error of a daemon whose log is syslog.


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


@pytest.fixture
def printed() -> Iterator[tuple[Printed, Kept]]:
    logger, kept = logging.getLogger("pgdoorman_lib.test_printed"), Kept()
    logger.addHandler(kept)
    logger.propagate = False
    yield Printed(logger), kept
    logger.removeHandler(kept)


def test_what_is_printed_is_logged_by_lines(printed: tuple[Printed, Kept]) -> None:
    stream, kept = printed
    print("one\n\ntwo", file=stream)
    stream.write("thr")
    assert kept.lines == ["ERROR one", "ERROR two"]
    stream.write("ee %s\n")
    assert kept.lines[2:] == ["ERROR three %s"]


def test_the_traceback_of_a_greenlet_is_printed_so(
    printed: tuple[Printed, Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, kept = printed
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(gevent.get_hub(), "exception_stream", stream, raising=False)
    gevent.spawn(lambda: 1 // 0).join()
    assert kept.lines[0] == "ERROR Traceback (most recent call last):"
    assert "ERROR ZeroDivisionError: integer division or modulo by zero" in kept.lines


def test_logging_that_fails_and_prints_so_does_not_go_round(printed: tuple[Printed, Kept]) -> None:
    stream, kept = printed
    kept.emit = lambda record: print("it failed", file=stream)  # type: ignore[method-assign]
    print("one", file=stream)
