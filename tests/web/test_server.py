"""The server as a client meets it: a real socket, real WebSockets, and clients nobody would wish for."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
websockets = pytest.importorskip("websockets")

import numpy as np  # noqa: E402
from PIL import Image, ImageSequence  # noqa: E402
from websockets.asyncio.client import connect  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402

from oneiros.web import messages, server  # noqa: E402
from oneiros.web.access import Access  # noqa: E402
from oneiros.web.choices import Choice  # noqa: E402
from oneiros.web.server import Limits, ServerState, make_server, serve  # noqa: E402
from tests.dot_world import SIZE, DotWorld  # noqa: E402
from tests.web.games import dot_game  # noqa: E402

KEYS = [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]


class Running:
    def __init__(self, state: ServerState, port: int) -> None:
        self.state, self.port = state, port
        self.url, self.ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/ws"

    def get(self, path: str, **headers: str) -> tuple[int, bytes, dict]:
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read(), dict(error.headers)

    def info(self) -> dict:
        return json.loads(self.get("/api/info")[1])

    def until(self, done, seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, "it never happened"
            time.sleep(0.01)

    def ready(self) -> Running:
        self.until(lambda: self.info()["ready"])
        return self


@contextmanager
def running(tmp_path: Path, load=dot_game, *, access: Access | None = None, choices=None, **limits):
    listener = socket.create_server(("127.0.0.1", 0))
    state = ServerState(choices or {"": Choice("dot", load)}, record_to=tmp_path / "played", limits=Limits(**limits))
    running_server = make_server(state, access or Access("127.0.0.1"))
    thread = threading.Thread(target=running_server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Running(state, listener.getsockname()[1])
    finally:
        running_server.should_exit = True
        thread.join(15)
        state.close()
        assert not thread.is_alive()


@pytest.fixture
def house(tmp_path):
    with running(tmp_path) as house:
        yield house.ready()


class Client:
    def __init__(self, connection, session: str) -> None:
        self.connection, self.session, self.id = connection, session, 0

    async def ask(self, **request):
        self.id += 1
        await self.connection.send(json.dumps({"id": self.id, **request}))
        return await self.answer(self.id)

    async def answer(self, expected: int):
        answer = await asyncio.wait_for(self.connection.recv(), 20)
        number = messages.HEADER.unpack_from(answer)[6] if isinstance(answer, bytes) else json.loads(answer)["id"]
        assert number == expected
        return answer if isinstance(answer, bytes) else json.loads(answer)

    async def step(self, index: int = 0, **flags):
        return await self.ask(do="step", action=KEYS[index % 4], **flags)


@asynccontextmanager
async def client(house: Running, **options):
    async with connect(house.ws, compression=None, **options) as connection:
        greeting = json.loads(await asyncio.wait_for(connection.recv(), 20))
        assert (greeting["id"], greeting["ok"]) == (0, True)
        yield Client(connection, greeting["session"])


def picture(answer: bytes) -> np.ndarray:
    return np.frombuffer(answer, np.uint8, SIZE * SIZE * 3, 28).reshape(SIZE, SIZE, 3)


async def closing(connection) -> tuple[int, str]:
    """The code and reason with which the server says goodbye."""
    with suppress(ConnectionClosed):
        async for _ in connection:
            pass
    return connection.close_code, connection.close_reason


def test_several_worlds_are_named_and_loaded_when_they_are_asked_for(tmp_path):
    loaded, pictures = [], {name: np.full((4, 6, 3), tone, np.uint8) for name, tone in (("one", 10), ("other", 90))}

    def load(name: str):
        loaded.append(name)
        return dot_game()

    choices = {name: Choice(f"the {name}", partial(load, name), picture) for name, picture in pictures.items()}

    async def play(house):
        async with connect(house.ws + "?world=other", compression=None) as connection:
            greeting = json.loads(await asyncio.wait_for(connection.recv(), 20))
            player = Client(connection, greeting["session"])
            assert picture(await player.ask(do="reset", start=0, seed=1)).any()
            answer = await player.ask(do="record", on=True)
            assert answer["path"].endswith("played-other")
        for ending in ("", "?world=neither"):
            async with connect(house.ws + ending) as connection:
                assert (await closing(connection))[0] == messages.FAILED

    with running(tmp_path, choices=choices) as house:
        info = house.info()
        assert not info["ready"]
        assert info["worlds"] == [{"name": "one", "title": "the one"}, {"name": "other", "title": "the other"}]
        assert loaded == []
        house.until(lambda: json.loads(house.get("/api/info?world=other")[1])["ready"])
        assert loaded == ["other"]
        assert json.loads(house.get("/api/info?world=neither")[1])["error"] == "there is no world 'neither' here"
        shown = np.asarray(Image.open(io.BytesIO(house.get("/api/worlds/other.png")[1])))
        assert np.array_equal(shown, pictures["other"])
        assert house.get("/api/worlds/neither.png")[0] == 404
        assert house.get("/api/starts/0.png?world=other")[0] == 200
        assert house.get("/api/starts/0.png")[0] == 404
        asyncio.run(play(house))
        assert loaded == ["other"]


def test_500_frames_each_answered_once_and_in_order(house):
    async def play():
        async with client(house) as player:
            shown = picture(await player.ask(do="reset", start=0, seed=1))
            for number in range(500):
                answer = await player.step(number)
                move = np.array(KEYS[number % 4]) @ [(0, -1), (0, 1), (-1, 0), (1, 0)]
                shown = np.roll(shown, move, (0, 1))
                np.testing.assert_array_equal(picture(answer), shown)
                assert messages.HEADER.unpack_from(answer)[7] == number + 1

    asyncio.run(play())


def test_a_slow_client_finds_no_queue(house):
    """What it is sent after a long silence is the answer to its newest request, made after that was asked."""

    async def play():
        async with client(house) as player, client(house) as other:
            await player.ask(do="reset", start=0, seed=1)
            await other.ask(do="reset", start=1, seed=1)
            for number in range(5):
                asked = asyncio.create_task(player.step(number))
                await asyncio.sleep(0.15)
                for index in range(10):  # nobody waits for the slow one
                    began = time.monotonic()
                    await other.step(index)
                    assert time.monotonic() - began < 2.0
                assert messages.HEADER.unpack_from(await asked)[7] == number + 1
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(player.connection.recv(), 0.2)

    asyncio.run(play())


def test_a_client_that_reads_nothing_makes_the_server_hold_little(tmp_path):
    """Its requests wait, its answers fill no memory: at most one is made before it reads."""
    big = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
    with running(tmp_path) as house:
        house.ready()
        made = []

        async def play():
            async with client(house, max_queue=1, max_size=None) as player:
                session = house.state.players[player.session].session
                assert session is not None
                session.answer = lambda request: made.append(request.id) or big.tobytes()  # type: ignore[method-assign]
                player.connection.transport.pause_reading()
                for number in range(1, 7):
                    await player.connection.send(json.dumps({"id": number, "do": "step", "action": KEYS[0]}))
                await asyncio.sleep(1.0)
                assert len(made) <= 2
                player.connection.transport.resume_reading()
                for _ in range(6):
                    assert len(await asyncio.wait_for(player.connection.recv(), 20)) == big.size

        asyncio.run(play())
        assert made == [1, 2, 3, 4, 5, 6]


def test_two_players_at_once_do_not_disturb_each_other(house):
    async def alone(seed: int) -> list[bytes]:
        async with client(house) as player:
            return await dream(player, seed)

    async def dream(player: Client, seed: int) -> list[bytes]:
        await player.ask(do="reset", start=seed, seed=seed)
        await player.ask(do="sampling", temperature=0.9 if seed else 0.0)
        return [picture(await player.step(index)).tobytes() for index in range(60)]

    async def together() -> list[list[bytes]]:
        async with client(house) as first, client(house) as second:
            return list(await asyncio.gather(dream(first, 0), dream(second, 2)))

    apart = [asyncio.run(alone(0)), asyncio.run(alone(2))]
    assert asyncio.run(together()) == apart


def test_turns_are_shared_fairly(tmp_path):
    """Three players, a model that takes 20 ms: none waits longer than the others take together."""

    class Slow(DotWorld):
        def step(self, *arguments, **options):
            time.sleep(0.02)
            return super().step(*arguments, **options)

    async def play(house):
        async with client(house) as a, client(house) as b, client(house) as c:
            players, counts = (a, b, c), [0, 0, 0]
            for player in players:
                await player.ask(do="reset", start=0, seed=1)
            end = time.monotonic() + 1.5

            async def greedy(index: int) -> None:
                while time.monotonic() < end:
                    await players[index].step()
                    counts[index] += 1

            await asyncio.gather(*(greedy(index) for index in range(3)))
            return counts

    with running(tmp_path, lambda: dot_game(world=Slow("keys"))) as house:
        counts = asyncio.run(play(house.ready()))
    assert max(counts) - min(counts) <= 2
    assert min(counts) >= 5


class TestStrangers:
    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost"])
    def test_pages_from_elsewhere_are_refused(self, house, origin):
        async def play():
            with pytest.raises(InvalidStatus) as refused:
                async with connect(house.ws, origin=origin):
                    pass
            assert refused.value.response.status_code == 403

        asyncio.run(play())
        assert not house.state.players

    def test_the_own_page_is_welcome(self, house):
        async def play():
            async with client(house, origin=house.url) as player:
                assert isinstance(await player.ask(do="reset", start=0), bytes)

        asyncio.run(play())

    def test_a_foreign_name_that_leads_here_is_refused(self, house):
        for path in ("/", "/static/protocol.js", "/api/info", "/api/starts/0.png", "/api/clip/name.gif"):
            assert house.get(path, Host="evil.example")[0] == 403
        assert house.get("/", Host=f"localhost:{house.port}")[0] == 200

        async def play():
            with pytest.raises(InvalidStatus) as refused:
                await connect(
                    f"ws://evil.example:{house.port}/ws", host="127.0.0.1", origin=f"http://evil.example:{house.port}"
                )
            assert refused.value.response.status_code == 403

        asyncio.run(play())

    @pytest.mark.parametrize(
        ("message", "code", "reason"),
        [
            ("{" + " " * 5000, messages.TOO_BIG, ""),
            ("hello", messages.MALFORMED, "must be JSON"),
            (b"\x00\x01", messages.MALFORMED, "must be text"),
            ('{"id": 1, "do": "fly"}', messages.MALFORMED, "'fly' is nothing to do"),
            ('{"id": 1, "do": "rewind", "frame": "x"}', messages.MALFORMED, "frame must be"),
        ],
    )
    def test_what_no_page_sends_ends_the_connection(self, house, message, code, reason):
        async def play():
            async with client(house) as player:
                await player.connection.send(message)
                found, why = await closing(player.connection)
                assert found == code
                assert reason in why

        asyncio.run(play())
        house.until(lambda: not house.state.players)

    def test_ids_must_rise(self, house):
        async def play():
            async with client(house) as player:
                await player.ask(do="reset", start=0)
                await player.connection.send('{"id": 1, "do": "reset"}')
                assert await closing(player.connection) == (messages.MALFORMED, "id 1 came after 1; ids must rise")

        asyncio.run(play())

    def test_a_flood_ends_the_connection_and_nobody_else_notices(self, house):
        async def play():
            async with client(house) as player, client(house) as flooder:
                await player.ask(do="reset", start=0, seed=1)
                for number in range(1, 100):
                    await flooder.connection.send(json.dumps({"id": number, "do": "reset"}))
                assert (await closing(flooder.connection))[0] == messages.FLOOD
                assert isinstance(await player.step(), bytes)

        asyncio.run(play())

    def test_one_who_leaves_in_the_middle_is_forgotten(self, house):
        async def play():
            async with client(house) as player:
                await player.ask(do="reset", start=0)
                await player.connection.send('{"id": 9, "do": "step", "action": [0, 0, 0, 0]}')
                player.connection.transport.abort()

        for _ in range(3):
            asyncio.run(play())
        house.until(lambda: not house.state.players)


def test_beyond_the_limit_players_are_refused_politely(tmp_path):
    async def play(house):
        async with client(house), client(house):
            async with connect(house.ws) as third:
                code, reason = await closing(third)
            assert code == messages.FULL
            assert reason.startswith("2 players are here already")
        house.until(lambda: not house.state.players)
        async with client(house) as welcome:
            assert isinstance(await welcome.ask(do="reset"), bytes)

    with running(tmp_path, sessions=2) as house:
        asyncio.run(play(house.ready()))


def test_the_silent_are_sent_home(tmp_path):
    async def play(house):
        async with client(house) as player:
            await player.ask(do="reset")
            code, reason = await closing(player.connection)
            assert code == messages.IDLE
            assert "0.5 seconds" in reason

    with running(tmp_path, idle_seconds=0.5) as house:
        asyncio.run(play(house.ready()))


def test_impossible_wishes_are_answered_and_play_goes_on(house):
    async def play():
        async with client(house) as player:
            assert "reset first" in (await player.step())["error"]
            await player.ask(do="reset", start=0)
            for wish in (
                {"do": "step", "action": [1, 0]},
                {"do": "step", "action": "jump"},
                {"do": "reset", "start": 99},
                {"do": "rewind", "frame": 40},
                {"do": "sampling", "temperature": -1},
                {"do": "side", "on": True},
            ):
                error = (await player.ask(**wish))["error"]
                assert error
                assert "\n" not in error
            assert messages.HEADER.unpack_from(await player.step())[7] == 1

    asyncio.run(play())


class TestPage:
    def test_it_is_there_before_the_world(self, tmp_path):
        loading = threading.Event()

        def load():
            loading.wait(10)
            return dot_game()

        async def play(house):
            async with connect(house.ws) as early:
                await asyncio.sleep(0.1)
                loading.set()
                assert json.loads(await asyncio.wait_for(early.recv(), 10))["ok"]

        with running(tmp_path, load) as house:
            assert house.get("/")[0] == 200
            told = house.info()
            assert (told["ready"], told["error"]) == (False, None)
            asyncio.run(play(house))
            assert house.info()["ready"]

    def test_a_world_that_cannot_be_loaded_is_told(self, tmp_path):
        def load():
            raise ValueError("runs/nowhere is no run folder")

        async def play(house):
            async with connect(house.ws) as connection:
                return await closing(connection)

        with running(tmp_path, load) as house:
            house.until(lambda: house.info()["error"])
            assert house.info()["error"] == "runs/nowhere is no run folder"
            assert asyncio.run(play(house)) == (messages.FAILED, "runs/nowhere is no run folder")

    def test_info_says_what_the_page_needs(self, house):
        told = house.info()
        assert told == {
            "ready": True,
            "error": None,
            "version": told["version"],
            "title": "the dot",
            "kind": "dream",
            "beside": False,
            "width": SIZE,
            "height": SIZE,
            "channels": 3,
            "fps": 10.0,
            "action_spec": dot_game().action_spec.to_json(),
            "num_starts": 3,
            "depth": None,
            "sampling": {"temperature": 0.0, "min_p": 0.1, "guidance_scale": 1.0},
            "thoughts": False,
            "max_rewind": 2000,
        }

    def test_only_its_own_files_are_served(self, house):
        folder = Path(server.__file__).parent / "static"
        kinds = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
        for file in folder.iterdir():
            status, content, headers = house.get(f"/static/{file.name}")
            assert (status, content) == (200, file.read_bytes())
            assert headers["content-type"].startswith(kinds[file.suffix])
            assert "default-src 'self'" in headers["content-security-policy"]
        for path in ("/static/../server.py", "/static/%2e%2e/server.py", "/static/none.js", "/static/", "/server.py"):
            assert house.get(path)[0] == 404

    def test_thumbnails_are_the_starts(self, house):
        for index, start in enumerate(dot_game().pictures):
            found = Image.open(io.BytesIO(house.get(f"/api/starts/{index}.png")[1]))
            np.testing.assert_array_equal(np.asarray(found), start)
        assert house.get("/api/starts/3.png")[0] == 404

    def test_what_was_played_can_be_downloaded(self, house, tmp_path):
        async def play():
            async with client(house) as player:
                assert house.get(f"/api/clip/{player.session}.gif")[0] == 409
                await player.ask(do="reset", start=0)
                for index in range(9):
                    await player.step(index)
                await player.ask(do="rewind", frame=6)
                clips = [house.get(f"/api/clip/{player.session}.{ending}") for ending in ("mp4", "gif", "exe")]
                assert isinstance(await player.step(), bytes)
                return clips

        from oneiros.data.video import probe

        mp4, gif, exe = asyncio.run(play())
        (tmp_path / "clip.mp4").write_bytes(mp4[1])
        found = probe(tmp_path / "clip.mp4")
        assert (found.num_frames, found.height, found.fps) == (7, 256, 10)
        animation = Image.open(io.BytesIO(gif[1]))
        assert sum(frame.info["duration"] for frame in ImageSequence.Iterator(animation)) == 700
        assert "attachment" in gif[2]["content-disposition"]
        assert exe[0] == 404
        assert house.get("/api/clip/nobody.mp4")[0] == 404


def test_a_port_in_use_is_said_plainly(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is in use by another program; choose another"):
            serve({"": Choice("dot", dot_game)}, record_to=tmp_path, port=port)
    with pytest.raises(ValueError, match="port 70000 does not exist"):
        serve({"": Choice("dot", dot_game)}, record_to=tmp_path, port=70_000)


def test_two_steps_take_their_time_from_the_model(house):
    async def play():
        async with client(house) as player:
            await player.ask(do="reset", start=0)
            return struct.unpack_from("<f", await player.step(), 20)[0]

    assert 0 < asyncio.run(play()) < 1000
