"""The parameters of a console session: what drivers ask about the server, and what they set for themselves."""

from __future__ import annotations

#: Parameters a client may set for itself and is told of by ParameterStatus, as PostgreSQL spells them.
REPORTED_PARAMETERS = (
    "application_name",
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "standard_conforming_strings",
)

#: All a client may set for itself without effect on anybody else: lower case to PostgreSQL's spelling.
CLIENT_PARAMETERS = {name.lower(): name for name in REPORTED_PARAMETERS} | {
    name: name
    for name in (
        "bytea_output",
        "client_min_messages",
        "default_transaction_deferrable",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "extra_float_digits",
        "idle_in_transaction_session_timeout",
        "jit",
        "lc_messages",
        "lc_monetary",
        "lc_numeric",
        "lc_time",
        "lock_timeout",
        "row_security",
        "search_path",
        "statement_timeout",
        "synchronous_commit",
        "transaction_deferrable",
        "transaction_isolation",
        "transaction_read_only",
    )
}

#: SHOW of what a driver asks about the server, beside what the welcome said.
SERVER_SETTINGS = {
    "transaction_isolation": "read committed",
    "default_transaction_isolation": "read committed",
    "transaction_read_only": "off",
    "default_transaction_read_only": "off",
    "search_path": "",
    "max_identifier_length": "63",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "is_superuser": "off",
}
