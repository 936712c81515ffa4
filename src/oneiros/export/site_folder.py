"""An exported world as a page that any static host can serve: the player's page, with the dream in a worker."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from PIL import Image, ImageDraw

from oneiros.data.frames import to_uint8
from oneiros.data.pictures import png
from oneiros.records import Clip

RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
WEBGPU_RUNTIME = ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
WORLD = "world"  # where in the folder the exported world is
_PACKAGE = "onnxruntime-web"

_README = """# {title}: a dream as a page

`index.html` is the player, and the dream runs in the browser: no server computes anything, and nothing is sent. Put
this folder on any static host. To try it here:

```sh
python3 -m http.server           # in this folder, then open http://localhost:8000
```

The first visit keeps the page and the world on the device: from then on it opens without a network, can be installed
as an app, and uses several threads. Over plain http (but for localhost) browsers allow neither: it then plays all the
same, from the network and with one thread.

To show it inside another page: `<iframe src="..." allow="gamepad; cross-origin-isolated"></iframe>`.

`{world}/` is the world as ONNX files, with `dream.mjs`, which dreams with them; `ort/` is ONNX Runtime for the web (MIT
license, from the npm package onnxruntime-web).
"""


def find_runtime(named: Path | None, *, webgpu: bool = False) -> Path:
    """The folder with ONNX Runtime's files for the web: of the npm package, or of a copy, where it is named.
    webgpu: with those that use it.

    Raises ValueError, telling how to get it, where there is none.
    """
    if named is not None:
        places = [named, named / "dist"]
    else:
        here = Path.cwd()
        places = [folder / "node_modules" / _PACKAGE / "dist" for folder in (here, *here.parents)]
    wanted = RUNTIME + WEBGPU_RUNTIME * webgpu
    for place in places:
        if all((place / name).is_file() for name in wanted):
            return place
    raise ValueError(
        f"{named or 'here and above'}: no {_PACKAGE}, which runs worlds in browsers; get it with "
        f"`npm install {_PACKAGE}`, or name a folder that holds {', '.join(wanted)} with --runtime"
    )


def write_site(folder: Path, starts: Sequence[Clip], runtime: Path, *, title: str, webgpu: bool = False) -> None:
    """Make a page of a folder whose sub-folder `WORLD` holds an exported world. runtime, webgpu: see `find_runtime`."""
    for name in ("static", "ort", f"{WORLD}/starts"):
        (folder / name).mkdir(parents=True)
    player, ours = resources.files("oneiros.web") / "static", resources.files("oneiros.export") / "site"
    for entry in _files(player):
        place = folder if entry.name == "index.html" else folder / "static"
        (place / entry.name).write_bytes(entry.read_bytes())
    for entry in _files(ours):  # over the player's own: host.js
        place = folder if entry.name == "sw.js" else folder / "static"
        (place / entry.name).write_bytes(entry.read_bytes())
    if webgpu:
        _fill_in(folder / "static" / "host.js", "const WEBGPU = false;", "const WEBGPU = true;")
    for name in RUNTIME + WEBGPU_RUNTIME * webgpu:
        (folder / "ort" / name).write_bytes((runtime / name).read_bytes())
    for index, start in enumerate(starts):
        picture = Image.fromarray(to_uint8(start.frames[0, -1]).cpu().numpy())
        (folder / WORLD / "starts" / f"{index}.png").write_bytes(png(picture))
    for size in (192, 512):
        (folder / f"icon-{size}.png").write_bytes(png(_moon(size)))
    (folder / "manifest.webmanifest").write_text(json.dumps(_manifest(title), indent=1))
    (folder / "README.md").write_text(_README.format(title=title, world=WORLD))
    _list_files(folder)


def _files(folder: Traversable) -> list[Traversable]:
    return [entry for entry in folder.iterdir() if entry.is_file()]


def _list_files(folder: Path) -> None:
    """Tell the service worker what there is to keep, under a name that changes whenever a file does."""
    worker = folder / "sw.js"
    kept = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".md", ".py"))
    kept = [path for path in kept if path != worker and path.name not in WEBGPU_RUNTIME]  # fetched where it is used
    version = 0
    for path in kept:
        version = zlib.crc32(path.read_bytes(), version)
    names = ["./", *(path.relative_to(folder).as_posix() for path in kept)]
    blank = 'const [VERSION, FILES] = ["", []];'
    _fill_in(worker, blank, f"const [VERSION, FILES] = {json.dumps([f'{version:08x}', names])};")


def _fill_in(path: Path, blank: str, filled: str) -> None:
    text = path.read_text()
    assert blank in text
    path.write_text(text.replace(blank, filled))


def _manifest(title: str) -> dict[str, object]:
    icons = [{"src": f"icon-{size}.png", "sizes": f"{size}x{size}", "type": "image/png"} for size in (192, 512)]
    return {
        "name": f"Oneiros: {title}",
        "short_name": "Oneiros",
        "start_url": ".",
        "display": "standalone",
        "background_color": "#12111b",
        "theme_color": "#2a2350",
        "icons": icons,
    }


def _moon(size: int) -> Image.Image:
    """The page's icon: a crescent."""
    large = 4 * size  # drawn larger, so that edges are smooth
    icon = Image.new("RGB", (large, large), "#2a2350")
    draw = ImageDraw.Draw(icon)
    draw.ellipse([large * side for side in (0.22, 0.22, 0.78, 0.78)], fill="#f3e3b3")
    draw.ellipse([large * side for side in (0.36, 0.14, 0.84, 0.62)], fill="#2a2350")
    return icon.resize((size, size), Image.Resampling.LANCZOS)
