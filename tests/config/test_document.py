"""TOML to a tree with lines: what the toml package gets wrong, errors on the right line, and random damage."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.config.document import format_path, parse
from pgdoorman_lib.errors import ConfigError

SAMPLE = '''# it's a comment with "
[general]
host = "0.0.0.0" # it's
port=6432
pg_hba = { content = """
host all all "x" \\
   trust
""", a.b = 1 }
list = ["a#b", 'c]', """d""", # cc "
 "e,"]
nested = [[1,2],["x"]]
x.y = 'q"'
"quo ted" = true
f = [-1.5e3, 0x1F, 0o17, 0b01, -0E+5]
[pools."my.db".users.0]
password = "md5\\u00e9\\"\\\\"
[[pools.b.users]]
username = \'\'\'l\'\'i't\'\'\'
[[pools.b.users]]
username = "x"
[pools.b.users.z]
k = -5
'''


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", {}),
        ("\ufeffx = 1\r\ny = 2\r\n", {"x": 1, "y": 2}),
        ('x = "\\""', {"x": '"'}),
        ('x = "a\\\\"', {"x": "a\\"}),
        ("x = 1_000", {"x": 1000}),
        ("x = [0o600, 0x1920, 0xdead_BEEF, 0b1]", {"x": [384, 6432, 0xDEADBEEF, 1]}),
        ("x = [0e0, -0E+5, 0.0e1, 1e2]", {"x": [0.0, 0.0, 0.0, 100.0]}),
        ('x = { c = """\na\n""" }', {"x": {"c": "a\n"}}),
        ("x = [1, 'a', [], {}]", {"x": [1, "a", [], {}]}),
        ("x = [ # c ]\n 1, # it's\n ]", {"x": [1]}),
        ("a . 'b c' = 1\na.d = 2", {"a": {"b c": 1, "d": 2}}),
        ("[a.b]\nx = 1\n[a]\ny = 2", {"a": {"b": {"x": 1}, "y": 2}}),
        (
            "[pools.a.users.0]\nx = 1\n[[pools.b.users]]\nx = 2\n[[pools.b.users]]\nx = 3",
            {"pools": {"a": {"users": {"0": {"x": 1}}}, "b": {"users": [{"x": 2}, {"x": 3}]}}},
        ),
        ('x = """"a""""', {"x": '"a"'}),
        ('x = """a\\\n   b"""', {"x": "ab"}),
    ],
)
def test_read(text, data):
    assert parse(text, "f").data == data


@pytest.mark.parametrize(
    ("text", "line", "phrase"),
    [
        ("x = 1\nx = 2", 2, "first on line 1"),
        ("[a]\nb = 1\n\n[a]\nc = 1", 4, "a is defined twice, first on line 1"),
        ("[a]\nb = 1\n[a.b]\nc = 1", 3, "a.b is defined twice"),
        ("[a]\nb.c = 1\n[a.b]\nd = 1", 3, "defined twice"),
        ("a = {b = 1}\na.c = 2", 2, "defined twice"),
        ("[a]\nb = {c = 1}\n[a.b]\nd = 1", 3, "defined twice"),
        ("[a]\nb = {c = 1}\n[a.b.d]\ne = 1", 3, "not a table that can be added to"),
        ("[a]\nb = 1\n[[a]]\nc = 1", 3, "defined twice"),
        ("[[a]]\nb = 1\n[a]\nc = 1", 3, "defined twice"),
        ("a = {b = 1, b = 2}", 1, "a.b is defined twice"),
        ("\nx = [1, 2\n", 3, "the array x, begun on line 2"),
        ('x = ["a",,"b"]', 1, "has no value"),
        ('x = ["a" "b"]', 1, "expected , or ]"),
        ("x = {a = 1,}", 1, "expected a key"),
        ("x = {a = 1", 1, "expected , or }"),
        ("x = ", 1, "x has no value"),
        ("x = word", 1, "strings need quotes"),
        ("x = --5", 1, "strings need quotes"),
        ("x = 007", 1, "strings need quotes"),
        ("x = -0x1", 1, "strings need quotes"),
        ("x = 0o8", 1, "strings need quotes"),
        ("x = 0x", 1, "strings need quotes"),
        ("x = 0b_1", 1, "strings need quotes"),
        ("x = 2020-99-99", 1, "not a valid date"),
        ("y = 1\nx = 1 2", 2, "end of the line"),
        ('x = "abc\ny = 1', 1, "not closed"),
        ('x = "abc\\\ny"', 1, "not closed"),
        ('y = 1\nx = """abc\n', 2, "not closed"),
        ('x = "a\\qb"', 1, "escape"),
        ('x = "\\ud800"', 1, "escape"),
        ('x = "a\x01"', 1, "control"),
        ("# \x01", 1, "control"),
        ("x", 1, "expected ="),
        ("= 1", 1, "expected a key"),
        ("[a", 1, "expected ]"),
        ("[a] b = 1", 1, "end of the line"),
        ("[a..b]", 1, "expected a key"),
        ("x = " + "[" * 100, 1, "deep"),
        (".".join("a" * 65) + " = 1", 1, "a key of more than 64 parts"),
        ("[" + ".".join("a" * 5000) + "]", 1, "a key of more than 64 parts"),
        ("y = 1\nx.z = " + "9" * 5000, 2, "x.z is longer than any number"),
    ],
)
def test_refused_with_its_line(text, line, phrase):
    with pytest.raises(ConfigError) as caught:
        parse(text, "dir/f.toml")
    assert caught.value.message.startswith(f"dir/f.toml:{line}: ")
    assert phrase in caught.value.message


@pytest.mark.parametrize(
    "broken", ['password = "s3cret', "password = s3cret", "password = 's3cret' s3cret", "[s3cret\n"]
)
def test_errors_do_not_quote_the_file(broken):
    with pytest.raises(ConfigError) as caught:
        parse(broken, "f")
    assert "s3cret" not in caught.value.message


def test_lines():
    lines = parse(SAMPLE, "f").lines
    assert lines["general", "port"] == 4
    assert lines["general", "list"] == 9
    assert lines["general", "list", 3] == 10
    assert lines["general", "nested"] == 11
    assert lines["pools", "my.db", "users", "0", "password"] == 16
    assert lines["pools", "b", "users", 1, "username"] == 20
    assert lines["pools", "b", "users", 1, "z", "k"] == 22


def test_paths_are_written_as_in_toml():
    assert format_path(("pools", "my.db", "users", 0, "password")) == 'pools."my.db".users[0].password'
    assert format_path(("a\nb",)) == '"a\\nb"'


@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_any_string_survives(data):
    text = "".join(f"{_quote(key)} = {_quote(value)}\n" for key, value in data.items())
    assert parse(text, "f").data == data


def _quote(text: str) -> str:
    return '"' + "".join(c if c.isalnum() else f"\\U{ord(c):08x}" for c in text) + '"'


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib, to compare with, came with Python 3.11")
def test_damaged_files_are_read_as_tomllib_does_or_refused():
    import tomllib

    seed = random.randrange(2**32)
    rnd = random.Random(seed)
    for _ in range(1500):
        text = list(SAMPLE)
        for _ in range(rnd.randint(0, 3)):
            at = rnd.randrange(len(text))
            if rnd.random() < 0.5:
                del text[at : at + rnd.choice([1, 1, 1, 2, 5, 20])]
            else:
                text.insert(at, rnd.choice("[]{}=,.\"'#\n \\ab01u_-\t"))
        damaged = "".join(text)
        try:
            ours = parse(damaged, "f").data
        except ConfigError:
            continue
        assert ours == tomllib.loads(damaged), f"seed {seed}"
