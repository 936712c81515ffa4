"""The picture of the player: its page on a desk and on a phone, as Chromium shows it after some steps into a dream.

python docs/images/make_player.py [RUN] [--beside doom:my_way_home]      default: the world that is built in

Writes player.png beside this file. Needs what benchmarks/key_to_photon.py needs.
"""

import argparse
import io
import sys
import time
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))
import key_to_photon as bench  # noqa: E402

DESK, PHONE, GAP = (1280, 800), (390, 844), 32
FRAMES = 24


def look(driver, size: tuple[int, int], *, dark: bool, ratio: int = 1) -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": ratio, "mobile": size == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": size == PHONE})
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def walk(driver, *codes: str) -> Image.Image:
    """Hold these keys for some frames; the page as it is then."""
    wanted = int(driver.execute_script("return document.getElementById('frame').textContent")) + FRAMES
    for code in codes:
        bench.send_key(driver, "rawKeyDown", code)
    while int(driver.execute_script("return document.getElementById('frame').textContent")) < wanted:
        time.sleep(0.02)
    picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    for code in codes:
        bench.send_key(driver, "keyUp", code)
    return picture


def switch(driver, *names: str) -> None:
    for name in names:
        shown = "const row = document.getElementById(arguments[0]); if (!row.closest('label').hidden) row.click()"
        driver.execute_script(shown, name)
        time.sleep(0.5)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", nargs="?")
parser.add_argument("--beside")
options = parser.parse_args()
extra = ("--beside", options.beside) if options.beside else ()

with (
    bench.chromium("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader") as driver,
    bench.player(options.run, *extra) as (address, _),
):
    look(driver, DESK, dark=True)
    driver.get(address)
    bench.wait_for_first_frame(driver)
    switch(driver, "side", "space-on")
    desk = walk(driver, "ArrowUp", "ArrowLeft")
    look(driver, PHONE, dark=False, ratio=2)
    driver.get(address)
    bench.wait_for_first_frame(driver)
    driver.execute_script("document.querySelector('#starts button').click()")
    phone = walk(driver, "ArrowUp").resize((PHONE[0] * DESK[1] // PHONE[1], DESK[1]), Image.Resampling.LANCZOS)

page = Image.new("RGB", (DESK[0] + GAP + phone.width, DESK[1]), "white")
page.paste(desk, (0, 0))
page.paste(phone, (DESK[0] + GAP, 0))
page.save(HERE / "player.png", optimize=True)
print(f"{HERE / 'player.png'}: {(HERE / 'player.png').stat().st_size / 1000:.0f} kB")
