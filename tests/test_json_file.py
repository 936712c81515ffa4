"""JSON of strangers: bounded, and refused in one line."""

import os

import pytest

from oneiros.json_file import parse_json, read_json, read_json_lines


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00\x81",
        b"[" * 100_000,
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b"9" * 5000,
        b'["\\ud800"]',
        b'["\\u0041\\uDFFF"]',
        b'{"a": 1} {"b": 2}',
        b" " * (2**24 + 1),
    ],
    ids=lambda content: f"{content[:12]!r} and so on",
)
def test_what_is_no_json_is_one_line_that_names_the_file(tmp_path, content):
    path = tmp_path / "info.json"
    path.write_bytes(content)
    for read, where in ((read_json, str(path)), (read_json_lines, f"{path}, line 1")):
        if not content.strip() and read is read_json_lines:
            continue
        with pytest.raises(ValueError, match=f"^{where}: ") as refused:
            read(path)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 300


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "info.json")
    for read in (read_json, read_json_lines):
        with pytest.raises(ValueError, match=r"info\.json: is "):
            read(tmp_path / "info.json")


def test_values_come_back(tmp_path):
    text = '{"a": [1, 2.5, null, "\\ud83d\\ude00"], "b": ' + "[" * 60 + "]" * 60 + "}"
    (tmp_path / "rows.jsonl").write_text(f"{text}\n\n[3]\n")
    assert read_json_lines(tmp_path / "rows.jsonl") == [parse_json(text.encode(), "it"), [3]]
