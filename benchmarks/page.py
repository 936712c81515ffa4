"""How fast a page of `oneiros export --web` dreams in headless Chromium, and how soon its first frame is there.

    python benchmarks/page.py SITE                       2,000 frames with one thread and with two
    python benchmarks/page.py SITE --engines 1 --frames 10000
    python benchmarks/page.py SITE --engines 1 webgpu    of a page made with --webgpu

Needs selenium, Chromium and its driver. Frames are asked for one after another, as fast as the page gives them, without
drawing them on the page. The first and the last tenth are told apart, so that a dream that slows down shows.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from key_to_photon import chromium
from selenium import webdriver

GPU = ("--enable-unsafe-webgpu", "--enable-features=Vulkan")
BEGIN = """
const done = arguments[0];
(async () => {
  const { Channel, describe } = await import(new URL("static/host.js", location.href).href);
  const { action_spec: spec } = await describe();
  window.rest = spec === null ? null : spec.kind === "discrete" ? 0 : spec.names.map(() => 0);
  window.dream = new Channel({
    hello: async () => {
      await window.dream.ask({ do: "reset", start: 0, seed: 1 });
      for (let i = 0; i < 20; i += 1) await window.dream.ask({ do: "step", action: window.rest });
      done("ready");
    },
    closed: (code, reason) => done(reason),
  });
  window.dream.connect();
})().catch((error) => done(error.message));
"""
STEPS = """
const [count, done] = arguments;
(async () => {
  const times = [];
  for (let i = 0; i < count; i += 1) {
    const began = performance.now();
    await window.dream.ask({ do: "step", action: window.rest });
    times.push(performance.now() - began);
  }
  return times;
})().then(done);
"""


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(site: str) -> Iterator[str]:
    """The address of a folder on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()


def first_frame(driver: webdriver.Chrome, address: str) -> float:
    """Seconds from the address to a page that shows a start and can be played."""
    began = time.perf_counter()
    driver.get(address)
    while driver.execute_script("return document.body.dataset.state") != "waiting":
        if time.perf_counter() - began > 120:
            raise SystemExit(driver.execute_script("return document.getElementById('say').textContent"))
        time.sleep(0.02)
    return time.perf_counter() - began


def measure(address: str, engine: str, frames: int) -> None:
    with chromium(*(GPU if engine == "webgpu" else ("--disable-gpu",))) as driver:
        driver.set_script_timeout(600)
        first = first_frame(driver, f"{address}?engine={engine}")
        again = first_frame(driver, f"{address}?engine={engine}")
        if (said := driver.execute_async_script(BEGIN)) != "ready":
            raise SystemExit(said)
        times: list[float] = []
        while len(times) < frames:
            times += driver.execute_async_script(STEPS, min(500, frames - len(times)))
        part = max(1, frames // 10)
        first_tenth, last_tenth = times[:part], times[-part:]
        print(
            f"engine {engine}: {_per_second(times)}, p50 {statistics.median(times):.1f} ms, "
            f"p99 {statistics.quantiles(times, n=100)[98]:.1f} ms; the first tenth {_per_second(first_tenth)}, "
            f"the last {_per_second(last_tenth)}; page ready in {first:.1f} s, on the second visit {again:.1f} s",
            flush=True,
        )


def _per_second(times: list[float]) -> str:
    return f"{1e3 / statistics.mean(times):.1f} frames/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", help="folder that `oneiros export --web` wrote")
    parser.add_argument("--engines", nargs="+", default=["1", "2"], help="numbers of threads, or webgpu")
    parser.add_argument("--frames", type=int, default=2000)
    args = parser.parse_args()
    with served(args.site) as address:
        for engine in args.engines:
            measure(address, engine, args.frames)


if __name__ == "__main__":
    main()
