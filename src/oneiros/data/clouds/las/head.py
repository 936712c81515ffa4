"""The bytes of a LAS file before its points, kept as they are but for the few fields that must change.

Offsets are those of the ASPRS LAS 1.4 specification (R15): table 3 for the header, section 2.5 for the records.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_HEADER_SIZE, _POINT_OFFSET, _NUM_RECORDS, _RECORD_LENGTH = 94, 96, 100, 105
_WAVEFORMS, _EXTENDED, _NUM_EXTENDED = 227, 235, 243  # from LAS 1.3, and twice from 1.4 on
_RECORD, _EXTENDED_RECORD = struct.Struct("<H16sHH32s"), struct.Struct("<H16sHQ32s")
_EXTRA_BYTES = ("LASF_Spec", 4)
_DESCRIPTOR = struct.Struct("<2xBB32s4x120x32s")  # type, options, name, description of some extra bytes
_UNDESCRIBED, _FLOAT = 0, 9
# table 24: bytes of each type; 11 to 20 and 21 to 30 are (deprecated) pairs and triples of the same
_TYPE_SIZES = (1, 1, 2, 2, 4, 4, 8, 8, 4, 8)
LASZIP, COPC = ("laszip encoded", 22204), ("copc", 1)

Identity = tuple[str, int]  # user id and record id


def check_head(path: Path) -> None:
    """ValueError unless the header's counts and offsets fit into the file: laspy would follow them for hours."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_NUM_EXTENDED + 4)
    if header[:4] != b"LASF":
        raise ValueError(f"{path}: is no LAS or LAZ file: it begins with {header[:4]!r}, not with b'LASF'")
    if len(header) < _WAVEFORMS:
        raise ValueError(f"{path}: is cut off: {size} bytes are less than a header")
    length, points, number = (
        _get(header, *f) for f in (("H", _HEADER_SIZE), ("I", _POINT_OFFSET), ("I", _NUM_RECORDS))
    )
    if length + number * _RECORD.size > points or points > size:
        raise ValueError(
            f"{path}: is damaged or cut off: its header of {length} bytes promises {number:,} records and points "
            f"from byte {points:,} on, the file has {size:,} bytes"
        )
    if length >= _NUM_EXTENDED + 4:
        start, number = _get(header, "Q", _EXTENDED), _get(header, "I", _NUM_EXTENDED)
        if number and start + number * _EXTENDED_RECORD.size > size:
            raise ValueError(
                f"{path}: is damaged or cut off: {number:,} extended records from byte {start:,} on, "
                f"the file has {size:,} bytes"
            )
        _check_extended(path, start, number, size)


def _check_extended(path: Path, start: int, number: int, size: int) -> None:
    """ValueError unless extended records lie one after another within the file."""
    with path.open("rb") as file:
        for _ in range(number):
            file.seek(start)
            header = file.read(_EXTENDED_RECORD.size)
            if len(header) < _EXTENDED_RECORD.size or start + len(header) + _EXTENDED_RECORD.unpack(header)[3] > size:
                raise ValueError(f"{path}: is damaged or cut off: its extended record at byte {start:,} does not end")
            start += len(header) + _EXTENDED_RECORD.unpack(header)[3]


@dataclass
class LasRecord:
    """A variable length record: its 54 bytes of header and its data."""

    header: bytes
    data: bytes

    @property
    def identity(self) -> Identity:
        _, user, number, _, _ = _RECORD.unpack(self.header)
        return user.split(b"\0")[0].decode("ascii", "replace"), number

    @classmethod
    def new(cls, identity: Identity, data: bytes, description: str) -> LasRecord:
        user, number = identity
        return cls(_RECORD.pack(0, user.encode(), number, len(data), description.encode()), data)

    def to_bytes(self) -> bytes:
        reserved, user, number, _, description = _RECORD.unpack(self.header)
        return _RECORD.pack(reserved, user, number, len(self.data), description) + self.data


@dataclass
class Head:
    """header: the public header. records: in order. gap: what stands between the last record and the points."""

    header: bytearray
    records: list[LasRecord]
    gap: bytes

    @classmethod
    def read(cls, path: Path) -> Head:
        """The head of a file that laspy has opened before, so that it is known to be whole."""
        with path.open("rb") as file:
            header = bytearray(file.read(_HEADER_SIZE + 2))
            header += file.read(_get(header, "H", _HEADER_SIZE) - len(header))
            records = [_read_record(file) for _ in range(_get(header, "I", _NUM_RECORDS))]
            return cls(header, records, file.read(_get(header, "I", _POINT_OFFSET) - file.tell()))

    def to_bytes(self) -> bytes:
        """Everything before the points, the counts and offsets of this head brought up to date."""
        records = b"".join(record.to_bytes() for record in self.records)
        _set(self.header, "I", _NUM_RECORDS, len(self.records))
        _set(self.header, "I", _POINT_OFFSET, len(self.header) + len(records) + len(self.gap))
        return bytes(self.header) + records + self.gap

    def find(self, identity: Identity) -> LasRecord | None:
        return next((record for record in self.records if record.identity == identity), None)

    def drop(self, identity: Identity) -> None:
        self.records = [record for record in self.records if record.identity != identity]

    @property
    def record_length(self) -> int:
        """Bytes of one point."""
        return _get(self.header, "H", _RECORD_LENGTH)

    @property
    def tail_start(self) -> int | None:
        """Where waveforms and extended records begin, which follow the points; None where there are none."""
        return min((start for start in map(self._offset, (_WAVEFORMS, _EXTENDED)) if start), default=None)

    def shift_tail(self, by: int) -> None:
        """Say that the tail lies `by` bytes farther on."""
        for place in (_WAVEFORMS, _EXTENDED):
            if start := self._offset(place):
                _set(self.header, "Q", place, start + by)

    def _offset(self, place: int) -> int:
        return _get(self.header, "Q", place) if len(self.header) >= place + 8 else 0

    def append_floats(self, names: Sequence[str], *, num_extra_bytes: int) -> None:
        """Describe further extra bytes, a float32 for each name, at the end of every point.

        num_extra_bytes: how many the points have already; those that no record describes get a description too,
        or readers would take the new ones for them.
        """
        if not names:
            return
        old = b"".join(record.data for record in self.records if record.identity == _EXTRA_BYTES)
        described = [
            fields for fields in _DESCRIPTOR.iter_unpack(old[: len(old) // _DESCRIPTOR.size * _DESCRIPTOR.size])
        ]
        undescribed = num_extra_bytes - sum(_described_size(*fields) for fields in described)
        if undescribed < 0:  # of bytes that no point has, which readers ignore
            old, undescribed = b"", num_extra_bytes
        if undescribed:
            old += _descriptor("ExtraBytes", _UNDESCRIBED, undescribed)
        data = old + b"".join(_descriptor(name, _FLOAT, 0) for name in names)
        merged = LasRecord.new(_EXTRA_BYTES, data, "Extra bytes")
        place = next((k for k, record in enumerate(self.records) if record.identity == _EXTRA_BYTES), len(self.records))
        self.drop(_EXTRA_BYTES)
        self.records.insert(place, merged)
        _set(self.header, "H", _RECORD_LENGTH, self.record_length + 4 * len(names))

    def copy_extended(self, source: BinaryIO, out: BinaryIO, keep: Callable[[Identity], bool]) -> None:
        """Copy those extended records whose identity is to be kept, and count them."""
        place, kept = self._offset(_EXTENDED), 0
        start = out.tell()
        for _ in range(_get(self.header, "I", _NUM_EXTENDED) if place else 0):
            source.seek(place)
            header = source.read(_EXTENDED_RECORD.size)
            _, user, number, size, _ = _EXTENDED_RECORD.unpack(header)
            if keep((user.split(b"\0")[0].decode("ascii", "replace"), number)):
                out.write(header + source.read(size))
                kept += 1
            place += _EXTENDED_RECORD.size + size
        _set(self.header, "I", _NUM_EXTENDED, kept)
        _set(self.header, "Q", _EXTENDED, start if kept else 0)


def _read_record(file: BinaryIO) -> LasRecord:
    header = file.read(_RECORD.size)
    return LasRecord(header, file.read(_RECORD.unpack(header)[3]))


def _descriptor(name: str, kind: int, options: int) -> bytes:
    if len(name.encode()) > 32:
        raise ValueError(f"{name!r} is longer than the 32 bytes that LAS has for a name; shorten the class's name")
    return _DESCRIPTOR.pack(kind, options, name.encode(), b"")


def _described_size(kind: int, options: int, name: bytes, description: bytes) -> int:
    return options if kind == _UNDESCRIBED else _TYPE_SIZES[(kind - 1) % 10] * ((kind - 1) // 10 + 1)


def _get(data: bytes | bytearray, kind: str, place: int) -> int:
    return struct.unpack_from(f"<{kind}", data, place)[0]


def _set(data: bytearray, kind: str, place: int, value: int) -> None:
    struct.pack_into(f"<{kind}", data, place, value)
