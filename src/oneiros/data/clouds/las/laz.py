"""Whether a LAZ can be decoded here: a damaged one makes the decoder panic, abort, or ask for all memory there is.

A file whose table of chunks agrees with its header and its length is decoded in this process. Any other one is first
decoded in a process of its own, whose memory and time are limited.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import laspy

lazrs: Any = import_module("lazrs")  # compiled, without types

GIGABYTE, SECONDS = 1 << 30, 15  # of memory and of computing that a trial may take
_CHUNK = 1 << 28  # bytes of the points of one chunk, which is decoded at once; usual are 2 MB
_SAID = 3  # exit code of a trial that says in one line why it failed
_RATIO = 200  # compressed to a smaller part than this, it is no cloud that anybody measured
_ITEMS = struct.Struct("<3H")  # type, size, version
_LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}  # of the items of point formats 6 to 10; an extra byte (14) is a layer


def check_laz(path: Path, header: laspy.LasHeader) -> None:
    """ValueError where decoding the file fails, or would take more than a gigabyte; reads no point of ordinary ones."""
    with path.open("rb") as file:
        try:
            believed = _believed(file, path.stat().st_size, header)
        except (lazrs.LazrsError, struct.error, ValueError, IndexError):
            believed = False
    if not believed:
        status = path.stat()
        _try(path, status.st_size, status.st_mtime_ns)


def _believed(file: BinaryIO, size: int, header: laspy.LasHeader) -> bool:
    """Whether the chunks fill the place between the header and their table, and hold all points."""
    record = header.vlrs.get("LasZipVlr")[0].record_data_bytes()
    laszip, length, count = lazrs.LazVlr(record), header.point_format.size, header.point_count
    start, fixed = header.offset_to_point_data + 8, not laszip.uses_variable_size_chunks()
    file.seek(start - 8)
    (end,) = struct.unpack("<q", file.read(8))
    if laszip.item_size() != length or not start <= end <= size - 8 or count * length > _RATIO * (end - start):
        return False
    file.seek(end)
    _, number = struct.unpack("<II", file.read(8))
    if number > (end - start) // length:  # each begins with a whole point
        return False
    if fixed and (laszip.chunk_size() < 1 or number != -(-count // laszip.chunk_size())):
        return False
    file.seek(start - 8)
    chunks = lazrs.read_chunk_table(file, laszip)
    points, sizes = [each for each, _ in chunks], [each for _, each in chunks]
    if sum(points) < count or sum(sizes) != end - start or min(sizes) < length:
        return False
    if max(points) * length > _CHUNK:
        return False
    layers = _num_layers(record)
    return not layers or _layers_fit(file, start, sizes, length, layers)


def _num_layers(record: bytes) -> int:
    """How many layers a chunk has; 0 where points are coded one after another."""
    items = [*_ITEMS.iter_unpack(record[34 : 34 + _ITEMS.size * struct.unpack_from("<H", record, 32)[0]])]
    return sum(_LAYERS.get(kind, size if kind == 14 else 0) for kind, size, _ in items)


def _layers_fit(file: BinaryIO, start: int, sizes: list[int], length: int, layers: int) -> bool:
    """Whether each chunk is its first point, a count, the sizes of its layers, and the layers."""
    for size in sizes:
        file.seek(start + length + 4)
        if length + 4 + 4 * layers + sum(struct.unpack(f"<{layers}I", file.read(4 * layers))) != size:
            return False
        start += size
    return True


@lru_cache(maxsize=64)
def _try(path: Path, size: int, changed: int) -> None:
    """ValueError unless a process of its own decodes the file, which is of this size and was changed then."""
    environment = os.environ | {"MALLOC_ARENA_MAX": "2", "RAYON_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-c", _TRIAL, str(path.absolute())]
    try:
        trial = subprocess.run(command, env=environment, capture_output=True, timeout=10 * SECONDS, check=False)
        code, said = trial.returncode, trial.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired:
        code, said = -1, ""
    if code:
        why = said if code == _SAID else f"decoding it crashes, or takes more than a gigabyte or {SECONDS} seconds"
        raise ValueError(f"{path}: cannot be read as LAS or LAZ: damaged or cut off ({why})")


_TRIAL = f"""
import os, resource, sys
import laspy
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS},) * 2)
if os.path.exists("/proc/self/statm"):  # Linux
    mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + {GIGABYTE},) * 2)
try:
    with laspy.open(sys.argv[1]) as reader:
        left = reader.header.point_count - sum(map(len, reader.chunk_iterator(100_000)))
    if left:
        raise ValueError(f"it holds {{left:,}} points fewer than it promises")
except MemoryError:
    raise
except BaseException as error:
    print(error, file=sys.stderr)
    sys.exit({_SAID})
"""
