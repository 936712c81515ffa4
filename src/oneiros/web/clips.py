"""Films of what was played, for download."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_KINDS = {"mp4": "video/mp4", "gif": "image/gif"}
_AT_ONCE = 2  # in all; each keeps a core busy

Film = tuple[np.ndarray, float]  # uint8 (F, H, W, 3), and frames a second


class ClipDownloads:
    """Answers GET .../{session}.{ending}: one at a time for a session, a few in all, each made in a thread of its own.

    A film lives as long as its request: when the client has gone or the server stops, it is given up at its next frame.

    played: for the name of a session, what makes its frames; None where there is no such session. Awaiting raises
    ValueError where nothing was played. headers: of every film.
    """

    def __init__(self, played: Callable[[str], Awaitable[Film] | None], headers: Mapping[str, str]) -> None:
        self._played, self._headers = played, headers
        self._busy: set[str] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        session, ending = request.path_params["session"], request.path_params["ending"]
        if session in self._busy:
            await Response("a film of this session is being made; one at a time", 409)(scope, receive, send)
            return
        self._busy.add(session)
        try:
            response = await self._film(request, session, ending)
            await response(scope, receive, send)
        finally:
            self._busy.discard(session)

    async def _film(self, request: Request, session: str, ending: str) -> Response:
        if ending not in _KINDS:
            return Response("clips are .mp4 or .gif", 404)
        async with self._slots:
            played = self._played(session)
            if played is None:
                return Response("no such session", 404)
            try:
                content = await _encoded(request, await played, ending)
            except (ValueError, OSError) as error:
                return Response(str(error), 409)
        disposition = {"Content-Disposition": f'attachment; filename="oneiros.{ending}"'}
        return Response(content, media_type=_KINDS[ending], headers={**self._headers, **disposition})


class _GivenUpError(Exception):
    """Nobody waits for the film any more."""


async def _encoded(request: Request, film: Film, ending: str) -> bytes:
    """The file; empty where the client has gone."""
    from oneiros.data.pictures import encode, enlarge

    (frames, fps), gone = film, threading.Event()

    def wanted() -> Iterator[np.ndarray]:
        for frame in frames:
            if gone.is_set():
                raise _GivenUpError
            yield enlarge(frame)

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()

    watching = asyncio.create_task(watch())
    try:
        return await asyncio.to_thread(encode, wanted(), f".{ending}", fps=fps)
    except _GivenUpError:
        return b""
    finally:
        gone.set()
        watching.cancel()
