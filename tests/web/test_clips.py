"""Films for download: one at a time for a session, few in all, and none for somebody who has gone."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

import numpy as np

from oneiros.data import pictures
from tests.web.test_server import Running, client, running


class Slow:
    """Films that take 20 ms a frame, and what is known of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.making, self.most, self.frames, self.lock = 0, 0, 0, threading.Lock()
        monkeypatch.setattr(pictures, "encode", self.encode)

    def encode(self, frames, ending, *, fps):
        with self.lock:
            self.making += 1
            self.most = max(self.most, self.making)
        try:
            for _ in frames:
                self.frames += 1
                time.sleep(0.02)
        finally:
            self.making -= 1
        return b"a film"


@pytest.fixture
def slow(monkeypatch):
    return Slow(monkeypatch)


def ask(house: Running, session: str) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=20)
    connection.request("GET", f"/api/clip/{session}.gif")
    return connection


async def played(player, house: Running, frames: int) -> None:
    await player.ask(do="reset", start=0)
    session = house.state.players[player.session].session
    shown = np.zeros((frames, 32, 32, 3), np.uint8)
    session.frames = lambda: (shown, 10.0)  # type: ignore[union-attr, method-assign]


def test_one_at_a_time_for_a_session_and_two_in_all(tmp_path, slow):
    async def play(house):
        async with client(house) as a, client(house) as b, client(house) as c:
            for player in (a, b, c):
                await played(player, house, 20)
            asked = [await asyncio.to_thread(ask, house, player.session) for player in (a, b, c)]
            await asyncio.to_thread(house.until, lambda: slow.making)
            again = await asyncio.to_thread(lambda: ask(house, a.session).getresponse())
            assert (again.status, again.read()) == (409, b"a film of this session is being made; one at a time")
            for connection in asked:
                answer = await asyncio.to_thread(connection.getresponse)
                assert (answer.status, answer.read()) == (200, b"a film")
            later = await asyncio.to_thread(lambda: ask(house, a.session).getresponse())
            assert later.status == 200

    with running(tmp_path) as house:
        asyncio.run(play(house.ready()))
    assert slow.most == 2


def test_what_nobody_waits_for_is_given_up(tmp_path, slow):
    """300 requests that are dropped cost nothing, and nobody else waits for them."""

    async def play(house):
        async with client(house) as player, client(house) as other:
            await played(player, house, 10_000)
            await played(other, house, 3)
            for _ in range(300):
                await asyncio.to_thread(lambda: ask(house, player.session).close())
            await asyncio.to_thread(house.until, lambda: not slow.making)
            answer = await asyncio.to_thread(lambda: ask(house, other.session).getresponse())
            assert answer.status == 200
            for index in range(5):
                assert isinstance(await player.step(index), bytes)

    with running(tmp_path, from_one=1000, from_all=1000) as house:
        asyncio.run(play(house.ready()))
    assert slow.frames < 1000


def test_a_server_that_stops_gives_them_up(tmp_path):
    """With the real encoder: 2,000 frames of noise as a GIF take many seconds."""
    noise = np.random.default_rng(0).integers(0, 256, (2000, 128, 128, 3), np.uint8)
    asked = []

    async def play(house):
        async with client(house) as player:
            await player.ask(do="reset", start=0)
            session = house.state.players[player.session].session
            session.frames = lambda: (noise, 10.0)
            asked.append(ask(house, player.session))
            await asyncio.sleep(0.5)
            return time.monotonic()

    with running(tmp_path) as house:
        began = asyncio.run(play(house.ready()))
    assert time.monotonic() < began + 2
    with pytest.raises((http.client.HTTPException, OSError)):
        asked[0].getresponse()


def test_what_cannot_be_saved_is_said_in_one_line(tmp_path, capfd, monkeypatch):
    """A disk that is full when the player leaves."""

    async def play(house):
        async with client(house) as player:
            await player.ask(do="reset", start=0)
            await player.ask(do="record", on=True)
            await player.step()
            await player.step()

            def full(moments):
                raise OSError(28, "No space left on device", str(tmp_path / "played"))

            monkeypatch.setattr(house.state.choices.opened(None).recorder, "save", full)

    with running(tmp_path) as house:
        asyncio.run(play(house.ready()))
        house.until(lambda: not house.state.players)
    complaint = capfd.readouterr().err
    assert complaint.startswith("oneiros: what was recorded last is not saved: [Errno 28] No space left on device")
    assert complaint.count("\n") == 1
