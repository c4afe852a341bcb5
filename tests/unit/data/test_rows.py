"""Rows survive a round trip, every kind of bad line is named, a failing write changes nothing.

Not tested here: that a file survives a power cut.
"""

import errno
import json
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undertow.data.rows import BadLine, Shape, bad_lines, load_rows, open_rows, read_prompts, read_rows, write_rows
from undertow.data.tables import write_blocks
from undertow.errors import EmptyDataError, RowsError, StorageError
from undertow.types import Message, Row, user_prompt

GOOD = b'{"prompt": "Hi", "completion": "1, 2"}'
ROW = Row("a", user_prompt("Hi"), "1, 2")

_messages = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text())
_rows = st.builds(Row, st.text(), st.lists(_messages, min_size=1).map(tuple), st.text(), st.lists(st.text()).map(tuple))


def _file(folder: Path, *lines: bytes) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(b"\n".join(lines))
    return path


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(_rows, max_size=5, unique_by=lambda row: row.id))
def test_rows_survive_a_round_trip(rows: list[Row], tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.getbasetemp() / "round-trip.jsonl"
    write_rows(path, rows)
    assert read_rows(path) == tuple(rows)
    content = path.read_bytes()
    write_rows(path, read_rows(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"prompt": "Hi", "completion": "1, 2"}, user_prompt("Hi")),
        ({"prompt": "Hi", "completion": [{"role": "assistant", "content": "1, 2"}]}, user_prompt("Hi")),
        ({"prompt": [{"role": "user", "content": "Hi"}], "completion": "1, 2"}, user_prompt("Hi")),
        (
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "1, 2"}], "prompt": 3},
            user_prompt("Hi"),
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be kind."},
                    {"role": "user", "content": "Hi", "name": "x"},
                    {"role": "assistant", "content": "1, 2"},
                ]
            },
            user_prompt("Hi", "Be kind."),
        ),
        ({"messages": None, "id": None, "reasons": None, "prompt": "Hi", "completion": "1, 2"}, user_prompt("Hi")),
        ({"prompt": "Hi", "completion": "1, 2", "source": {"a": 1}}, user_prompt("Hi")),
        ({"question": "Hi", "response": "1, 2", "prompt": None}, user_prompt("Hi")),
        ({"question": 1, "prompt": "Hi", "completion": "1, 2"}, user_prompt("Hi")),
    ],
)
def test_every_shape_loads(record: object, prompt: tuple[Message, ...], tmp_path: Path):
    path = _file(tmp_path, json.dumps(record).encode())
    assert read_rows(path) == (Row("000000", prompt, "1, 2"),)


def test_ids_and_reasons_are_read(tmp_path: Path):
    path = _file(
        tmp_path,
        b'{"id": 7, "prompt": "p", "completion": "", "reasons": ["empty"]}',
        b'{"id": "x", "prompt": "", "completion": "c"}',
        b"",
        b'{"prompt": "p", "completion": "c"}',
    )
    rows = read_rows(path)
    assert [row.id for row in rows] == ["7", "x", "000003"]
    assert [row.reasons for row in rows] == [("empty",), (), ()]
    assert [row.completion for row in rows] == ["", "c", "c"]


def test_byte_order_mark_blank_lines_and_line_separators_are_harmless(tmp_path: Path):
    separator = '{"prompt": "a\u2028b", "completion": "1\x85"}'.encode()
    path = _file(tmp_path, b"\xef\xbb\xbf" + GOOD + b"\r", b"  \r", b"", separator, b"")
    rows = read_rows(path)
    assert [row.prompt[0].content for row in rows] == ["Hi", "a\u2028b"]
    assert rows[1].completion == "1\x85"


BAD = {
    b"{": "not JSON",
    b"[" * 100_000: "not JSON",
    b"\xff\xfe{": "not UTF-8",
    b'"text"': "not a JSON object",
    b"[1, 2]": "not a JSON object",
    b"{}": "no prompt",
    b'{"completion": "c"}': "no prompt",
    b'{"prompt": [], "completion": "c"}': "no prompt",
    b'{"messages": [{"role": "assistant", "content": "c"}]}': "no prompt",
    b'{"prompt": "p"}': "no completion",
    b'{"prompt": "p", "completion": null}': "no completion",
    b'{"messages": []}': "no completion: the last message is not the assistant's",
    b'{"messages": [{"role": "user", "content": "p"}]}': "no completion: the last message is not the assistant's",
    b'{"prompt": 1, "completion": "c"}': "prompt is not text",
    b'{"prompt": "p", "completion": {"a": 1}}': "completion is not text",
    b'{"prompt": "p", "completion": []}': "completion is not one assistant message",
    b'{"prompt": "p", "completion": [{"role": "user", "content": "c"}]}': "completion is not one assistant message",
    b'{"messages": "p"}': "messages is not a list of messages",
    b'{"messages": [3]}': "messages[0].role is None, not system, user or assistant",
    b'{"messages": [{"role": ["user"], "content": "p"}]}': (
        "messages[0].role is ['user'], not system, user or assistant"
    ),
    b'{"prompt": [{"role": "tool", "content": "p"}], "completion": "c"}': (
        "tool calls are not read (prompt[0] is a turn of the role 'tool')"
    ),
    b'{"prompt": [{"role": "user", "content": null}], "completion": "c"}': "prompt[0].content is not text",
    b'{"prompt": "p", "completion": "\\ud800"}': "completion holds half a surrogate pair",
    b'{"question": "p"}': "no response",
    b'{"prompt": "p", "answer": "c"}': "no completion",
    b'{"question": "p", "response": 1}': "response is not text",
    b'{"id": true, "prompt": "p", "completion": "c"}': "id is not text",
    b'{"id": 1.5, "prompt": "p", "completion": "c"}': "id is not text",
    b'{"reasons": ["r", 1], "prompt": "p", "completion": "c"}': "reasons[1] is not text",
    b'{"id": "000000", "prompt": "p", "completion": "c"}': "id '000000' appeared in line 1",
}


@pytest.mark.parametrize(("line", "reason"), BAD.items(), ids=range(len(BAD)))
def test_a_bad_line_is_named_and_the_good_ones_are_kept(line: bytes, reason: str, tmp_path: Path):
    path = _file(tmp_path, GOOD, line, GOOD)
    loaded = load_rows(path)
    assert [row.id for row in loaded.rows] == ["000000", "000002"]
    assert loaded.bad == (BadLine(str(path), 2, reason),)
    assert str(loaded.bad[0]) == f"{path}:2: {reason}"


def test_strict_reading_names_the_first_bad_lines_and_counts_the_rest(tmp_path: Path):
    path = _file(tmp_path, GOOD, *[b"{"] * 7)
    with pytest.raises(RowsError) as caught:
        read_rows(path)
    assert caught.value.what == "7 of 8 lines are not rows."
    assert caught.value.value == "; ".join(f"{path}:{line}: not JSON" for line in range(2, 7)) + "; and 2 more"
    assert str(bad_lines(load_rows(path))) == str(caught.value)


def test_lenient_reading_warns_and_keeps_the_good_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = _file(tmp_path, GOOD, b"{")
    with caplog.at_level(logging.WARNING):
        assert read_rows(path, strict=False) == (Row("000000", user_prompt("Hi"), "1, 2"),)
    assert f"{path}:2: not JSON" in caplog.text


def test_no_file_and_a_folder_are_refused(tmp_path: Path):
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(RowsError, match="no row file here"):
            load_rows(path)


def test_an_unreadable_file_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = _file(tmp_path, GOOD)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        load_rows(path)


def test_bytes_are_exactly_these(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    rows = [
        ROW,
        Row("b", user_prompt("Grüße", "Sei nett."), "naïve\n\u2028", ("empty", "too_many")),
        Row("c", (Message("assistant", "x"),), ""),
    ]
    write_rows(path, rows)
    assert path.read_text(encoding="utf-8").split("\n") == [
        '{"id": "a", "prompt": "Hi", "completion": "1, 2"}',
        '{"id": "b", "prompt": [{"role": "system", "content": "Sei nett."}, {"role": "user", "content": "Grüße"}], '
        '"completion": [{"role": "assistant", "content": "naïve\\n\u2028"}], "reasons": ["empty", "too_many"]}',
        '{"id": "c", "prompt": [{"role": "assistant", "content": "x"}], '
        '"completion": [{"role": "assistant", "content": ""}]}',
        "",
    ]


def test_no_rows_are_an_empty_file(tmp_path: Path):
    write_rows(tmp_path / "rows.jsonl", iter(()))
    assert (tmp_path / "rows.jsonl").read_bytes() == b""
    assert read_rows(tmp_path / "rows.jsonl") == ()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Row("a", user_prompt("p"), "c"), "id 'a' appeared in line 1"),
        (Row("b", (), "c"), "no prompt"),
        (Row("b", user_prompt("p"), "\ud800"), "completion holds half a surrogate pair"),
        (Row(1, user_prompt("p"), "c"), "a field of the row has the wrong type"),  # pyright: ignore
    ],
)
def test_a_row_that_would_not_come_back_leaves_the_old_file(row: Row, reason: str, tmp_path: Path):
    path = _file(tmp_path, GOOD)
    with pytest.raises(RowsError) as caught:
        write_rows(path, [ROW, row])
    assert caught.value.value == f"row 2: {reason}"
    assert path.read_bytes() == GOOD
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = _file(tmp_path, GOOD)
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StorageError, match="No space left on device"):
        write_rows(path, [ROW])
    assert path.read_bytes() == GOOD
    assert list(tmp_path.iterdir()) == [path]


def test_rows_that_break_off_leave_the_old_file(tmp_path: Path):
    def broken():
        yield ROW
        raise KeyboardInterrupt

    path = _file(tmp_path, GOOD)
    with pytest.raises(KeyboardInterrupt):
        write_rows(path, broken())
    assert path.read_bytes() == GOOD


def test_a_missing_folder_is_a_storage_error(tmp_path: Path):
    with pytest.raises(StorageError, match="No such file or directory"):
        write_rows(tmp_path / "none" / "rows.jsonl", [ROW])


@pytest.mark.parametrize("skip", ["[-1]", "[1.5]", "[true]", '["1"]'])
def test_places_to_skip_are_whole_numbers_from_0(tmp_path, skip: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"prompt": "a", "completion": "b", "skip": {skip}}}\n')
    with pytest.raises(RowsError, match="skip is not a list of whole numbers"):
        read_rows(path)


def test_places_to_skip_survive_a_round_trip(tmp_path) -> None:
    rows = [Row("0", user_prompt("a"), "b c", skip=(0, 2)), Row("1", user_prompt("a"), "b")]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert (
        list(read_rows(tmp_path / "rows.jsonl")) == rows
        and "skip" not in (tmp_path / "rows.jsonl").read_text().splitlines()[1]
    )


def test_prompts_are_lines_of_text_or_what_rows_ask(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffHello?\n\n  {not json}  \n", encoding="utf-8")
    assert read_prompts(tmp_path / "a.txt") == (user_prompt("Hello?"), user_prompt("{not json}"))
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    lines = [{"prompt": "p", "completion": "c"}, {"messages": chat}, {"prompt": chat[:2]}]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read_prompts(tmp_path / "b.jsonl") == (user_prompt("p"), user_prompt("u", "s"), user_prompt("u", "s"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[]\n", "not a JSON object"),
        (b'{"completion": "c"}', "no prompt"),
        (b'{"prompt": 3}', "prompt is not text"),
        (b'{"messages": []}', "no prompt"),
    ],
)
def test_a_line_that_is_no_prompt_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"prompt": "p"}\n' + content)
    with pytest.raises(RowsError) as caught:
        read_prompts(tmp_path / "a.jsonl")
    assert f"a.jsonl:2: {said}" in str(caught.value)
    with pytest.raises(RowsError, match="no file of prompts"):
        read_prompts(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(EmptyDataError):
        read_prompts(tmp_path / "empty.txt")


def test_questions_are_prompts_and_text_must_be_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "p", "response": "c"}')
    assert read_prompts(tmp_path / "a.jsonl") == (user_prompt("p"),)
    (tmp_path / "a.txt").write_bytes(b"p\n\xff\n")
    with pytest.raises(RowsError, match=r"a\.txt:2: not UTF-8"):
        read_prompts(tmp_path / "a.txt")


def test_rows_are_read_one_by_one_and_keep_their_further_keys_on_request(tmp_path: Path) -> None:
    both = b'{"prompt": "p", "completion": "c", "question": "kept", "rank": null, "skip": []}'
    path = _file(tmp_path, both, b"{", b'{"question": "q", "response": "r", "prompt": null}')
    first, bad, last = open_rows(path, more=True)
    assert first == (Row("000000", user_prompt("p"), "c"), {"question": "kept", "rank": None})
    assert bad == BadLine(str(path), 2, "not JSON") and last == (Row("000002", user_prompt("q"), "r"), {})
    assert load_rows(path, more=True).more == ({"question": "kept", "rank": None}, {}) and load_rows(path).more == ()
    started = open_rows(path)
    assert next(started) == (Row("000000", user_prompt("p"), "c"), {})


@pytest.mark.parametrize(
    ("shape", "first", "second"),
    [
        (
            "chat",
            {"prompt": [{"role": "user", "content": "p"}], "completion": [{"role": "assistant", "content": "c"}]},
            2,
        ),
        ("messages", {"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}]}, 3),
    ],
)
def test_shapes(shape: Shape, first: dict[str, object], second: int, tmp_path: Path) -> None:
    rows = (Row("1", user_prompt("p"), "c"), Row("2", user_prompt("q", "s"), "d"))
    write_rows(tmp_path / "a.jsonl", rows, shape=shape)
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert records[0] == {"id": "1", **first} and len(records[1].get("messages", records[1].get("prompt"))) == second
    assert read_rows(tmp_path / "a.jsonl") == rows
    write_rows(tmp_path / "a.jsonl", rows[:1], shape="text")
    assert (tmp_path / "a.jsonl").read_text() == '{"id": "1", "prompt": "p", "completion": "c"}\n'
    with pytest.raises(RowsError, match="row 2: its prompt is more than one user turn"):
        write_rows(tmp_path / "a.jsonl", rows, shape="text")


@pytest.mark.parametrize("value", [b"x", "\ud800", {1, 2}])
def test_further_keys_that_json_cannot_hold(value: object, tmp_path: Path) -> None:
    with pytest.raises(RowsError, match="row 1"):
        write_rows(tmp_path / "a.jsonl", [ROW], [{"key": value}])
    assert not (tmp_path / "a.jsonl").exists()


def test_tables_are_read_and_written_like_lines(tmp_path: Path) -> None:
    for name in ("a.parquet", "folder"):
        write_rows(tmp_path / name, [ROW, Row("b", user_prompt("q", "s"), "d")], [{"key": 1}, {"key": 2}])
        assert load_rows(tmp_path / name, more=True).more == ({"key": 1}, {"key": 2})
        assert read_prompts(tmp_path / name) == (user_prompt("Hi"), user_prompt("q", "s"))
    write_rows(tmp_path / "none.parquet", ())
    assert read_rows(tmp_path / "none.parquet") == ()
    with pytest.raises(RowsError, match="undertow publish"):
        write_rows("hf:me/rows", [ROW])
    write_blocks(tmp_path / "b.parquet", lambda: iter([[{"text": "x"}]]))
    with pytest.raises(RowsError, match="columns text"):
        load_rows(tmp_path / "b.parquet")


def test_further_keys_are_written_and_not_read(tmp_path: Path) -> None:
    rows = [Row("1", user_prompt("p"), "c"), Row("2", user_prompt("q"), "d")]
    write_rows(tmp_path / "a.jsonl", rows, [{"rank": 1, "id": "never"}, {"rank": 2}])
    assert [json.loads(line)["rank"] for line in (tmp_path / "a.jsonl").read_text().splitlines()] == [1, 2]
    assert list(read_rows(tmp_path / "a.jsonl")) == rows
