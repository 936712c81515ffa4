"""The player's server: one port, the page and its files, and a WebSocket for each player.

The page is served at once, while the world is still being loaded in a thread. Requests are answered one at a time, and
the page asks for the next frame when it has drawn the last, so nothing can pile up on a slow line.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import mimetypes
import resource
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from oneiros import __version__
from oneiros.web import messages
from oneiros.web.access import Access, Guarded
from oneiros.web.choices import Choice, Choices, OpenedGame
from oneiros.web.clips import ClipDownloads, Film
from oneiros.web.connections import Connection, Crowd, is_news
from oneiros.web.session import Session

_REASON_BYTES = 123  # what a WebSocket's goodbye has room for
_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
    ),
}


@dataclass(frozen=True)
class Limits:
    """sessions: players at once. idle_seconds: how long a player may say nothing.

    from_one, from_all: connections of one address and of all together. patience: seconds for a request to arrive.
    answering: for its answer to be made and fetched.
    """

    sessions: int = 8
    idle_seconds: float = 600.0
    from_one: int = 64
    from_all: int = 400
    patience: float = 10.0
    answering: float = 300.0


@dataclass
class Player:
    """One connected page."""

    session: Session | None = None
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "player"))

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.thread, work, *arguments)


class ServerState:
    """What can be played, and those who play."""

    def __init__(self, choices: Mapping[str, Choice], *, record_to: Path, limits: Limits) -> None:
        self.choices, self.limits = Choices(choices, record_to=record_to), limits
        self.players: dict[str, Player] = {}

    def close(self) -> None:
        """Let go of what is played; players are gone by now."""
        for player in list(self.players.values()):
            player.thread.shutdown()  # waits for what it is doing
        self.choices.close()


class _Pages:
    """What is served by HTTP: the page, its files, and what it fetches of the game."""

    def __init__(self, state: ServerState) -> None:
        self._state, self._static = state, _static_files()

    async def page(self, request: Request) -> Response:
        return self._file(request, "index.html")

    async def file(self, request: Request) -> Response:
        return self._file(request, request.path_params["name"])

    def _file(self, request: Request, name: str) -> Response:
        if name not in self._static:
            return Response("no such file", 404)
        content, kind = self._static[name]
        return Response(content, media_type=kind, headers=_HEADERS)

    async def info(self, request: Request) -> Response:
        """Of the game that is asked for; where none is and there are several, their names and titles."""
        choices, opened = self._state.choices, self._opened(request)
        game, error = (opened.game, opened.error) if opened else (None, None)
        about: dict[str, Any] = {"ready": game is not None, "error": error, "version": __version__}
        if len(choices.by_name) > 1:
            about["worlds"] = [{"name": name, "title": choice.title} for name, choice in choices.by_name.items()]
        if opened is None and "world" in request.query_params:
            about["error"] = f"there is no world {request.query_params['world']!r} here"
        return JSONResponse({**about, **(game.info() if game else {})}, headers=_HEADERS)

    async def start(self, request: Request) -> Response:
        """The picture of a start."""
        opened, index = self._opened(request), request.path_params["index"]
        pictures = opened.game.pictures if opened and opened.game else []
        if index not in map(str, range(len(pictures))):
            return Response("no such start", 404)
        return _picture(pictures[int(index)])

    async def world(self, request: Request) -> Response:
        """The picture of a choice."""
        choice = self._state.choices.by_name.get(request.path_params["name"])
        if choice is None or choice.picture is None:
            return Response("no such world", 404)
        return _picture(choice.picture)

    def _opened(self, request: Request) -> OpenedGame | None:
        return self._state.choices.opened(request.query_params.get("world"))

    def played(self, session: str) -> Awaitable[Film] | None:
        """What a session has played, to be made a film of; None where there is no such session."""
        player = self._state.players.get(session)
        if player is None or player.session is None:
            return None
        return player.run(player.session.frames)


def _picture(pixels: np.ndarray) -> Response:
    from oneiros.data.pictures import png

    return Response(png(Image.fromarray(pixels)), media_type="image/png", headers=_HEADERS)


def make_app(state: ServerState, access: Access) -> ASGIApp:
    pages = _Pages(state)

    async def play(websocket: WebSocket) -> None:
        await _play(websocket, state)

    app = Starlette(
        routes=[
            Route("/", pages.page),
            Route("/static/{name}", pages.file),
            Route("/api/info", pages.info),
            Route("/api/starts/{index}.png", pages.start),
            Route("/api/worlds/{name}.png", pages.world),
            Route("/api/clip/{session}.{ending}", ClipDownloads(pages.played, _HEADERS)),
            WebSocketRoute("/ws", play),
        ]
    )
    return Guarded(app, access)


async def _play(websocket: WebSocket, state: ServerState) -> None:
    """One player, from greeting to goodbye."""
    await websocket.accept()
    limit = state.limits.sessions
    if len(state.players) >= limit:
        reason = f"{limit} players are here already, which is all this machine is set to; try again when one has left"
        await websocket.close(messages.FULL, reason)
        return
    name, player = secrets.token_urlsafe(9), Player()
    state.players[name] = player
    code, reason = 1000, ""
    try:
        code, reason = await _serve(websocket, state, player, name)
    except WebSocketDisconnect:
        pass
    finally:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close(code, reason.encode()[:_REASON_BYTES].decode(errors="ignore"))
        await asyncio.shield(_leave(state, name))


async def _leave(state: ServerState, name: str) -> None:
    """Save what is being recorded, and make room. A server that stops waits for it (`ServerState.close`)."""
    player = state.players[name]
    try:
        if player.session is not None:
            await player.run(_close, player.session)
    finally:
        state.players.pop(name, None)
        player.thread.shutdown(wait=False)


def _close(session: Session) -> None:
    try:
        session.close()
    except (ValueError, OSError) as error:  # a full disk
        print(f"oneiros: what was recorded last is not saved: {error}", file=sys.stderr, flush=True)


async def _serve(websocket: WebSocket, state: ServerState, player: Player, name: str) -> tuple[int, str]:
    """Answer requests in order until the player is gone. Returns why the socket is to be closed."""
    opened = state.choices.opened(websocket.query_params.get("world"))
    if opened is None:
        return messages.FAILED, "there are several worlds here: ask for /ws?world=NAME with a name of /api/info"
    if not await opened.loaded():
        return messages.FAILED, opened.error or "the world could not be loaded"
    try:
        player.session = await player.run(opened.new_session)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return messages.FAILED, str(error)
    await websocket.send_text(messages.done(0, session=name))
    waiting: asyncio.Queue[messages.Request] = asyncio.Queue(messages.MAX_WAITING)
    answering = asyncio.create_task(_answer(websocket, player, waiting))
    listening = asyncio.create_task(_listen(websocket, waiting, state.limits.idle_seconds))
    try:
        await asyncio.wait((answering, listening), return_when=asyncio.FIRST_COMPLETED)
        return listening.result() if listening.done() else answering.result()
    finally:
        for task in (answering, listening):
            task.cancel()
        await asyncio.gather(answering, listening, return_exceptions=True)


async def _listen(websocket: WebSocket, waiting: asyncio.Queue[messages.Request], idle: float) -> tuple[int, str]:
    """Take requests in. Ends when the player has gone, says nothing for long, or says what no page would."""
    last = 0
    while True:
        try:
            message = await asyncio.wait_for(websocket.receive(), idle)
        except TimeoutError:
            return messages.IDLE, f"nothing was played for {idle:g} seconds; reload the page to go on"
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text = message.get("text")
        try:
            if text is None:
                raise messages.MalformedError("a message must be text")
            request = messages.parse(text)
            if request.id <= last:
                raise messages.MalformedError(f"id {request.id} came after {last}; ids must rise")
            waiting.put_nowait(request)
        except messages.MalformedError as error:
            return messages.MALFORMED, str(error)
        except asyncio.QueueFull:
            return messages.FLOOD, f"more than {messages.MAX_WAITING} requests came before their answers"
        last = request.id


async def _answer(websocket: WebSocket, player: Player, waiting: asyncio.Queue[messages.Request]) -> tuple[int, str]:
    assert player.session is not None
    while True:
        request = await waiting.get()
        answer = await player.run(player.session.answer, request)
        if isinstance(answer, bytes):
            await websocket.send_bytes(answer)
        else:
            await websocket.send_text(answer)


def serve(
    choices: Mapping[str, Choice],
    *,
    record_to: Path,
    host: str = "127.0.0.1",
    port: int = 7700,
    limits: Limits = Limits(),
    opened: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until Ctrl-C. Raises OSError where the port is in use or the address is not this machine's.

    choices: what can be played, by name; of several, the page shows tiles. opened: called with the address as soon as
    the page can be fetched.
    """
    listener, access = _bind(host, port), Access(host)
    state = ServerState(choices, record_to=record_to, limits=limits)
    try:
        opened(f"http://{_shown(host)}:{listener.getsockname()[1]}/{access.query}")
        make_server(state, access).run(sockets=[listener])
    finally:
        state.close()
        listener.close()


def make_server(state: ServerState, access: Access) -> uvicorn.Server:
    """The server of the application, as careful with its clients as it has to be."""
    limits = state.limits
    crowd = Crowd(limits.from_one, _all_connections(limits.from_all), limits.patience, limits.answering)
    config = uvicorn.Config(
        make_app(state, access),
        http=partial(Connection, crowd=crowd),  # type: ignore[arg-type]
        ws="websockets-sansio",
        ws_max_size=messages.MAX_REQUEST_BYTES,
        ws_per_message_deflate=False,  # frames of noise and texture hardly shrink, and it takes milliseconds
        lifespan="off",
        log_level="error",  # what clients do wrong is only a warning, and they could fill a disk with them
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    logging.getLogger("uvicorn.error").addFilter(is_news)
    return uvicorn.Server(config)


def _all_connections(wanted: int) -> int:
    """As many as are wanted, if half of the files this process may open suffice for them."""
    return min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


def _bind(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise ValueError(f"port {port} does not exist; choose 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "is in use by another program" if taken else f"cannot be used ({error.strerror or error})"
        raise OSError(
            f"port {port} of {host} {reason}; choose another with --port, or 0 for any that is free"
        ) from None
    return listener


def _shown(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)


def _static_files() -> dict[str, tuple[bytes, str]]:
    """The page's files by name, with their kinds. Nothing else is ever served."""
    folder = resources.files("oneiros.web") / "static"
    return {
        entry.name: (entry.read_bytes(), mimetypes.guess_type(entry.name)[0] or "application/octet-stream")
        for entry in folder.iterdir()
        if entry.is_file()
    }
