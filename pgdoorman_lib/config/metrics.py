"""The keys of [statsd] and [web]: what is told about the pooler, and to whom."""

from __future__ import annotations

from pgdoorman_lib.config.general import NOT_YET, U16, U32
from pgdoorman_lib.config.keys import setting
from pgdoorman_lib.record import record

TAG_STYLES = ("none", "datadog", "influx", "graphite")


@record(frozen=True, kw_only=True)
class Statsd:
    """[statsd]: metrics sent to a statsd server by UDP; see docs/metrics.md. Not in pg_doorman."""

    host: str | None = setting(
        "text", None, "Name or address of the server.", reload="live", ours=True, unset="nothing is sent"
    )
    port: int = setting("integer", 8125, "Its UDP port.", reload="live", ours=True, minimum=1, maximum=U16)
    prefix: str = setting(
        "metric",
        "pgdoorman",
        "What every name begins with: letters, digits, - and _, in parts with dots between them.",
        reload="live",
        ours=True,
    )
    interval: float = setting(
        "duration", "10s", "Time from one sending to the next.", reload="live", ours=True, positive=True
    )
    tag_style: str = setting(
        "choice",
        "none",
        "How database and user are told: none = as parts of the name, the others as tags in the way that Datadog, "
        "Telegraf (influx) or Graphite write them.",
        reload="live",
        ours=True,
        choices=TAG_STYLES,
    )


@record(frozen=True, kw_only=True)
class Web:
    """[web], also written [prometheus]: metrics for Prometheus and tables as JSON, by HTTP; see docs/metrics.md."""

    enabled: bool = setting("boolean", False, "Listen for HTTP.", reload="restart")
    host: str = setting(
        "text",
        "127.0.0.1",
        "Address to listen on. pg_doorman's default is 0.0.0.0; whoever gets here reads the metrics.",
        reload="restart",
    )
    port: int = setting("integer", 9127, "Port to listen on.", reload="restart", maximum=U16)
    ui: bool = setting(
        "boolean", False, "Serve the pages too.", reload="live", support=NOT_YET, off=(False,), unmet="warned"
    )
    ui_anonymous: bool = setting("boolean", False, "Show them without login.", reload="live", support=NOT_YET)
    log_tap_max_entries: int = setting(
        "integer", 8192, "Log lines kept for the pages.", reload="live", support=NOT_YET, maximum=U32
    )
    sso_enabled: bool = setting(
        "boolean", False, "Accept tokens.", reload="live", support=NOT_YET, off=(False,), unmet="warned"
    )
    sso_proxy_url: str | None = setting(
        "text", None, "Where tokens are made.", reload="live", support=NOT_YET, unset="none"
    )
    sso_public_key_file: str | None = setting(
        "path", None, "Key they are signed with (PEM).", reload="live", support=NOT_YET, unset="none"
    )
    sso_audience: tuple[str, ...] = setting("strings", [], "Audiences accepted.", reload="live", support=NOT_YET)
    sso_allowed_users: tuple[str, ...] = setting("strings", ["*"], "Users accepted.", reload="live", support=NOT_YET)
    sso_groups_claim: str = setting("text", "groups", "Claim with the groups.", reload="live", support=NOT_YET)
    sso_admin_groups: tuple[str, ...] = setting(
        "strings", [], "Groups that administer.", reload="live", support=NOT_YET
    )
    sso_require_https: bool = setting("boolean", False, "Tokens only by HTTPS.", reload="live", support=NOT_YET)
    trusted_proxies: tuple[str, ...] = setting(
        "networks", [], "Proxies whose headers are believed.", reload="live", support=NOT_YET
    )
