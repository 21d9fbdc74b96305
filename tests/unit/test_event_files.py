"""Reading events out of files: the bytes stay as they were, and a fault is named by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import HandoffError
from worker.ops import event_files


def test_a_file_of_one_document_is_sent_byte_for_byte(tmp_path: Path) -> None:
    raw = b'{\n  "id": "a",\r\n  "price": 1.50\n}\n'
    file = tmp_path / "event.json"
    file.write_bytes(raw)
    assert event_files.read_file(str(file)) == [event_files.FileEvent(raw, str(file))]


def test_an_arrays_elements_keep_their_own_text() -> None:
    events = event_files.parse(b'[ {"id": "a", "n": 1.50},\n {"id":"b"} ]', "f.json")
    assert [event.body for event in events] == [b'{"id": "a", "n": 1.50}', b'{"id":"b"}']
    assert [event.where for event in events] == ["f.json[0]", "f.json[1]"]


def test_json_lines_are_one_event_a_line_and_blank_lines_are_passed_over() -> None:
    events = event_files.parse(b'{"id":"a"}\n\n{"id":"b"}\r\n', "f.jsonl")
    assert [event.body for event in events] == [b'{"id":"a"}', b'{"id":"b"}']
    assert [event.where for event in events] == ["f.jsonl:1", "f.jsonl:3"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "f: is empty"),
        (b' \n{"id":"a"}\n{"id":\n', "f: line 3, column"),
        (b'{\n "id": "a",\n "secret": sarah\n}', "f: line 3, column 12: Expecting value"),
        (b'{"id":"a"}\n[1]\n', "f: line 2: is not a JSON object"),
        (b'[{"id":"a"}, 7]', "f[1]: is not a JSON object"),
        (b'{\n"id": "\xff"}', "f: line 2: is not UTF-8"),
        (b"[" * 100_000, "f: line 1: is nested too deeply"),
    ],
)
def test_a_fault_names_the_file_and_the_line_and_quotes_nothing(data: bytes, message: str) -> None:
    with pytest.raises(HandoffError) as raised:
        event_files.parse(data, "f")
    assert str(raised.value).startswith(message)
    assert "sarah" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_one_line() -> None:
    with pytest.raises(HandoffError, match=r"^nowhere\.json: No such file"):
        event_files.read_file("nowhere.json")
