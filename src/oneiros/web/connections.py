"""What a connection may cost before it has said anything sensible: few for an address, and not for long."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from dataclasses import dataclass, field
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState


@dataclass
class Crowd:
    """The open connections, WebSockets among them.

    from_one, in_all: how many there may be. patience: seconds for a request to arrive. answering: for its answer to be
    made and fetched.
    """

    from_one: int
    in_all: int
    patience: float
    answering: float
    _open: list[tuple[str, asyncio.Transport]] = field(default_factory=list)

    def admits(self, transport: asyncio.Transport) -> bool:
        """Count the connection, if there is room for it."""
        self._open = [(address, other) for address, other in self._open if not other.is_closing()]
        address = _neighbourhood(transport)
        if len(self._open) >= self.in_all or sum(address == other for other, _ in self._open) >= self.from_one:
            return False
        self._open.append((address, transport))
        return True


class Connection(H11Protocol):
    """HTTP/1.1 for one of the crowd. One that becomes a WebSocket leaves this protocol, and has limits of its own."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        crowd: Crowd,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._crowd = crowd
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._crowd.admits(transport):
            self._expect_within(self._crowd.patience)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except UnicodeDecodeError:  # h11 lets bytes pass that no address contains
            self.send_400_response("Invalid HTTP request received.")

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._expect_within(self._crowd.answering)

    def on_response_complete(self) -> None:
        self._expect_within(self._crowd.patience)
        super().on_response_complete()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._expect_within(None)
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_within(None)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """What is still being answered is given up: a film can take long."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()

    def _expect_within(self, seconds: float | None) -> None:
        """End the connection unless this is called again in time."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)


def is_news(record: logging.LogRecord) -> bool:
    """A filter for uvicorn's log: that a client sends invalid UTF-8 is nobody's news."""
    return not (record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError))


def _neighbourhood(transport: asyncio.Transport) -> str:
    """The client's address; for IPv6 its network, of whose addresses one client has as many as it likes."""
    address = ipaddress.ip_address(transport.get_extra_info("peername")[0])
    if address.version == 6 and address.ipv4_mapped is None:
        return address.packed[:8].hex()
    return str(address)
