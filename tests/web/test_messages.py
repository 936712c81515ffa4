"""The protocol: golden bytes, what is refused, and that the page's constants are the server's."""

import json
import math
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from oneiros.web import messages
from oneiros.web.messages import Extras, MalformedError, Picture, Thoughts, pack, parse

PROTOCOL = Path(messages.__file__).parent / "static" / "protocol.js"
RGB = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)


def test_a_plain_frame_byte_by_byte():
    golden = "4f4e525301080300020000000700000029000000000028410000c07f" + bytes(range(18)).hex()
    assert pack(Picture(RGB, frame=41, step_ms=10.5, over=True), id=7).hex() == golden


def test_everything_byte_by_byte():
    depth = messages.millimetres(np.array([[0.0, 1.5, np.nan], [70.0, -1.0, np.inf]]))
    thoughts = Thoughts(np.array([[0.0, 1.0]]), {"up": 0.5})
    picture = Picture(RGB, frame=1, depth=depth, side=RGB + 2, thoughts=thoughts)
    parts = (
        "4f4e525301070300020000000100000001000000" + "00000000" + "00000040",  # the difference is 2.0
        bytes(range(18)).hex() + "0000",
        "0000dc05fffffeff0000ffff",
        bytes(range(2, 20)).hex() + "0000",
        "0100020016000000" + "00ff" + b'{"guess": {"up": 0.5}}'.hex(),
    )
    assert pack(picture, id=1).hex() == "".join(parts)


def test_odd_sizes_keep_every_part_aligned():
    """What the docstring says, read back as the page reads it."""
    rgb = np.random.default_rng(0).integers(0, 256, (5, 3, 3), np.uint8)
    depth = np.arange(15, dtype=np.uint16).reshape(5, 3)
    message = pack(Picture(rgb, frame=0, depth=depth, side=rgb[::-1]), id=1)
    at = messages.HEADER.size
    assert at == 28
    np.testing.assert_array_equal(np.frombuffer(message, np.uint8, 45, at), rgb.ravel())
    at = -(-(at + 45) // 4) * 4
    np.testing.assert_array_equal(np.frombuffer(message, "<u2", 15, at), depth.ravel())
    at = -(-(at + 30) // 4) * 4
    np.testing.assert_array_equal(np.frombuffer(message, np.uint8, 45, at), rgb[::-1].ravel())
    assert len(message) == at + 45


def test_without_a_real_one_or_after_its_end_there_is_no_difference():
    for picture in (Picture(RGB, frame=0), Picture(RGB, frame=0, side=RGB, side_over=True)):
        assert math.isnan(struct.unpack_from("<f", pack(picture, id=1), 24)[0])


def test_requests_are_read():
    step = parse('{"id": 3, "do": "step", "action": [0, 1], "think": true}')
    assert step == messages.TakeStep(3, [0, 1], Extras(think=True))
    assert parse('{"id": 1, "do": "reset", "start": null, "seed": 4}') == messages.Reset(1, None, 4, Extras())
    assert parse('{"id": 1, "do": "rewind", "frame": 9, "depth": true}') == messages.Rewind(1, 9, Extras(depth=True))
    assert parse('{"id": 1, "do": "sampling", "min_p": 0.2}') == messages.SetSampling(1, {"min_p": 0.2})
    assert parse('{"id": 1, "do": "side", "on": true}') == messages.SetSide(1, True)
    assert parse('{"id": 1, "do": "record", "on": false}') == messages.SetRecording(1, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step", "must be JSON"),
        ("[" * 2000, "must be JSON"),
        ("9" * 4096, "must be"),
        ("[]", "must be an object"),
        ("{}", "id must be a whole number"),
        ('{"id": 0, "do": "step"}', "id must be a whole number from 1"),
        ('{"id": true, "do": "step"}', "id must be"),
        ('{"id": 4294967296, "do": "step"}', "id must be"),
        ('{"id": 1, "do": "fly"}', "'fly' is nothing to do; choose step, reset"),
        ('{"id": 1, "do": "step", "think": 1}', "think must be true or false"),
        ('{"id": 1, "do": "rewind"}', "frame must be a whole number"),
        ('{"id": 1, "do": "rewind", "frame": -1}', "frame must be"),
        ('{"id": 1, "do": "reset", "seed": 1.5}', "seed must be"),
        ('{"id": 1, "do": "sampling", "temperature": "hot"}', "temperature must be a number"),
        ('{"id": 1, "do": "sampling", "temperature": NaN}', "temperature must be a number"),
    ],
)
def test_what_no_page_sends_is_malformed(text, message):
    with pytest.raises(MalformedError, match=message):
        parse(text)


def test_answers_are_one_line():
    assert json.loads(messages.refused(3, "this\n  is wrong")) == {"id": 3, "error": "this is wrong"}
    assert json.loads(messages.done(4, side=True)) == {"id": 4, "ok": True, "side": True}


def test_the_page_knows_the_same_numbers():
    told = dict(re.findall(r"^export const ([A-Z_]+) = (.+);$", PROTOCOL.read_text(), re.MULTILINE))
    ours = {**vars(messages), "HEADER_BYTES": messages.HEADER.size, "MAGIC": messages.MAGIC.decode()}
    assert len(told) >= 15
    for name, value in told.items():
        assert json.loads(value) == ours[name], name
    assert {"HEADER_BYTES", "VERSION", "DEPTH", "SIDE", "THINKS", "OVER", "NO_DEPTH", "FULL", "MAGIC"} <= set(told)
