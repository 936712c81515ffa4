"""Ways to spoil a file, from bits to what it says: each a function of a path and a random generator."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import struct
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

CANARY = "fuzz_canary"  # a module that leaves a file where it is imported or called; see `cases`

Mutation = Callable[[Path, Random], None]


class Evil:
    """Unpickled, it would leave the canary's file."""

    def __reduce__(self) -> tuple:
        return os.mkdir, (CANARY + ".ran",)


# -- bytes -------------------------------------------------------------------------------------------------------------


def spoil_bytes(data: bytes, random: Random) -> bytes:
    """Flipped bits, a cut, a splice, a repetition, zeros, extreme numbers; nothing where there is nothing."""
    if not data:
        return random.randbytes(random.randrange(64))
    content, place = bytearray(data), random.randrange(min(len(data), random.choice((64, 512, len(data)))))
    length = random.choice((1, 4, 8, 100, 5000))
    match random.randrange(7):
        case 0 | 1:
            for _ in range(random.choice((1, 2, 8, 64))):
                content[random.randrange(min(len(data), random.choice((256, len(data)))))] ^= 1 << random.randrange(8)
        case 2:
            del content[place:]
        case 3:
            content[place : place + length] = random.randbytes(length)
        case 4:
            content[place:place] = data[place // 2 : place // 2 + length]
        case 5:
            content[place : place + length] = bytes(min(length, len(data) - place))
        case _:
            number = random.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\xff" * 8))
            content[place : place + len(number)] = number
    return bytes(content)


def any_bytes(path: Path, random: Random) -> None:
    path.write_bytes(spoil_bytes(path.read_bytes(), random))


def other_file(path: Path, random: Random) -> None:
    """Something else in its place: nothing, a folder, a pipe that nobody fills, a device, words, another file."""
    path.unlink()
    match random.randrange(7):
        case 0:
            path.touch()
        case 1:
            path.mkdir()
        case 2:
            os.mkfifo(path)
        case 3:
            path.symlink_to("/dev/zero")
        case 4:
            path.write_text(random.choice(("{}", "[]", "null", "1" * 5000, "[" * 100_000, "PK\3\4", "\0" * 100)))
        case 5:
            path.write_bytes(pickle.dumps(Evil()))
        case _:
            others = [each for each in path.parent.rglob("*") if each.is_file()]
            if others:
                shutil.copyfile(random.choice(sorted(others)), path)


# -- trees of values ---------------------------------------------------------------------------------------------------

WORDS = (
    "", "x", "../../x", "/etc/passwd", "a\nb", "[red]x[/]", "[/INST] x", "\x1b[2J\x1b]0;x\x07", "é" * 300, "nan", "\0",
    f"{CANARY}:run", f"gym:{CANARY}:X-v0", "{chunk_index:>1000000000}", "{0.__class__}", "x" * 100_000, "\ud800",
)  # fmt: skip
NUMBERS = (0, -1, 1, 3, 255, 2**31, 2**63, 10**30, -(10**12), 0.5, 1e308, float("nan"), float("inf"), True)


def value(random: Random) -> Any:
    match random.randrange(8):
        case 0 | 1 | 2:
            return random.choice(NUMBERS)
        case 3 | 4:
            return random.choice(WORDS)
        case 5:
            return random.choice((None, [], {}, [[]], [None], {"": None}, [0] * 1000, {"a": {"b": [1, "x"]}}))
        case 6:
            return [value(random) for _ in range(random.randrange(4))]
        case _:
            return nested(random.choice((50, 900)))


def nested(depth: int) -> list:
    tree: list = []
    for _ in range(depth):
        tree = [tree]
    return tree


def spoil_tree(tree: Any, random: Random) -> Any:
    """The same values but for one: replaced, left out, scaled, renamed, wrapped, or swapped with another."""
    places = [*_places(tree)]
    if not places:
        return value(random)
    parent, key = random.choice(places)
    old = parent[key]
    match random.randrange(8):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[random.choice(WORDS)] = parent.pop(key)
        case 2 if isinstance(old, int | float):
            parent[key] = random.choice((-old, old * 1000, old * 10**9, old + 1, float(old), str(old)))
        case 3:
            parent[key] = random.choice(([old], {"x": old}, str(old), None))
        case 4:
            other, place = random.choice(places)
            parent[key], other[place] = other[place], old
        case _:
            parent[key] = value(random)
    return tree


def _places(tree: Any, depth: int = 0) -> Any:
    """Every place of a value, as (what holds it, key or index)."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, below in list(items):
        yield tree, key
        if depth < 20:
            yield from _places(below, depth + 1)


def json_values(path: Path, random: Random) -> None:
    lines = path.suffix == ".jsonl"
    text = path.read_text()
    tree = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
    for _ in range(random.choice((1, 1, 1, 3))):
        tree = spoil_tree(tree, random)
    said = "\n".join(map(_dumped, tree)) if lines and isinstance(tree, list) else _dumped(tree)
    if random.random() < 0.1:
        said = re.sub(r"\d+", lambda found: random.choice((found[0], "9" * 5000)), said, count=3)
    elif random.random() < 0.05:
        said = said.replace(":", ": " + "[" * 100_000, 1)
    path.write_text(said, errors="surrogatepass")


def _dumped(tree: Any) -> str:
    return json.dumps(tree, ensure_ascii=False)


def text(path: Path, random: Random) -> None:
    """A number, or a word, of the first lines is another."""
    data = path.read_bytes()
    words = [*re.finditer(rb"[\w.+-]+", data[:2000])]
    found = random.choice(words)
    other = random.choice(
        (str(random.choice(NUMBERS)), random.choice(WORDS)[:2000], "9" * 400, "1_0", "list", "double")
    )
    path.write_bytes(data[: found.start()] + other.encode("utf-8", "replace") + data[found.end() :])


# -- formats -----------------------------------------------------------------------------------------------------------


def safetensors(path: Path, random: Random) -> None:
    """What the header says of the tensors, or their numbers."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header, content = json.loads(data[8 : 8 + size]), data[8 + size :]
    if random.random() < 0.3:
        content = random.choice((b"\xff" * len(content), spoil_bytes(content, random), content[:-8], content * 2))
    else:
        header = spoil_tree(header, random)
    said = _dumped(header).encode("utf-8", "replace")
    path.write_bytes(struct.pack("<Q", len(said)) + said + content)


def checkpoint(path: Path, random: Random) -> None:
    """state.pt with other values; or one that would run code."""
    import torch

    if random.random() < 0.1:
        torch.save({"step": Evil()}, path)
        return
    state = spoil_tree(torch.load(path, weights_only=True), random)
    if random.random() < 0.2 and isinstance(state, dict):
        state["model"] = {name: torch.zeros(1, dtype=torch.int8).expand(10**9) for name in list(state.get("model", ()))}
    torch.save(state, path)


def parquet(path: Path, random: Random) -> None:
    """A column of other values, another type, other lengths, another name, or gone; no rows, or many."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    place = random.randrange(table.num_columns)
    name, column = table.column_names[place], table.column(place).to_pylist()
    match random.randrange(8):
        case 0:
            table = table.drop_columns([name])
        case 1:
            table = table.slice(0, random.choice((0, 1, len(table) // 2)))
        case 2:
            table = table.rename_columns([random.choice(WORDS[:13]) if n == name else n for n in table.column_names])
        case 3:
            table = pa.concat_tables([table] * random.choice((2, 50)))
        case 4:
            table = table.append_column(name, table.column(place))
        case _:
            new = spoil_column(column, random, pa, np)
            table = table.set_column(place, name, new)
    pq.write_table(table, path)


def spoil_column(column: list, random: Random, pa: Any, np: Any) -> Any:
    size = len(column)
    row = random.randrange(size) if size else 0
    match random.randrange(6):
        case 0:
            return pa.array([random.choice(WORDS[:13])] * size)
        case 1:
            number = random.choice(NUMBERS[:7] + NUMBERS[8:13])
            return pa.array(np.full(size, number))
        case 2:
            return pa.array([None if at == row else old for at, old in enumerate(column)])
        case 3:
            return pa.array([[float(at)] * (at % 3) for at in range(size)])
        case 4:
            return pa.array(np.arange(size).astype("datetime64[s]"))
        case _:
            number = random.choice((-1, 0, 10**12, 2**62, -(2**62)))
            try:
                return pa.array([number if at == row else old for at, old in enumerate(column)])
            except (pa.ArrowException, OverflowError, TypeError, ValueError):
                return pa.array([[number]] * size)


def npy(path: Path, random: Random) -> None:
    """Another header, with the same content; an npz; an array of something else."""
    import numpy as np

    kinds = ("<i8", ">f8", "<U10", "|O", "<M8[s]", "|V0", "|b1", "<c16", "<f4", "|S0", "<f2")
    array = np.load(path)
    match random.randrange(5):
        case 0:
            with path.open("wb") as file:
                np.savez(file, array)
        case 1:
            path.unlink()
            np.save(path.with_suffix(".npy"), array[: random.randrange(2)].repeat(random.randrange(3), 0))
        case 2:
            fields = [(name, random.choice(kinds)) for name in ("x", "y", "z", random.choice(WORDS[:13]) or "w")]
            _npy_header(path, array.tobytes(), repr(fields), f"({len(array)},)")
        case 3:
            shape = [random.choice(NUMBERS[:9]), random.choice((*NUMBERS[:9], 3, 4))]
            _npy_header(path, array.tobytes(), repr("<f8"), f"({shape[0]}, {shape[1]})")
        case _:
            count = random.choice((0, -1, 10**6, 10**12, 2**63, "'x'", "1.5", "None", len(array)))
            _npy_header(path, array.tobytes(), repr(array.dtype.descr if array.dtype.names else "<f8"), f"({count},)")


def _npy_header(path: Path, content: bytes, descr: str, shape: str) -> None:
    said = f"{{'descr': {descr}, 'fortran_order': {len(content) % 2 == 1}, 'shape': {shape}, }}"
    head = said.encode("utf-8", "replace").ljust(118) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", min(len(head), 65535)) + head + content)


# field: place, type. Of the ASPRS LAS 1.4 header, and of the LAZ record behind it
_LAS = (
    (6, "H"), (24, "B"), (25, "B"), (94, "H"), (96, "I"), (100, "I"), (104, "B"), (105, "H"), (107, "I"), (111, "I"),
    (131, "d"), (155, "d"), (179, "d"), (187, "d"), (211, "d"), (227, "Q"), (235, "Q"), (243, "I"), (247, "Q"),
)  # fmt: skip
_EXTREMES = {
    "B": (0, 1, 9, 63, 128, 255),
    "H": (0, 1, 7, 33, 1000, 65535),
    "I": (0, 1, 10, 10**6, 2**31, 2**32 - 1),
    "Q": (0, 1, 400, 10**6, 10**12, 2**63, 2**64 - 1),
    "d": (0.0, -1.0, 1e-300, 1e300, float("nan"), float("inf")),
}


def las(path: Path, random: Random) -> None:
    """Fields of the header; of a LAZ also its record, where points begin, and the table of chunks."""
    content = bytearray(path.read_bytes())
    for _ in range(random.choice((1, 1, 2))):
        place, kind = random.choice(_LAS)
        if random.random() < 0.5 and path.suffix == ".laz":
            points = struct.unpack_from("<I", content, 96)[0]
            record = content.find(b"laszip encoded")
            table = struct.unpack_from("<q", content, points)[0]
            near = random.choice((record + 52, points, table, points + 8))
            place, kind = near + random.randrange(0, 40, 2), random.choice("BHIQ")
            place, kind = (points, "Q") if random.random() < 0.2 else (place, kind)
        if 0 <= place <= len(content) - struct.calcsize(kind):
            struct.pack_into(f"<{kind}", content, place, random.choice(_EXTREMES[kind]))
    path.write_bytes(content)


def archive(path: Path, random: Random) -> None:
    """One byte of the pickle within state.pt, which a zip's checksums would hide: stored anew."""
    import zipfile

    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    target = random.choice([name for name in parts if name.endswith("data.pkl")] * 3 + [*parts])
    parts[target] = spoil_bytes(parts[target], random)
    written = BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as new:
        for name, content in parts.items():
            new.writestr(name, content)
    path.write_bytes(written.getvalue())


_BY_NAME: dict[str, Sequence[Mutation]] = {
    ".json": (json_values,),
    ".jsonl": (json_values,),
    ".safetensors": (safetensors,),
    ".pt": (checkpoint, archive),
    ".parquet": (parquet,),
    ".npy": (npy,),
    ".ply": (text,),
    ".las": (las,),
    ".laz": (las,),
}


def mutate(path: Path, random: Random) -> str:
    """Spoil a file; returns how."""
    own = _BY_NAME.get(path.suffix, (any_bytes,))
    chosen = random.choice((*own * 3, *own * 3, any_bytes, any_bytes, other_file))
    try:
        chosen(path, random)
    except (ImportError, NameError, SyntaxError):
        raise
    except Exception:  # a value that this format cannot hold
        chosen = any_bytes
        if path.is_file():
            chosen(path, random)
    return chosen.__name__
