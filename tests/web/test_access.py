"""Strangers in the network: who has not got the printed address, who says nothing, who says what nobody should."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import socket
import time
from contextlib import suppress

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
websockets = pytest.importorskip("websockets")

from websockets.asyncio.client import connect  # noqa: E402
from websockets.exceptions import InvalidStatus  # noqa: E402

from oneiros.web.access import Access  # noqa: E402
from tests.web.test_server import Running, client, running  # noqa: E402


@pytest.fixture
def house(tmp_path):
    with running(tmp_path) as house:
        yield house.ready()


@pytest.fixture
def access():
    return Access("0.0.0.0")


@pytest.fixture
def open_house(tmp_path, access):
    """As with --host 0.0.0.0."""
    with running(tmp_path, access=access) as house:
        house.until(lambda: house.state.choices.opened(None).game)
        yield house


def raw(house: Running, sent: bytes) -> bytes:
    """What the server says to these bytes, until it closes."""
    with socket.create_connection(("127.0.0.1", house.port), timeout=20) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def ends(connection: socket.socket) -> bool:
    """Wait for the server to end the connection."""
    with suppress(ConnectionResetError):
        while connection.recv(65536):
            pass
    return True


def status(house: Running, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=20)
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status


class TestToken:
    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "192.168.1.7"])
    def test_nobody_gets_in_without_it(self, open_house, host):
        for path in ("/", "/static/main.js", "/api/info", "/api/starts/0.png", "/api/clip/name.gif", "/nothing"):
            for wrong in ("", "?token=", "?token=guess", "?token=%C3%A9"):
                assert status(open_house, path + wrong, Host=host) == 403
            assert status(open_house, path, Host=host, Cookie=f"oneiros-{open_house.port}=guess") == 403

        async def play():
            with pytest.raises(InvalidStatus) as refused:
                await connect(open_house.ws, origin=open_house.url)
            assert refused.value.response.status_code == 403

        asyncio.run(play())
        assert not open_house.state.players

    def test_the_printed_address_opens_the_page_and_what_it_needs(self, open_house, access):
        connection = http.client.HTTPConnection("127.0.0.1", open_house.port, timeout=20)
        connection.request("GET", f"/{access.query}")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["location"]) == (303, "/")  # and is no longer in the address
        cookie, *rules = answer.headers["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=lax"} <= set(rules)
        for path in ("/", "/static/main.js", "/api/info", "/api/starts/0.png"):
            assert status(open_house, path, Cookie=cookie) == 200

        async def play():
            options = {"origin": open_house.url, "additional_headers": {"Cookie": cookie}}
            async with client(open_house, **options) as player:
                assert isinstance(await player.ask(do="reset"), bytes)

        asyncio.run(play())

    def test_programs_may_say_it_in_the_address(self, open_house, access):
        assert status(open_house, f"/api/info{access.query}") == 200

        async def play():
            async with connect(f"{open_house.ws}{access.query}") as connection:
                assert json.loads(await asyncio.wait_for(connection.recv(), 20))["ok"]

        asyncio.run(play())

    def test_a_page_from_elsewhere_gains_nothing_by_the_cookie(self, open_house, access):
        async def play():
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"{open_house.ws}{access.query}", origin="http://127.0.0.1:1")
            assert refused.value.response.status_code == 403

        asyncio.run(play())

    def test_each_start_has_its_own_and_loopback_none(self, access):
        assert len(access.token) >= 20
        assert access.token != Access("0.0.0.0").token
        for host in ("192.168.1.7", "::", "example.org"):
            assert Access(host).token
        for host in ("127.0.0.1", "localhost", "::1", "127.3.2.1"):
            assert Access(host).token is None
            assert Access(host).query == ""


class TestSilence:
    def test_who_says_nothing_goes_and_locks_nobody_out(self, tmp_path):
        with running(tmp_path, from_one=20, patience=0.5) as house:
            house.ready()
            began = time.monotonic()
            silent = [socket.create_connection(("127.0.0.1", house.port)) for _ in range(60)]
            slow = silent[0]
            while time.monotonic() < began + 5:  # one byte at a time is silence too
                try:
                    slow.send(b"G")
                    time.sleep(0.05)
                except OSError:
                    break
            assert time.monotonic() < began + 2
            for connection in silent[1:]:
                connection.settimeout(5)
                assert ends(connection)
                connection.close()
            assert house.get("/")[0] == 200

    def test_one_address_has_so_many_and_others_have_room(self, tmp_path):
        with running(tmp_path, from_one=5, from_all=7, patience=20) as house:
            house.ready()
            time.sleep(0.1)

            def connected(address: str) -> bool:
                connection = socket.create_connection(("127.0.0.1", house.port), source_address=(address, 0))
                kept.append(connection)
                connection.settimeout(0.3)
                try:
                    return connection.recv(1) != b""
                except TimeoutError:
                    return True
                except ConnectionResetError:
                    return False

            kept: list[socket.socket] = []
            assert [connected("127.0.0.2") for _ in range(6)] == [True] * 5 + [False]
            assert house.get("/", Connection="close")[0] == 200
            assert [connected("127.0.0.3") for _ in range(3)] == [True, True, False]
            for connection in kept:
                connection.close()
            house.until(lambda: connected("127.0.0.1"))

    def test_a_kept_connection_that_falls_silent_in_the_middle_goes(self, tmp_path):
        with running(tmp_path, patience=0.5) as house:
            house.ready()
            with socket.create_connection(("127.0.0.1", house.port), timeout=5) as connection:
                connection.sendall(b"GET /api/info HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
                connection.sendall(b"GET /api/in")
                assert ends(connection)

    def test_a_player_is_not_silent(self, tmp_path):
        async def play(house):
            async with client(house) as player:
                await player.ask(do="reset")
                await asyncio.sleep(1.0)
                assert isinstance(await player.step(), bytes)

        with running(tmp_path, patience=0.3, answering=0.3) as house:
            asyncio.run(play(house.ready()))


class TestNonsense:
    @pytest.fixture(autouse=True)
    def nothing_in_the_log(self, capfd, caplog):
        yield
        assert capfd.readouterr().err == ""
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

    @pytest.mark.parametrize("host", [b"[::1", b"[", b"[evil]", b"\xff\xfe", b"127.0.0.1@evil.example", b""])
    @pytest.mark.parametrize("path", [b"/", b"/api/info", b"/ws"])
    def test_hosts_that_are_none(self, house, host, path):
        answer = raw(house, b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
        assert answer.split()[1] in (b"403", b"400")

    @pytest.mark.parametrize("origin", ["http://[::1", "[", "http://\xff"])
    def test_origins_that_are_none(self, house, origin):
        async def play():
            with pytest.raises(InvalidStatus) as refused:
                await connect(house.ws, additional_headers={"Origin": origin})
            assert refused.value.response.status_code == 403

        asyncio.run(play())

    @pytest.mark.parametrize("number", ["9" * 5000, "-1", "1.5", "%D9%A1", "0x1", "00"])
    def test_starts_that_are_none(self, house, number):
        assert house.get(f"/api/starts/{number}.png")[0] == 404

    def test_addresses_that_are_no_text(self, house):
        request = b"GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        assert raw(house, request % b"\xff\xfe").split()[1] == b"400"
        assert raw(house, request % b"%FF%FE").split()[1] == b"404"

    def test_text_that_is_none(self, house):
        async def play():
            async with client(house) as player:
                await player.connection.send(b'{"id": 1, "do": "\xff\xfe"}', text=True)
                await asyncio.wait_for(player.connection.wait_closed(), 20)
                assert player.connection.close_code in (1007, 1006)

        asyncio.run(play())
        house.until(lambda: not house.state.players)

    def test_10_000_bad_requests_leave_no_line(self, house):
        with socket.create_connection(("127.0.0.1", house.port)) as connection:
            connection.sendall(os.urandom(10_000))
        assert house.get("/")[0] == 200

    @pytest.mark.parametrize("number", [10**400, -(10**400), 10**308, "NaN", "1e999"])
    def test_actions_that_are_no_numbers(self, house, number):
        async def play():
            async with client(house) as player:
                await player.ask(do="reset", start=0)
                player.id += 1
                action = f"[{number}, 0, 0, 0]"
                await player.connection.send(f'{{"id": {player.id}, "do": "step", "action": {action}}}')
                error = (await player.answer(player.id))["error"]
                assert "does not fit" in error
                assert len(error) < 250
                assert isinstance(await player.step(), bytes)

        asyncio.run(play())
