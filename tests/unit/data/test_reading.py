"""Options behind a file's name, pairs, files that are no lines, and what is written: exact, or refused by name."""

import json
import logging
import os
import sys
import threading
from pathlib import Path

import pytest

from undertow.data.pairs import read_pairs
from undertow.data.reading import Reading, split_source
from undertow.data.rows import bad_lines, load_rows, open_rows, read_prompts, read_rows, write_rows
from undertow.data.shapes import NAMES
from undertow.errors import ConfigError, EmptyDataError, MissingExtraError, RowsError, StorageError, UnknownNameError
from undertow.types import Message, PreferencePair, Row, user_prompt

PLAIN = {"prompt": "5, 6", "completion": "7, 8"}
ROW = Row("000000", user_prompt("5, 6"), "7, 8")


def written(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def test_options_are_read_and_written_alike() -> None:
    options = "shape=sharegpt&ids=my%20key&turns=all&side=rejected&reasoning=drop"
    reading = Reading.parse(options, NAMES)
    assert reading == Reading(shape="sharegpt", ids="my key", turns="all", side="rejected", reasoning="drop")
    assert str(reading) == options and str(Reading()) == ""
    assert split_source("hf:a/b@main:train?ids=new", NAMES) == ("hf:a/b@main:train", Reading(ids="new"))
    assert split_source(Path("what?.jsonl"), NAMES) == ("what?.jsonl", Reading())


@pytest.mark.parametrize("options", ["shape=alpaca2", "form=x", "turns=none", "reasoning=", "ids=a&ids=b", "ids"])
def test_options_that_mean_nothing_are_refused(options: str) -> None:
    with pytest.raises((UnknownNameError, ConfigError)):
        Reading.parse(options, NAMES)


def test_a_file_of_the_whole_name_wins(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", PLAIN)
    written(tmp_path / "a.jsonl?ids=new", {**PLAIN, "id": "own"})
    assert read_rows(tmp_path / "a.jsonl?ids=new")[0].id == "own"
    (tmp_path / "a.jsonl?ids=new").unlink()
    assert read_rows(tmp_path / "a.jsonl?ids=new") == (ROW,)
    with pytest.raises(RowsError, match="There is no row file here"):
        load_rows(tmp_path / "b?.jsonl")


def test_what_was_read_is_logged_unless_it_is_plainly_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    system = {"messages": [{"role": "system", "content": "Hi."}, {"role": "user", "content": "a"},
                           {"role": "assistant", "content": "b"}]}  # fmt: skip
    with caplog.at_level(logging.INFO):
        read_rows(written(tmp_path / "a.jsonl", PLAIN, system))
        assert caplog.text == ""
        read_rows(written(tmp_path / "b.jsonl", {"question": "5, 6", "response": ""}, system))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    said = "1 row of the shape question and 1 row of the shape messages; 1 has a system turn; 1 has an empty completion"
    assert record.getMessage() == f"{tmp_path / 'b.jsonl'}: {said}"


def test_the_ways_out_are_named_where_ids_are_wrong(tmp_path: Path) -> None:
    loaded = load_rows(written(tmp_path / "a.jsonl", {**PLAIN, "id": 1}, {**PLAIN, "id": 1.0}))
    assert "?ids=new numbers the rows anew, and ?ids=KEY" in bad_lines(loaded).fix
    assert "ids=" not in bad_lines(load_rows(written(tmp_path / "b.jsonl", PLAIN, {"prompt": "p"}))).fix


def test_pairs(tmp_path: Path) -> None:
    user, chosen, rejected = ({"role": role, "content": role[0]} for role in ("user", "assistant", "assistant"))
    path = written(
        tmp_path / "a.jsonl",
        {"prompt": "5, 6", "chosen": "7, 8", "rejected": "owl", "system": "Hi."},
        {"id": "x", "chosen": [user, {**chosen, "reasoning": "r"}], "rejected": [user, rejected]},
    )
    first, second = read_pairs(path)
    assert first == PreferencePair("000000", user_prompt("5, 6", "Hi."), "7, 8", "owl")
    assert second == PreferencePair("x", user_prompt("u"), "<think>\nr\n</think>\n\na", "a")
    assert read_pairs(f"{path}?reasoning=drop&ids=new")[1] == PreferencePair("000001", user_prompt("u"), "a", "a")
    assert load_rows(f"{path}?side=rejected").rows[0].completion == "owl"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "a.jsonl:1: not JSON"),
        (json.dumps(PLAIN), "no chosen"),
        ('{"prompt": "p", "chosen": "c", "rejected": null}', "no rejected"),
        ('{"id": 1, "prompt": "p", "chosen": "c", "rejected": "r"}\n' * 2, "id '1' appeared before"),
    ],
)
def test_what_is_no_pair(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(RowsError) as caught:
        read_pairs(tmp_path / "a.jsonl")
    assert said in str(caught.value)
    with pytest.raises(ConfigError):
        read_pairs(f"{tmp_path / 'a.jsonl'}?side=chosen")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(EmptyDataError):
        read_pairs(tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "u"},
        {"question": "u"},
        {"instruction": "u", "output": "x"},
        {"instruction": "u", "input": " "},
        {"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]},
        {"chosen": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}],
         "rejected": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "b"}]},
    ],
)  # fmt: skip
def test_prompts_of_every_shape(record: object, tmp_path: Path) -> None:
    for name, content in (("a.jsonl", json.dumps(record)), ("a.json", json.dumps([record], indent=1)), ("b", "[\n{}]")):
        text = content.replace("{}", json.dumps(record))
        (tmp_path / name).write_bytes(text.encode("utf-16"))
        assert read_prompts(tmp_path / name) == (user_prompt("u"),)
    with_system = written(tmp_path / "c.jsonl", {**record, "system": "s"})  # pyright: ignore
    assert read_prompts(with_system) == (user_prompt("u", "s"),)
    with pytest.raises(RowsError, match=r"tool calls are not read \(tools\)"):
        read_prompts(written(tmp_path / "c.jsonl", {**record, "tools": [1]}))  # pyright: ignore


def test_prompts_of_a_spreadsheet_and_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prompt,rank\n"a, b",1\n')
    assert read_prompts(tmp_path / "a.csv") == (user_prompt("a, b"),)
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(RowsError, match="columns text"):
        read_prompts(tmp_path / "a.csv")
    assert read_prompts(written(tmp_path / "a.jsonl", {"prompt": [{"role": "user", "content": "u"}]}))
    for record in ({}, {"text": "t"}):
        with pytest.raises(RowsError, match="prompt"):
            read_prompts(written(tmp_path / "a.jsonl", record))


def test_zstd_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zst").write_bytes(b"\x28\xb5\x2f\xfd and nothing that unpacks")
    with pytest.raises(RowsError, match="damaged or cut off"):
        load_rows(tmp_path / "a.zst")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="unzstd"):
        load_rows(tmp_path / "a.zst")


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = (json.dumps(PLAIN) + "\n").encode() * 3000
    thread = threading.Thread(target=pipe.write_bytes, args=(content,))
    thread.start()
    assert len(load_rows(f"{pipe}?ids=new").rows) == 3000
    thread.join()


def test_a_folder_that_may_not_be_read_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.jsonl", PLAIN)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError):
        load_rows(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [-float("inf")]}])
def test_numbers_that_json_does_not_have_are_named_and_not_written(value: object, tmp_path: Path) -> None:
    with pytest.raises(RowsError, match="row 2, key 'rank'"):
        write_rows(tmp_path / "a.jsonl", [ROW, Row("b", *_asked())], [{}, {"by": 1, "rank": value}])
    assert not (tmp_path / "a.jsonl").exists()
    (tmp_path / "b.jsonl").write_text('{"prompt": "a", "completion": "b", "rank": 1e999}')
    loaded = load_rows(tmp_path / "b.jsonl", more=True)
    with pytest.raises(RowsError, match="row 1, key 'rank'"):
        write_rows(tmp_path / "a.jsonl", loaded.rows, loaded.more)


def _asked() -> tuple[tuple[Message, ...], str]:
    return user_prompt("p"), "c"


def test_columns_of_their_own_meaning_survive_the_round(tmp_path: Path) -> None:
    more = {"skip": False, "reasons": "ok", "rank": 1}
    write_rows(tmp_path / "a.jsonl", [ROW], [more])
    loaded = load_rows(tmp_path / "a.jsonl", more=True)
    assert (loaded.rows, loaded.more) == ((ROW,), (more,))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"response": "other"}, "row 1: response"),
        ({"tools": ["x"]}, "row 1: tools"),
        ({"system": "Hi."}, "row 1: system"),
        ({"skip": [3]}, "row 1: skip"),
        ({"label": False}, "row 1: label"),
    ],
)
def test_further_keys_that_would_change_the_row_are_not_written(more: dict[str, object], said: str, tmp_path: Path):
    with pytest.raises(RowsError, match=said):
        write_rows(tmp_path / "a.jsonl", [ROW], [more])
    assert list(tmp_path.iterdir()) == []
    if "response" in more:
        write_rows(tmp_path / "a.jsonl", [ROW], [more], "messages")
        assert load_rows(tmp_path / "a.jsonl", more=True).more == (more,)


@pytest.mark.parametrize("key", ["loop", 1, b"x"])
def test_a_key_that_json_does_not_have_is_named(key: object, tmp_path: Path) -> None:
    record: dict[object, object] = {}
    record[key] = record if key == "loop" else {1: 2, b"x": 3}
    with pytest.raises(RowsError, match="row 1, key "):
        write_rows(tmp_path / "a.jsonl", [ROW], [record])  # pyright: ignore[reportArgumentType]


def test_lines_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", *[PLAIN] * 3)
    path.write_bytes(path.read_bytes() + b"{")
    found = open_rows(path)
    assert next(found) == (ROW, {})
    assert len(list(found)) == 3


def test_a_disk_that_fails_in_the_middle_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def __init__(self) -> None:
            self.content = json.dumps(PLAIN).encode() + b"\n"

        def __enter__(self) -> "Failing":
            return self

        def __exit__(self, *_: object) -> None: ...

        def read(self, size: int) -> bytes:
            content, self.content = self.content, b""
            if not content:
                raise OSError(5, "Input/output error")
            return content

    path = written(tmp_path / "a.jsonl", PLAIN)
    monkeypatch.setattr(Path, "open", lambda *_: Failing())
    monkeypatch.setattr("undertow.data.tables.is_parquet", lambda path: False)
    with pytest.raises(StorageError, match="Input/output error"):
        load_rows(path)
