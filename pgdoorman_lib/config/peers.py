"""The keys of [peers.ID]: the other poolers behind the same address."""

from __future__ import annotations

import dataclasses

from pgdoorman_lib.config.general import U16
from pgdoorman_lib.config.keys import REQUIRED, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """[peers.ID]: another pooler behind the same address, by its peer_id; see docs/operations.md. Not in pg_doorman.

    Cancel requests for its clients that arrive here go on to it. All poolers may have the same list, themselves in it.
    """

    host: str = setting(
        "text",
        REQUIRED,
        "Name or address where it can be reached itself, or the directory of its unix socket.",
        reload="live",
        ours=True,
    )
    port: int = setting(
        "integer", 5432, "Its port, also in the unix socket's name.", reload="live", minimum=1, maximum=U16, ours=True
    )
    pool_size: int = setting(
        "integer", 20, "Requests on their way to it at one time; more wait.", reload="live", minimum=1, ours=True
    )
    proxy_protocol: bool = setting(
        "boolean",
        False,
        "Begin with a PROXY protocol header that names no client: for one whose proxy_protocol has our address.",
        reload="live",
        ours=True,
    )
