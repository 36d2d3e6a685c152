"""SQL of names and values that means the same whatever the session's encoding and conventions for strings are."""

from __future__ import annotations


def quote_literal(value: str) -> str:
    """``value`` as an SQL string that means the same whatever standard_conforming_strings is."""
    text = value.replace("'", "''")
    if "\\" in text:
        return "E'" + text.replace("\\", "\\\\") + "'"
    return f"'{text}'"


def quote_name(name: str) -> str:
    """A setting's name as an SQL identifier, each of its parts quoted."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def set_config(name: str, value: str, local: str = "false") -> str:
    """The SQL that sets a parameter; ``local``: whether for the transaction only, as an SQL expression."""
    text = quote_literal(value)
    if not value.isascii():
        # Bytes of the database's encoding, whatever the client's is at the moment.
        data = value.encode(errors="surrogateescape").hex()
        text = f"pg_catalog.convert_from(pg_catalog.decode('{data}', 'hex'), pg_catalog.getdatabaseencoding())"
    return f"pg_catalog.set_config({name_literal(name)}, {text}, {local})"


def name_literal(name: str) -> str:
    """The SQL of a setting's name, whatever the client's encoding is."""
    if name.isascii():
        return quote_literal(name)
    data = name.encode(errors="surrogateescape").hex()
    return f"pg_catalog.convert_from(pg_catalog.decode('{data}', 'hex'), 'UTF8')"


def encoded(value: str) -> str:
    """The SQL of ``value`` as bytes of the database's encoding in hexadecimal digits."""
    return f"pg_catalog.encode(pg_catalog.convert_to({value}, pg_catalog.getdatabaseencoding()), 'hex')"


def current_setting(name: str) -> str:
    """The SQL of a parameter's value, so encoded, or NULL."""
    return encoded(f"pg_catalog.current_setting({name_literal(name)}, true)")
