"""ErrorResponses to texts in another form: names and positions as the client knows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.wire import messages
from pgdoorman_lib.wire.rewritten import Rewriting, as_written


def error(position: int | None = None, text: str = "no", **more: str) -> bytes:
    fields = [b"SERROR", b"VERROR", b"C42601", b"M" + text.encode()]
    fields += [name.encode() + value.encode() for name, value in more.items()]
    if position is not None:
        fields.append(b"P%d" % position)
    body = b"\0".join(fields) + b"\0\0"
    return b"E" + (4 + len(body)).to_bytes(4, "big") + body


def rewriting(original: str, *names: tuple[str, str], front: str = "") -> tuple[Rewriting, str]:
    """``original`` with the first of each of ``names`` replaced, and what comes of it."""
    edits, text, moved = [], original, 0
    for old, new in names:
        at = original.index(old, edits[-1][1] if edits else 0)
        start = len(original[:at].encode())
        edits.append((start, start + len(old.encode()), len(new)))
        text = text[: at + moved] + new + text[at + moved + len(old) :]
        moved += len(new) - len(old)
    return Rewriting(front.encode(), original.encode(), edits), front + text


def no_names(name: bytes) -> None:
    return None


@pytest.mark.parametrize("front", ["", "PREPARE pgdoorman_5eed_1 AS SELECT 'é'; "])
@pytest.mark.parametrize("original", ["EXECUTE p (bad)", "SELECT 'äöü'; EXECUTE p (bad); EXECUTE longer_name (bad)"])
def test_positions(original: str, front: str) -> None:
    names = [("EXECUTE p", "EXECUTE pgdoorman_5eed_12")]
    if "longer_name" in original:
        names.append(("longer_name", "p_3"))
    rewritten, text = rewriting(original, *names, front=front)
    for word in ("bad", "SELECT", "äöü"):
        start = text.find(word, len(front))
        if start >= 0:
            assert rewritten.position(start + 1) == original.index(word) + 1
    last = len(original) - original[::-1].index("dab") - 2
    assert rewritten.position(text.rindex("bad") + 1) == last
    if front:
        assert rewritten.position(3) == 0
    assert as_written(error(text.rindex("bad") + 1), rewritten, no_names) == error(last)


def test_within_a_name() -> None:
    rewritten, text = rewriting("DEALLOCATE p", ("p", "pgdoorman_5eed_7"))
    for at in range(text.index("pgdoorman_5eed_7"), len(text)):
        assert rewritten.position(at + 1) == 12


def test_what_is_in_our_own_front_has_no_position() -> None:
    rewritten, _ = rewriting("EXECUTE p", front="PREPARE x AS SELECT 1; ")
    assert as_written(error(9), rewritten, no_names) == error()


def test_names() -> None:
    def name(ours: bytes) -> bytes | None:
        return {b"pgdoorman_5eed_5": b"mine"}.get(ours)

    text = 'statement "{}" requires 2, not "pgdoorman_5eed_6"'
    found = as_written(
        error(text=text.format("pgdoorman_5eed_5"), D='"pgdoorman_5eed_5"', q='"pgdoorman_5eed_5"'), None, name
    )
    assert found == error(text=text.format("mine"), D='"mine"', q='"pgdoorman_5eed_5"')


def test_others_stay_as_they_are() -> None:
    rewritten, _ = rewriting("EXECUTE p", ("p", "pgdoorman_5eed_7"))
    for message in (
        messages.error_response("ERROR", "26000", "unknown", detail="more"),
        error(position=None),
        b"E\0\0\0\x04",
        b"E\0\0\0\x05\0",
        b"E\0\0\0\x06\0\0",
        b"E\0\0\0\x08M\0P1",
    ):
        assert as_written(message, rewritten, no_names) == message


@given(st.binary(max_size=60))
def test_garbage(body: bytes) -> None:
    message = b"E" + (4 + len(body)).to_bytes(4, "big") + body
    rewritten, _ = rewriting("EXECUTE p", ("p", "pgdoorman_5eed_7"))
    found = as_written(message, rewritten, no_names)
    assert int.from_bytes(found[1:5], "big") == len(found) - 1
