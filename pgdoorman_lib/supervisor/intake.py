"""What comes from another process, the one before this one or another worker, and goes on here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgdoorman_lib.client.handover import Unwanted
from pgdoorman_lib.net.parcel import Parcel, Receiver, Refused
from pgdoorman_lib.supervisor.welcome import Welcome
from pgdoorman_lib.wire.handover import Book

if TYPE_CHECKING:
    from pgdoorman_lib.app import App


class Intake(Receiver):
    """Takes what one other process sends for ``app``: SERVER, CLIENT. ``book`` is as for ``Welcome``.

    A kind more is a method ``_prepare_KIND`` and one ``_take_KIND`` in a class derived from this, and ``_drop_KIND`` if
    there is something to be undone. They are called in the channel's greenlet, which must not wait.
    """

    def __init__(self, app: App, book: Callable[[], Book]) -> None:
        self._app = app
        self._welcome = welcome = Welcome(app, book)
        self._prepare_server, self._take_server = welcome.prepare_server, welcome.take_server
        self._prepare_client, self._take_client = welcome.prepare_client, welcome.take_client
        self._drop_server, self._drop_client = welcome.drop_server, welcome.drop_client

    def prepare(self, parcel: Parcel) -> None:
        try:
            getattr(self, f"_prepare_{parcel.kind}", super().prepare)(parcel)
        except (Unwanted, KeyError, TypeError, ValueError) as exc:
            raise Refused(str(exc) if isinstance(exc, Unwanted) else f"{type(exc).__name__}: {exc}") from exc

    def take(self, parcel: Parcel) -> None:
        getattr(self, f"_take_{parcel.kind}")(parcel)

    def drop(self, parcel: Parcel) -> None:
        getattr(self, f"_drop_{parcel.kind}", super().drop)(parcel)
