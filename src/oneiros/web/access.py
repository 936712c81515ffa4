"""Who may play: on this machine everyone who calls it by its own names, from elsewhere who has the printed address."""

from __future__ import annotations

import ipaddress
import secrets
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

_OUR_NAMES = "this player answers to its own machine only"
_OUR_ADDRESS = "this player answers to the address that it printed, with the token in it"


class Access:
    """host: the address that is served. token: None where only this machine can reach it.

    A page on the internet can make its own name lead here (DNS rebinding), but then the browser sends that name, and
    no token: cookies belong to the name they came from.
    """

    def __init__(self, host: str) -> None:
        self.token = None if _is_loopback(host) else secrets.token_urlsafe(16)

    @property
    def query(self) -> str:
        """What follows the path in the address of the page."""
        return "" if self.token is None else f"?token={self.token}"

    def refusal(self, connection: HTTPConnection) -> str | None:
        """Why the connection is not welcome, None where it is."""
        if self.token is None:
            return None if _is_loopback(_name(connection)) else _OUR_NAMES
        found = (connection.query_params.get("token"), connection.cookies.get(self.cookie(connection)))
        known = any(secrets.compare_digest((token or "").encode(), self.token.encode()) for token in found)
        return None if known else _OUR_ADDRESS

    def cookie(self, connection: HTTPConnection) -> str:
        """The name of the cookie; those of a machine are shared by all of its ports."""
        return f"oneiros-{(connection.scope.get('server') or ('', 0))[1]}"


class Guarded:
    """An application that only sees who is welcome."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        refusal = self._access.refusal(connection)
        if scope["type"] == "websocket":
            if refusal or not _same_origin(connection):
                await WebSocket(scope, receive, send).close()  # before it is accepted: the browser sees 403
                return
        elif refusal:
            await Response(refusal, 403)(scope, receive, send)
            return
        elif scope["path"] == "/" and "token" in connection.query_params and self._access.token:
            await self._remember(connection)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _remember(self, connection: HTTPConnection) -> Response:
        """The page, with the token in a cookie instead of the address, which people copy and browsers keep."""
        answer = RedirectResponse("/", 303)
        name, token = self._access.cookie(connection), self._access.token or ""
        answer.set_cookie(name, token, httponly=True, samesite="lax")
        return answer


def _name(connection: HTTPConnection) -> str:
    """The name by which the client calls this machine; empty where it is none."""
    try:
        return urlsplit(f"//{connection.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _same_origin(connection: HTTPConnection) -> bool:
    origin = connection.headers.get("origin")
    return origin is None or origin.partition("://")[2] == connection.headers.get("host")
