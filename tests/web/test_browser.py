"""The page in a real Chromium: what is held, seen, gone back in and kept, in a room whose truth is on the screen."""

import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

uvicorn = pytest.importorskip("uvicorn", reason="the player's server is not installed (extra: web)")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra: dev)")

from PIL import Image  # noqa: E402

from oneiros.data.episodes.dataset import Dataset  # noqa: E402
from oneiros.sampling import Sampling  # noqa: E402
from oneiros.web import messages, server  # noqa: E402
from oneiros.web.access import Access  # noqa: E402
from oneiros.web.choices import Choice  # noqa: E402
from tests.web.room import CONTINUOUS, DISCRETE, DOT, KEYS, MIXED, MOVES, SIZE, STARTS, STEP, Room, game  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Debian's packages chromium and chromium-driver, which are not installed"
)

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)
KEY_CODES = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


@contextmanager
def served(
    played: Path, make: Callable[[], Any] = game, *, port: int = 0, choices: Any = None, **limits: Any
) -> Iterator[str]:
    """A player's server in a thread; its address."""
    listener = socket.create_server(("127.0.0.1", port))
    state = server.ServerState(
        choices or {"": Choice("a room", make)}, record_to=played, limits=server.Limits(**limits)
    )
    running = server.make_server(state, Access("127.0.0.1"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        running.should_exit = True
        thread.join(10)
        state.close()
        listener.close()


class Page:
    """The page as a person has it before them."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def ask(self, script: str) -> Any:
        """What a promise of the page resolves to."""
        return self.driver.execute_async_script(
            f"const done = arguments[arguments.length - 1]; ({script}).then(done, done)"
        )

    def open(self, url: str, *, width: int = 1280, height: int = 800, touch: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch, "maxTouchPoints": 5})
        self.driver.get(url)
        self.wait(lambda: self.state == "waiting" and self.picture().any(), "the first frame")

    def wait(
        self, condition: Callable[[], Any], what: str, seconds: float = 120
    ) -> None:  # for machines with much else to do
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come; the page says {self.said!r}, it is {self.state}"
            time.sleep(0.02)

    @property
    def state(self) -> str:
        return self.run("return document.body.dataset.state")

    @property
    def said(self) -> str:
        return self.text("say")

    @property
    def frame(self) -> int:
        return int(self.text("frame"))

    @property
    def newest(self) -> int:
        return int(self.run("return document.getElementById('scrub').max"))

    def text(self, name: str) -> str:
        return self.run("return document.getElementById(arguments[0]).textContent", name)

    def picture(self, view: str = "dream") -> np.ndarray:
        values = self.run(
            "const c = document.querySelector(`#${arguments[0]} canvas`);"
            "return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)",
            view,
        )
        return np.array(values, np.uint8).reshape(SIZE, SIZE, 4)[..., :3]

    @property
    def place(self) -> tuple[int, int]:
        """Row and column of the square's corner."""
        return corner(self.picture())

    def key(self, code: str, *, down: bool) -> None:
        event = {"type": "rawKeyDown" if down else "keyUp", "code": code, "key": code}
        self.driver.execute_cdp_cmd(
            "Input.dispatchKeyEvent", {**event, "windowsVirtualKeyCode": KEY_CODES.get(code, 0)}
        )

    @contextmanager
    def holding(self, *codes: str) -> Iterator[None]:
        for code in codes:
            self.key(code, down=True)
        try:
            yield
        finally:
            for code in codes:
                self.key(code, down=False)

    def press(self, code: str) -> None:
        with self.holding(code):
            pass

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def switch(self, name: str) -> None:
        self.run("document.getElementById(arguments[0]).click()", name)

    def set_range(self, selector: str, value: float) -> None:
        self.run(
            "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('input', {bubbles: true}))",
            selector,
            value,
        )

    def step(self, *codes: str) -> None:
        """One frame on, with these keys held."""
        before = self.frame
        with self.holding(*codes):
            self.press("Period")
            self.wait(lambda: self.frame == before + 1, "a single step")

    def pause(self) -> None:
        """Without ever having played."""
        if self.state != "paused":
            self.run("document.getElementById('on').click()")
            self.wait(lambda: self.state == "paused", "a pause")
            self.wait(lambda: self.frame == self.newest, "the step")

    def played(self, frames: int) -> None:
        wanted = self.frame + frames
        self.wait(lambda: self.frame >= wanted, f"frame {wanted}")

    def touch(self, kind: str, *caps: int) -> None:
        """Fingers on these keys."""
        points = []
        for cap in caps:
            box = self.run("return document.querySelectorAll('.cap')[arguments[0]].getBoundingClientRect()", cap)
            points.append({"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "id": cap})
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def corner(picture: np.ndarray) -> tuple[int, int]:
    white = picture[..., 0] == 255
    rows, columns = white.any(1), white.any(0)
    assert rows.sum() == columns.sum() == DOT
    return first(rows), first(columns)


def first(line: np.ndarray) -> int:
    """Where a run of True begins that may wrap around."""
    return int(np.argmax(line & ~np.roll(line, 1)))


@pytest.fixture(scope="module")
def driver(tmp_path_factory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    browser.set_script_timeout(60)
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("room") / "played") as url:
        yield url


@pytest.fixture
def page(driver) -> Iterator[Page]:
    driver.get_log("browser")
    yield Page(driver)
    driver.get("about:blank")  # leaves the session, so that the next test finds a place
    complaints = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [text for text in complaints if "WebSocket" not in text and "ERR_CONNECTION" not in text], complaints


def test_a_hundred_frames_are_played_and_a_held_key_moves_the_picture(page, room):
    page.open(room)
    assert page.place == STARTS[0]
    assert page.said == "Hold a key to step in"
    with page.holding("ArrowRight"):
        page.played(5)
        assert page.run("return [...document.querySelectorAll('.cap')].map((c) => c.classList.contains('held'))") == [
            *(False, True, False, False)
        ]
        page.played(95)
        assert page.place[0] == STARTS[0][0]
    assert not page.run("return document.querySelector('.cap.held')")
    assert page.frame >= 100
    page.press("KeyP")
    page.wait(lambda: page.state == "paused", "the pause")
    time.sleep(0.2)
    frame, place = page.frame, page.place
    time.sleep(0.3)
    assert (page.frame, page.place) == (frame, place)


def test_several_keys_are_held_at_once_and_each_does_what_it_says(page, room):
    page.open(room)
    page.pause()
    here = np.array(page.place)
    for codes, move in [
        (("ArrowLeft",), MOVES[0]),
        (("KeyD",), MOVES[1]),
        (("ArrowUp", "ArrowRight"), MOVES[1] + MOVES[2]),
        ((), 0 * MOVES[0]),
    ]:
        page.step(*codes)
        here = (here + move) % SIZE
        assert page.place == tuple(here), codes


def test_a_tap_shorter_than_a_frame_still_counts(page, room):
    page.open(room)
    page.run(
        "for (const type of ['keydown', 'keyup'])"
        "  document.body.dispatchEvent(new KeyboardEvent(type, {code: 'ArrowDown', bubbles: true}))"
    )
    page.played(5)
    assert page.place == (STARTS[0][0] + STEP, STARTS[0][1])


def test_going_back_shows_what_was_and_going_on_differently_makes_a_branch(page, room):
    page.open(room)
    page.pause()
    seen = {page.frame: page.place}
    for _ in range(12):
        page.step("ArrowRight")
        seen[page.frame] = page.place
    newest = page.frame
    for back in (3, 7, 0, 10):
        page.set_range("#scrub", back)
        page.wait(lambda back=back: page.frame == back, "the earlier frame")
        assert page.place == (seen[back] if back else STARTS[0])
        assert page.newest == newest  # one can still go on again
    page.press("Comma")
    page.wait(lambda: page.frame == 9, "one frame back")
    assert "differently" in page.said
    page.step()
    assert (page.frame, page.newest, page.place) == (10, 10, seen[9])
    page.step("ArrowUp")
    assert page.place == ((seen[9][0] - STEP) % SIZE, seen[9][1])


def test_playing_goes_on_from_an_earlier_frame_when_a_key_is_held(page, room):
    page.open(room)
    with page.holding("ArrowRight"):
        page.played(30)
    page.press("KeyP")
    page.set_range("#scrub", 4)
    page.wait(lambda: page.frame == 4, "the earlier frame")
    place = page.place
    with page.holding("ArrowUp"):
        page.played(3)
    page.press("KeyP")
    assert 4 < page.newest < 30
    assert page.place[1] == place[1]


def test_a_start_is_chosen_by_its_picture_and_restart_returns_to_it(page, room):
    page.open(room)
    assert len(page.driver.find_elements("css selector", "#starts img")) == len(STARTS)
    page.wait(lambda: page.run("return [...document.images].every((i) => i.naturalWidth === 32)"), "thumbnails")
    page.click("#starts button:nth-child(3)")
    page.wait(lambda: page.place == STARTS[2], "the chosen start")
    page.pause()
    page.step("ArrowLeft")
    page.press("KeyR")
    page.wait(lambda: page.frame == 0 and page.place == STARTS[2], "the same start")


def test_a_key_that_stays_held_goes_on_after_a_restart(page, room):
    page.open(room)
    with page.holding("ArrowRight"):
        page.played(10)
        page.press("KeyR")
        page.wait(lambda: page.frame < 10, "the restart")
        page.played(3)
    assert page.state == "playing"


def test_what_is_played_is_recorded_as_a_dataset(page, tmp_path):
    with served(tmp_path / "played") as url:
        page.open(url)
        page.pause()
        page.click("#record")
        page.wait(lambda: page.text("record").strip() == "Stop", "recording")
        codes = ["ArrowLeft", "ArrowUp", "ArrowUp", "ArrowRight", "ArrowDown"]
        for code in codes:
            page.step(code)
        page.click("#record")
        page.wait(lambda: "1 episode" in page.text("recorded"), "the episode")
    dataset = Dataset.open(tmp_path / "played")
    actions = dataset.actions(dataset.episodes[0].index)
    assert actions is not None
    held = [KEYS.names[int(np.argmax(action))] for action in actions[: len(codes)]]
    assert held == ["TURN_LEFT", "MOVE_FORWARD", "MOVE_FORWARD", "TURN_RIGHT", "MOVE_BACKWARD"]
    assert len(dataset.episodes) == 1


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_a_clip_is_saved(page, room, tmp_path, kind):
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.open(room)
    page.pause()
    for _ in range(4):
        page.step("ArrowLeft")
    page.click(f"#{kind}")
    file = tmp_path / f"dream.{kind}"
    page.wait(file.exists, "the file")
    if kind == "gif":
        with Image.open(file) as image:
            assert image.n_frames >= 2
    else:
        import av

        with av.open(str(file)) as video:
            assert sum(1 for _ in video.decode(video=0)) == page.frame + 1


def test_temperature_min_p_and_guidance_reach_the_dream(page, tmp_path):
    rooms: list[Room] = []

    def make():
        made = game()
        object.__setattr__(made, "make_env", lambda: rooms.append(Room(KEYS)) or rooms[-1])
        return made

    with served(tmp_path / "played", make) as url:
        page.open(url)
        page.pause()
        wanted = {"temperature": 0.35, "min_p": 0.2, "guidance_scale": 2.5}
        for name, value in wanted.items():
            page.set_range(f"#{name}", value)
        page.step()
        assert rooms[-1].sampling == Sampling(**wanted)
        assert page.text("temperature-out") == "0.35"
        page.run("document.getElementById('defaults').click()")
        page.step()
        assert rooms[-1].sampling == Sampling()


def test_dream_and_reality_stand_side_by_side_with_their_difference(page, room):
    page.open(room)
    page.switch("side")
    page.wait(lambda: page.text("apart").startswith("apart by 0.0"), "the difference")
    page.pause()
    page.step("ArrowRight")
    np.testing.assert_array_equal(page.picture("real"), page.picture("dream"))
    widths = page.run("return ['dream', 'real'].map((v) => document.querySelector(`#${v} canvas`).clientWidth)")
    assert widths[0] == widths[1] > SIZE
    with page.holding("ArrowRight"):
        page.press("KeyP")
        page.wait(lambda: page.text("real-caption") == "real, over", "the end of the real episode")
    page.switch("side")
    page.wait(lambda: page.run("return document.getElementById('real').hidden"), "the dream alone")


def test_the_frame_is_a_cloud_that_can_be_turned(page, room):
    page.open(room, width=480, height=600)
    page.switch("space-on")
    canvas = page.driver.find_element("css selector", "#space canvas")

    def seen() -> np.ndarray:
        import io

        return np.asarray(Image.open(io.BytesIO(canvas.screenshot_as_png)).convert("RGB")).astype(int)

    page.wait(lambda: (seen().min(2) > 240).sum() > 50, "the white square among the points")
    before = seen()
    page.pause()
    page.run("document.querySelector('#space canvas').focus()")
    for _ in range(6):
        page.press("ArrowRight")
    page.wait(lambda: (np.abs(seen() - before) > 40).mean() > 0.01, "the cloud turned")
    turned = seen()
    page.step("KeyA")
    page.wait(lambda: (np.abs(seen() - turned) > 40).any(), "the cloud following the dream")


def test_what_the_model_thinks_lies_over_the_frame(page, room):
    page.open(room)
    assert page.run("return document.getElementById('heat').hidden")
    page.switch("think")
    page.wait(lambda: page.run("return document.querySelectorAll('#guess p').length") == 4, "the guess")
    assert page.run("return document.querySelector('#guess').innerText").split("\n")[0].startswith("turn left")
    heat = page.run(
        "const c = document.getElementById('heat');"
        "return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    )
    opacity = np.array(heat).reshape(4, 4, 4)[..., 3]
    assert (np.diff(opacity.ravel()) > 0).all()  # as the room's entropy rises


def test_fingers_hold_keys_and_slide_between_them(page, room):
    page.open(room, width=390, height=844, touch=True)
    assert page.said == "Touch a key to step in"
    page.touch("touchStart", 1)
    page.touch("touchStart", 1, 2)
    page.wait(lambda: page.run("return document.querySelectorAll('.cap.held').length") == 2, "two fingers")
    page.touch("touchEnd")
    page.wait(lambda: not page.run("return document.querySelector('.cap.held')"), "the fingers gone")
    assert page.place[0] < STARTS[0][0] + SIZE
    assert page.state == "playing"


@pytest.mark.parametrize(("width", "height"), [(390, 844), (360, 640), (844, 390), (1280, 720)])
def test_nothing_sticks_out_and_the_keys_are_in_sight(page, room, width, height):
    page.open(room, width=width, height=height, touch=width < 900)
    boxes = page.run("return [...document.querySelectorAll('.cap')].map((c) => c.getBoundingClientRect().bottom)")
    assert max(boxes) <= height
    scale = page.run("return document.querySelector('#dream canvas').clientWidth") / SIZE
    assert scale == int(scale) >= 3  # whole pixels: nothing is blurred or uneven
    for name in ("side", "space-on", "think"):
        page.switch(name)
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")


def test_a_gamepad_plays_pauses_and_rewinds(page, room):
    page.open(room)
    page.run("""
        const buttons = Array.from({length: 17}, () => ({pressed: false, value: 0}));
        window.pad = {connected: true, axes: [0, 0], buttons};
        navigator.getGamepads = () => [window.pad];
        dispatchEvent(new Event('gamepadconnected'));
    """)
    page.run("window.pad.axes = [0.9, 0]")
    page.wait(lambda: page.state == "playing", "the stick")
    page.played(10)
    assert page.place[0] == STARTS[0][0]
    page.run("window.pad.axes = [0, 0]; window.pad.buttons[9].pressed = true")
    page.wait(lambda: page.state == "paused", "Start")
    frame = page.frame
    page.run("window.pad.buttons[4].pressed = true")
    page.wait(lambda: page.frame < frame - 2, "the shoulder button")


def test_the_keyboard_alone_reaches_every_control(page, room):
    page.open(room)
    reached = set()
    for _ in range(40):
        page.driver.execute_cdp_cmd(
            "Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Tab", "windowsVirtualKeyCode": 9}
        )
        reached.add(page.run("return document.activeElement.id || document.activeElement.parentElement.id"))
    assert {"again", "back", "pause", "on", "record", "starts", "side", "space-on", "think", "temperature"} <= reached
    assert {"mp4", "gif", "theme", "min_p", "guidance_scale"} <= reached
    page.run("document.getElementById('temperature').focus()")
    page.press("ArrowLeft")
    assert page.state == "waiting"  # the arrow belonged to the slider


@pytest.mark.parametrize(
    ("spec", "codes", "move"),
    [
        (DISCRETE, ("ArrowRight",), MOVES[1]),
        (DISCRETE, ("ArrowUp", "ArrowLeft"), MOVES[0] + MOVES[2]),
        (DISCRETE, (), 0),
    ],
)
def test_one_of_several_choices(page, tmp_path, spec, codes, move):
    with served(tmp_path / "played", lambda: game(spec)) as url:
        page.open(url)
        page.pause()
        here = np.array(page.place)
        page.step(*codes)
        assert page.place == tuple((here + move) % SIZE)


def test_sliders_and_fields_for_continuous_actions(page, tmp_path):
    with served(tmp_path / "played", lambda: game(CONTINUOUS)) as url:
        page.open(url)
        assert page.said == "Move a slider to step in"
        page.pause()
        here = np.array(page.place)
        page.set_range("#action-1", 4)
        page.step()
        assert page.place == (here[0], (here[1] + 4) % SIZE)
        page.run(
            "const f = document.querySelectorAll('.slider input[type=number]')[0]; f.value = -3;"
            "f.dispatchEvent(new Event('change'))"
        )
        page.step()
        assert page.place == ((here[0] - 3) % SIZE, (here[1] + 8) % SIZE)


def test_keys_and_numbers_in_one_action(page, tmp_path):
    with served(tmp_path / "played", lambda: game(MIXED)) as url:
        page.open(url)
        assert page.said == "Hold a key to step in"
        page.pause()
        here = np.array(page.place)
        page.step("ArrowLeft")
        assert page.place == ((here[0] - STEP) % SIZE, here[1])  # a mouse rests where it is let go
        page.set_range("#action-0", 4)
        page.step("ArrowLeft")
        assert page.place == ((here[0] - 2 * STEP) % SIZE, (here[1] + 4) % SIZE)
        page.step()
        assert page.place == ((here[0] - 2 * STEP) % SIZE, (here[1] + 8) % SIZE)


def test_a_world_without_actions_dreams_by_itself(page, tmp_path):
    with served(tmp_path / "played", lambda: game(None)) as url:
        page.open(url)
        assert page.said == "Press play to step in"
        page.click("#pause")
        page.played(5)
        assert "no actions" in page.text("actions")


def test_the_end_of_an_episode_is_said_and_another_begins(page, tmp_path):
    with served(tmp_path / "played", lambda: game(length=5)) as url:
        page.open(url)
        with page.holding("ArrowRight"):
            page.wait(lambda: page.state == "over", "the end")
        assert page.said == "The episode is over."
        assert page.frame == 5
        page.click("#answer")
        page.wait(lambda: page.state == "waiting" and page.frame == 0, "another episode")


def test_several_worlds_are_tiles_and_each_is_played_at_its_own_address(page, tmp_path):
    pictures = {name: np.full((8, 8, 3), tone, np.uint8) for name, tone in (("room", 60), ("hall", 200))}
    choices = {name: Choice(f"the {name}", game, picture) for name, picture in pictures.items()}
    with served(tmp_path / "played", choices=choices) as url:
        page.driver.get(url)
        page.wait(lambda: page.state == "choosing", "the tiles")
        tiles = "[...document.querySelectorAll('#worlds a')]"
        assert page.run(f"return {tiles}.map((tile) => tile.textContent)") == ["the room", "the hall"]
        page.wait(
            lambda: page.run(f"return {tiles}.every((t) => t.querySelector('img').naturalWidth === 8)"), "pictures"
        )
        page.run("document.querySelectorAll('#worlds a')[1].click()")
        page.wait(lambda: page.state == "waiting" and page.picture().any(), "the hall's first frame")
        assert page.run("return location.search") == "?world=hall"
        assert page.run("return document.getElementById('worlds').hidden")
        page.press("ArrowRight")
        page.played(1)
        page.run("document.getElementById('brand').click()")
        page.wait(lambda: page.state == "choosing", "the tiles again")


def test_the_page_comes_back_when_the_server_does(page, tmp_path):
    with served(tmp_path / "played") as url:
        page.open(url)
        page.press("ArrowRight")
        page.played(2)
    page.wait(lambda: page.state == "gone", "the loss")
    page.wait(lambda: "Waiting for the player" in page.said, "a word about it")
    with served(tmp_path / "played", port=int(url.split(":")[-1].strip("/"))):
        page.wait(lambda: page.state == "waiting", "the return")
        page.press("ArrowRight")
        page.played(2)


def test_one_player_too_many_is_told_so(page, tmp_path):
    with served(tmp_path / "played", sessions=1) as url:
        page.open(url)
        first = page.driver.current_window_handle
        page.driver.switch_to.new_window("tab")
        page.driver.get(url)
        page.wait(lambda: "1 players are here already" in page.said, "the refusal")
        page.driver.close()
        page.driver.switch_to.window(first)


def test_what_is_wrong_with_the_world_is_said(page, tmp_path):
    def broken():
        raise ValueError("world/model.safetensors is damaged: it ends too early")

    with served(tmp_path / "played", broken) as url:
        page.driver.get(url)
        page.wait(lambda: page.said == "world/model.safetensors is damaged: it ends too early", "the reason")


def test_the_page_is_light_and_fetches_nothing_from_elsewhere(page, room):
    page.open(room)
    entries = page.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert entries
    assert all(name.startswith((room, "data:")) for name in entries)
    static = Path(server.__file__).parent / "static"
    assert sum(file.stat().st_size for file in static.iterdir()) < 100_000
    assert not [file.name for file in static.iterdir() if re.search(r"https?://(?!www\.w3\.org)", file.read_text())]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable(page, room, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    page.open(room)

    def luminance(variable: str) -> float:
        text = page.run(
            "const e = document.body.appendChild(document.createElement('i')); e.style.color = `var(${arguments[0]})`;"
            "const c = getComputedStyle(e).color; e.remove(); return c",
            variable,
        )
        channels = np.array([float(value) for value in re.findall(r"\d+", text)[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    pairs = [("--ink", "--paper"), ("--ink", "--raised"), ("--quiet", "--paper"), ("--quiet", "--card")]
    for ink, paper in [*pairs, ("--quiet", "--raised"), ("--on-accent", "--accent"), ("--alarm", "--raised")]:
        dark, bright = sorted((luminance(ink), luminance(paper)))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ink, paper)


def test_requests_wait_for_the_last_frame_and_a_key_brings_the_next_one_forward_but_once(page, room):
    page.driver.get(room)
    counts = page.ask("""(async () => {
      const { Player } = await import('/static/player.js');
      const asked = [];
      const channel = { open: true, ask: (message) => new Promise((answer) => asked.push(answer)) };
      const answer = async () => {
        asked.at(-1)({ rgb: new Uint8Array(3), frame: asked.length });
        await new Promise((resolve) => setTimeout(resolve));
      };
      const nothing = () => {};
      const player = new Player({
        channel, actions: { take: () => null }, fps: 0.1, drawn: nothing, changed: nothing, trouble: nothing,
      });
      player.begin();
      const counts = [];
      const count = () => counts.push(asked.length);
      player.play(); count();
      player.touch(performance.now(), true); count();  // the frame asked for is not there yet
      await answer(); count();                          // but then the key has its turn, seconds before its time
      await answer(); count();
      player.touch(performance.now(), true); count();  // and what comes after it keeps its time
      return counts;
    })()""")
    assert counts == [1, 1, 2, 2, 2]


def test_the_page_reads_what_the_server_packs(page, room):
    page.driver.get(room)
    random = np.random.default_rng(0)
    rgb, side = random.integers(256, size=(2, 5, 7, 3), dtype=np.uint8)
    depth = random.integers(65536, size=(5, 7)).astype(np.uint16)
    entropy = np.arange(6).reshape(3, 2) * 51 / 255
    message = messages.pack(
        messages.Picture(
            rgb=rgb,
            frame=70_000,
            step_ms=12.5,
            over=True,
            depth=depth,
            side=side,
            thoughts=messages.Thoughts(entropy, {"é": 0.5}),
        ),
        2**32 - 1,
    )
    read = page.ask(f"""import('/static/protocol.js').then(({{parseFrame}}) => {{
      const frame = parseFrame(new Uint8Array({list(message)}).buffer);
      const plain = (value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
      frame.thoughts.entropy = plain(frame.thoughts.entropy);
      return Object.fromEntries(Object.entries(frame).map(([name, value]) => [name, plain(value)]));
    }})""")
    difference = np.abs(rgb.astype(int) - side).mean()
    assert read.pop("difference") == pytest.approx(difference)
    assert read == {
        "id": 2**32 - 1,
        "frame": 70_000,
        "width": 7,
        "height": 5,
        "stepMs": 12.5,
        "over": True,
        "rgb": rgb.ravel().tolist(),
        "depth": depth.ravel().tolist(),
        "side": side.ravel().tolist(),
        "thoughts": {"rows": 3, "columns": 2, "entropy": [0, 51, 102, 153, 204, 255], "guess": {"é": 0.5}},
    }


@pytest.mark.parametrize(
    "names",
    [
        (
            "TURN_LEFT",
            "TURN_RIGHT",
            "MOVE_FORWARD",
            "MOVE_LEFT",
            "MOVE_RIGHT",
            "MOVE_BACKWARD",
            "ATTACK",
            "USE",
            "SPEED",
        ),
        ("NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "UPFIRE"),
        tuple(f"action {number}" for number in range(30)),
    ],
)
def test_every_action_has_keys_of_its_own_and_none_of_the_players(page, room, names):
    page.driver.get(room)
    bound = page.ask(f"import('/static/bindings.js').then(({{bind}}) => bind({list(names)!r}))")
    codes = [code for action in bound for code in action["codes"]]
    assert len(set(codes)) == len(codes)
    assert not {"KeyP", "KeyR", "KeyN", "KeyO", "Comma", "Period", "Backspace", "Tab"} & set(codes)
    if names[0] == "TURN_LEFT":
        assert [action["codes"][0] for action in bound] == [
            *("ArrowLeft", "ArrowRight", "ArrowUp", "KeyA", "KeyD", "ArrowDown", "Space", "KeyE", "ShiftLeft")
        ]
