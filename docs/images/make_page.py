"""The picture of an exported page: on a phone held sideways, as Chromium shows it after some steps into a dream.

python docs/images/make_page.py SITE      SITE: what `oneiros export --web` wrote

Writes page.png beside this file. Needs what benchmarks/page.py needs.
"""

import argparse
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))
import key_to_photon as bench  # noqa: E402
import page  # noqa: E402

PHONE = {"width": 720, "height": 360, "deviceScaleFactor": 2, "mobile": True}
FRAMES = 8

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("site")
options = parser.parse_args()


def frame(driver) -> int:
    return int(driver.execute_script("return document.getElementById('frame').textContent"))


with page.served(options.site) as address, bench.chromium("--disable-gpu") as driver:
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    page.first_frame(driver, f"{address}?engine=1")
    driver.execute_script("document.querySelectorAll('#starts button')[5].click()")
    time.sleep(5)
    for step in range(FRAMES):
        driver.execute_script("document.getElementById('on').click()")
        while frame(driver) <= step:
            time.sleep(0.05)
    time.sleep(1)
    driver.save_screenshot(str(HERE / "page.png"))
print(f"{HERE / 'page.png'}: {(HERE / 'page.png').stat().st_size / 1000:.0f} kB")
