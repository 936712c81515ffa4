"""`oneiros export --web` in a real browser: the page plays without a server, and dreams what the world dreams."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from oneiros.export.parity import newest_codes
from oneiros.export.programs.dream import OnnxDream
from oneiros.export.site_folder import WEBGPU_RUNTIME, WORLD, find_runtime, write_site
from oneiros.world.model import World
from oneiros.world.starts import find_starts
from tests.export.worlds import RUNTIME

pytestmark = pytest.mark.skipif(
    RUNTIME is None or shutil.which("chromedriver") is None, reason="needs chromium-driver and onnxruntime-web"
)
FRAMES = 64
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync")
SOFTWARE = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")  # a GPU made of a processor
QUIET = ("--disable-background-networking", "--disable-component-update", "--window-size=1280,800")
CODES = """
const [actions, seed, engine, done] = arguments;
(async () => {
  const ort = await import(new URL(`ort/ort.${engine}.min.mjs`, location.href).href);
  const { OnnxDream } = await import(new URL("world/dream.mjs", location.href).href);
  ort.env.wasm.numThreads = 1;
  const read = async (name) => new Uint8Array(await (await fetch(`world/${name}`)).arrayBuffer());
  const dream = await OnnxDream.load(ort, read, [engine]);
  await dream.begin(1, seed);
  const frames = [];
  for (const action of actions) {
    const digits = await dream.stepCodes(action);
    const code = (place) => digits.reduce((code, level) => code * dream.about.entries + level[place], 0);
    frames.push(Array.from(digits[0], (_, place) => code(place)));
  }
  return JSON.stringify(frames);
})().then(done, (error) => done(`failed: ${error.message}`));
"""


ADAPTER = """
const done = arguments[0];
(async () => Boolean(await navigator.gpu?.requestAdapter()))().then(done, () => done(false));
"""


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(pixel_run, exported, tmp_path_factory) -> Path:
    return write_toy_site(tmp_path_factory.mktemp("site"), pixel_run, exported[0], webgpu=False)


def write_toy_site(folder: Path, run: Path, exported: Path, *, webgpu: bool) -> Path:
    shutil.copytree(exported, folder / WORLD)
    starts = find_starts(World.load(run), run)
    write_site(folder, starts, find_runtime(RUNTIME, webgpu=webgpu), title="toy", webgpu=webgpu)
    return folder


@pytest.fixture(scope="module")
def driver(site) -> Iterator[webdriver.Chrome]:
    with opened(site, "--disable-gpu") as driver:
        yield driver


@contextmanager
def opened(site: Path, *flags: str) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for argument in (*ARGUMENTS, *QUIET, *flags):
        options.add_argument(argument)
    options.binary_location = "/usr/bin/chromium"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver")) as driver:
        driver.set_script_timeout(120)
        driver.get(f"http://127.0.0.1:{server.server_address[1]}/?engine=1")
        wait_for(driver, "return document.body.dataset.state", "waiting")
        yield driver
        server.shutdown()


def wait_for(driver: webdriver.Chrome, script: str, expected: object) -> None:
    until = time.monotonic() + 60
    while (found := driver.execute_script(script)) != expected:
        assert time.monotonic() < until, f"{found} instead of {expected}; {page_says(driver)}"
        time.sleep(0.05)


def page_says(driver: webdriver.Chrome) -> str:
    return driver.execute_script("return document.getElementById('say').textContent")


def frame(driver: webdriver.Chrome) -> int:
    return int(driver.execute_script("return document.getElementById('frame').textContent"))


def test_the_page_dreams_what_the_world_does(driver, site):
    check_codes(driver, site, "wasm", FRAMES)


def check_codes(driver: webdriver.Chrome, site: Path, engine: str, frames: int) -> None:
    actions = np.random.default_rng(2).integers(0, 2, (frames, 4)).tolist()
    told = driver.execute_async_script(CODES, actions, 9, engine)
    assert not told.startswith("failed"), told
    dream = OnnxDream(site / WORLD, threads=1)
    dream.begin(1, seed=9)
    for index, (action, codes) in enumerate(zip(actions, json.loads(told), strict=True)):
        dream.step_codes(action)
        assert newest_codes(dream).tolist() == codes, f"frame {index}"


def test_a_page_for_gpus_dreams_the_same_on_one(pixel_run, exported, tmp_path):
    site = write_toy_site(tmp_path, pixel_run, exported[0], webgpu=True)
    with opened(site, *SOFTWARE) as driver:
        if not driver.execute_async_script(ADAPTER):
            pytest.skip("this Chromium has no WebGPU")
        check_codes(driver, site, "webgpu", 8)
        driver.get(driver.current_url.replace("engine=1", "engine=webgpu"))
        wait_for(driver, "return document.body.dataset.state", "waiting")
        driver.find_element(By.ID, "on").click()
        wait_for(driver, "return document.getElementById('frame').textContent", "1")
        kept = "const [name, done] = arguments; caches.match(`ort/${name}`).then((found) => done(Boolean(found)))"
        assert driver.execute_async_script(kept, WEBGPU_RUNTIME[-1]), "the page was not drawn by the GPU"


def test_one_plays_goes_back_and_on(driver):
    driver.find_element(By.ID, "again").click()
    wait_for(driver, "return document.getElementById('frame').textContent", "0")
    for count in range(1, 4):
        driver.find_element(By.ID, "on").click()
        wait_for(driver, "return document.getElementById('frame').textContent", str(count))
    driver.find_element(By.ID, "back").click()
    wait_for(driver, "return document.getElementById('frame').textContent", "2")
    driver.find_element(By.TAG_NAME, "body").send_keys(".")
    wait_for(driver, "return document.getElementById('frame').textContent", "3")
    driver.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_UP)
    assert page_says(driver) == ""


def test_what_needs_a_server_is_not_shown(driver):
    shown = "return [...document.querySelectorAll('.served')].filter((one) => one.checkVisibility()).length"
    assert driver.execute_script(shown) == 0
    assert driver.find_element(By.ID, "space-row").is_displayed()
    assert len(driver.find_elements(By.CSS_SELECTOR, "#starts img")) == 2


def test_the_page_is_kept_and_isolated(driver):
    assert driver.execute_script("return crossOriginIsolated")
    keys = driver.execute_async_script("const [done] = arguments; caches.keys().then(done)")
    assert len(keys) == 1
    kept = driver.execute_async_script(
        "const [name, done] = arguments; caches.open(name).then((cache) => cache.keys())"
        ".then((all) => done(all.map(({ url }) => new URL(url).pathname)))",
        keys[0],
    )
    assert {"/", "/index.html", "/world/step.onnx", "/ort/ort-wasm-simd-threaded.wasm"} <= set(kept)


def test_a_page_opened_as_a_file_says_how_to_serve_it(driver, site):
    here = driver.current_url
    driver.get((site / "index.html").as_uri())
    wait_for(driver, "return document.getElementById('say').textContent.includes('python3 -m http.server')", True)
    driver.get(here)
