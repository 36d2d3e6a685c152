"""YAML to the same tree as TOML: the core schema of 1.2, lines for errors, and nothing a file can call or blow up."""

from __future__ import annotations

import random

import pytest
import yaml

from pgdoorman_lib.config import loader
from pgdoorman_lib.config.yaml_document import loader_on, parse_yaml
from pgdoorman_lib.errors import ConfigError

LOADERS = [
    pytest.param(base, id=base.__name__) for base in (yaml.BaseLoader, getattr(yaml, "CBaseLoader", None)) if base
]

SMALL = """\
general:
  admin_username: admin
  admin_password: adm1n-s3cret
  unix_socket_mode: 0600
pools:
  db:
    users:
      - username: alice
        password: "al1ce-s3cret"
        pool_size: 5
"""


@pytest.fixture(params=LOADERS)
def read(request):
    return lambda text: parse_yaml(text, "f.yaml", loader_on(request.param))


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", {}),
        ("# nothing\n", {}),
        ("\ufeffx: 1\r\ny: 2\r\n", {"x": 1, "y": 2}),
        ("x: [1, -2, +3, 0x1F, 0o17, 0b11]", {"x": [1, -2, 3, 31, 15, 3]}),
        ("x: [1.5, 1e3, -.5, 2., .inf]", {"x": [1.5, 1000.0, -0.5, 2.0, float("inf")]}),
        ("x: [true, False, TRUE]", {"x": [True, False, True]}),
        # What is something else in YAML 1.1.
        (
            "x: [yes, no, on, off, 0600, 1:30, 1_000, 2020-01-01, y]",
            {"x": ["yes", "no", "on", "off", "0600", "1:30", "1_000", "2020-01-01", "y"]},
        ),
        ("x: ['1', \"true\", !!str 5, !!str true]", {"x": ["1", "true", "5", "true"]}),
        ("x: null\ny: ~\nz:\nw: [~, 1]", {"w": [1]}),
        ("x: |\n  a\n  b\ny: >-\n  c\n  d\n", {"x": "a\nb\n", "y": "c d"}),
        ("0: {username: x}\n1: {}", {"0": {"username": "x"}, "1": {}}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: {<<: 1}", {"a": {"<<": 1}}),
    ],
)
def test_read(read, text, data):
    assert read(text).data == data


def test_lines(read):
    lines = read(SMALL).lines
    assert lines["general", "admin_password"] == 3
    assert lines["pools", "db", "users", 0] == 8
    assert lines["pools", "db", "users", 0, "pool_size"] == 10


@pytest.mark.parametrize(
    ("text", "line", "phrase"),
    [
        ("x: 1\nx: 2", 2, "x is defined twice, first on line 1"),
        ("a: {b: 1,\n b: 2}", 2, "a.b is defined twice"),
        ("a:\n  b: !!python/object/apply:os.system ['true']", 2, "a.b has a tag"),
        ("a: !s3cret", 1, "a has a tag"),
        ("a: !!int '5'", 1, "a has a tag"),
        ("a: *s3cret", 1, "undefined alias"),
        ("a: @s3cret", 1, "cannot start any token"),
        ("a: %s3cret", 1, "cannot start any token"),
        ("a: s3cret: s3cret", 1, "mapping values are not allowed"),
        ('a: 1\nb: "s3cret', 2, "this is not YAML"),
        ("a: [s3cret", 1, "this is not YAML"),
        ("a: !s3cret!s3cret x", 1, "this is not YAML"),
        ("&s3cret-a !<s3cret> x: &b", 1, "is no name"),
        ("a:\n\tb: 1", 2, "this is not YAML"),
        ("a: 1\n---\nb: 1", 2, "this is not YAML"),
        ("a: 1\nb: \x01", 2, "not allowed"),
        ("- 1", 1, "expected keys with values"),
        ("s3cret", 1, "expected keys with values"),
        ("? [a]\n: 1", 1, "is no name"),
        ("a: &x [*x]", 1, "deep"),
        ("y: 1\nx: {z: " + "9" * 5000 + "}", 2, "x.z is longer than any number"),
        ("x: " + "[" * 100 + "]" * 100, 1, "deep"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"{c}: &{c} [{','.join([f'*{chr(ord(c) - 1)}'] * 10)}]\n" for c in "bcdefgh"), 1, "aliases repeat"),
    ],
)  # fmt: skip
def test_refused_with_its_line(read, text, line, phrase):
    with pytest.raises(ConfigError) as caught:
        read(text)
    message = caught.value.message
    assert message.startswith("f.yaml:")
    assert "s3cret" not in message
    assert phrase in message
    # libyaml looks for the end of what is not closed elsewhere
    assert message.startswith(f"f.yaml:{line}: ") or "this is not YAML" in message or "aliases" in message


def test_damaged_files_are_read_or_refused(read):
    seed = random.randrange(2**32)
    rnd = random.Random(seed)
    for _ in range(300):
        text = list(SMALL)
        for _ in range(rnd.randint(1, 3)):
            at = rnd.randrange(len(text))
            text[at : at + rnd.choice([0, 1, 5])] = rnd.choice("[]{}:,.\"'#\n \t&*!|>%@`-?\x00\U0001f600")
        try:
            document = read("".join(text))
        except ConfigError as exc:
            assert "s3cret" not in exc.message, f"seed {seed}"
            continue
        assert isinstance(document.data, dict)


# -- as a configuration


@pytest.mark.parametrize("name", ["x.yaml", "x.YML"])
def test_the_same_as_toml(name):
    config = loader.loads(SMALL, name)
    toml = loader.loads(
        "[general]\nadmin_username = 'admin'\nadmin_password = 'adm1n-s3cret'\n"
        "[pools.db]\n[[pools.db.users]]\nusername = 'alice'\npassword = 'al1ce-s3cret'\npool_size = 5\n"
    )
    assert (config.general, config.pools) == (toml.general, toml.pools)


def test_users_by_number_and_rules_in_a_block():
    text = SMALL.replace("      - username", "      1:\n        username")
    text = text.replace("pools:", "  pg_hba: |\n    host all all all md5\npools:")
    config = loader.loads(text, "f.yaml")
    assert config.pools["db"].users[0].username == "alice"
    assert config.general.pg_hba is not None
    assert config.general.pg_hba.text == "host all all all md5\n"


def test_errors_name_file_line_and_key():
    text = SMALL.replace("0600", "0600\n  port: many\n  prot: 1").replace("pool_size: 5", "pool_size: five")
    with pytest.raises(ConfigError) as caught:
        loader.loads(text, "f.yaml")
    assert caught.value.message.splitlines() == [
        'f.yaml:5: general.port: found "many", expected an integer from 0 to 65535',
        "f.yaml:6: general.prot: unknown key; did you mean port?",
        'f.yaml:12: pools.db.users[0].pool_size: found "five", expected an integer from 1 to 4294967295',
    ]


def test_includes_of_either_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "main.yaml").write_text(SMALL + "include:\n  files: [more.toml, more.yml]\n")
    (tmp_path / "more.toml").write_text(
        "[general]\nport = 0x1920\n[[pools.db.users]]\nusername = 'bob'\npassword = ''\npool_size = 1\n"
    )
    (tmp_path / "more.yml").write_text("pools:\n  db:\n    users:\n    - {username: eve, password: '', pool_size: 2}\n")
    config = loader.load("main.yaml")
    assert config.general.port == 6432
    assert [user.username for user in config.pools["db"].users] == ["alice", "bob", "eve"]
    (tmp_path / "more.yml").write_text("pools:\n  db:\n    users:\n    - username: eve\n      pool_sice: 2\n")
    with pytest.raises(ConfigError, match=r"(?m)^more\.yml:5: pools\.db\.users\[2\]\.pool_sice: unknown key"):
        loader.load("main.yaml")


def test_an_empty_include_is_none():
    assert loader.loads(SMALL + "include:\n  # files:\n", "f.yaml").general.port == 5432
