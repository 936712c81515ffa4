"""How long a key takes to the screen: from its event in a real Chromium to the frame that shows it, painted.

    python benchmarks/key_to_photon.py                the world that is built in
    python benchmarks/key_to_photon.py demo/world     a trained run, or an environment such as doom:my_way_home

Starts `oneiros play`, opens its page, and presses and releases keys at moments of chance until 500 of these events have
been seen in a frame. The page measures them itself: the end is the moment after the browser has painted the frame. Also
printed: the model's share of it, what the rest takes, how long after the command the first frame is there, and the
best hundred, since other programs on the machine only ever make it slower.
Needs selenium, and Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from selenium import webdriver

FLAGS = ("--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync", "--hide-scrollbars")
KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39}
OBSERVE = """
    window.seen = [];
    new PerformanceObserver((list) => {
      for (const { name, duration, detail } of list.getEntries())
        if (name === "key to photon") window.seen.push([duration, detail]);
    }).observe({ entryTypes: ["measure"] });
"""


@contextmanager
def player(run: str | None, *flags: str) -> Iterator[tuple[str, float]]:
    """The page's address, and when the command was given."""
    began = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "oneiros",
        "play",
        *([run] if run else []),
        "--port",
        "0",
        "--no-browser",
        *flags,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address, "oneiros play did not start"
        yield address[0], began
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


@contextmanager
def chromium(*flags: str) -> Iterator[webdriver.Chrome]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*FLAGS, *flags, f"--user-data-dir={folder}", "--window-size=1280,800"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def wait_for_first_frame(driver: webdriver.Chrome) -> None:
    while driver.execute_script("return document.body.dataset.state") == "loading" or not driver.execute_script(
        "const c = document.querySelector('#dream canvas'); return c.width && c.getContext('2d').getImageData(0, 0,"
        " c.width, c.height).data.some((value, index) => index % 4 < 3 && value > 0)"
    ):
        time.sleep(0.02)


def send_key(driver: webdriver.Chrome, kind: str, code: str) -> None:
    """kind: rawKeyDown or keyUp."""
    event = {"type": kind, "code": code, "key": code, "windowsVirtualKeyCode": KEYS[code]}
    driver.execute_cdp_cmd("Input.dispatchKeyEvent", event)


def press_keys(driver: webdriver.Chrome, events: int) -> np.ndarray:
    """(events, 2): milliseconds from the key to the painted frame, and those of the model's step."""
    driver.execute_script(OBSERVE)
    chance = random.Random(0)
    while driver.execute_script("return window.seen.length") < events:
        code = chance.choice(list(KEYS))
        for kind in ("rawKeyDown", "keyUp"):
            send_key(driver, kind, code)
            time.sleep(chance.uniform(0.15, 0.4))
    return np.array(driver.execute_script("return window.seen"))[:events]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a world's run folder, or an environment; default: the built-in world")
    parser.add_argument("--events", type=int, default=500)
    options = parser.parse_args()

    with chromium("--disable-gpu") as driver, player(options.run) as (address, began):
        driver.get(address)
        wait_for_first_frame(driver)
        print(
            f"first frame   {time.perf_counter() - began:6.2f} s after the command, in a browser that is open already"
        )
        press_keys(driver, 20)  # the first frames warm caches up
        times = press_keys(driver, options.events)
        rate = driver.execute_script("return document.getElementById('fps').textContent")

    best = min(
        (times[start : start + 100] for start in range(0, len(times), 100)), key=lambda part: np.median(part[:, 0])
    )
    print(f"{len(times)} events at {rate} frames/s; milliseconds     p50     p95     p99")
    for name, values in [
        ("key to photon", times[:, 0]),
        ("the model's step", times[:, 1]),
        ("all but the step", times[:, 0] - times[:, 1]),
        ("key to photon, best hundred", best[:, 0]),
    ]:
        print(f"{name:38s}" + "".join(f"{np.quantile(values, q):8.1f}" for q in (0.5, 0.95, 0.99)))


if __name__ == "__main__":
    main()
