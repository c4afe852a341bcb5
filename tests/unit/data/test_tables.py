"""Rows mean the same in every format, and whatever a table holds is rows or an error in three lines.

Not tested here: a dataset fetched from the Hub; a local folder goes the same way but for the download.
"""

import json
import sys
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from undertow.data.rows import LoadedRows, Shape, load_rows, open_rows, read_prompts, read_rows, write_rows
from undertow.data.tables import open_table, write_blocks
from undertow.errors import MissingExtraError, RowsError, StorageError
from undertow.types import Message, Row, user_prompt

CHAT = (
    Message("system", "Sei nett."),
    Message("user", "a\u2028b\nc"),
    Message("assistant", ""),
    Message("user", "\x00"),
)
ROWS = (
    Row("a", user_prompt("Grüße"), "1,\r\n2"),
    Row("b", CHAT, "", ("empty",)),
    Row("c", CHAT[:2], "🦉", skip=(0, 2)),
)
MORE = ({"rank": 1, "by": {"name": "x"}}, {"rank": None, "by": None}, {"rank": 3, "by": {"name": "y"}})

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_turns = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), _text), min_size=1, max_size=3)
_rows = st.builds(
    Row, _text, _turns.map(tuple), _text, st.lists(_text, max_size=2).map(tuple),
    st.lists(st.integers(0, 9), max_size=2).map(tuple),
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what `datasets` caches out of the user's own folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def refused(source: object) -> str:
    with pytest.raises(RowsError) as caught:
        read_rows(str(source))
    assert len(caught.value.args) == 3
    return str(caught.value)


@pytest.mark.parametrize("shape", [None, "chat", "messages"])
def test_rows_and_further_keys_survive_the_round_through_every_format(tmp_path: Path, shape: Shape | None) -> None:
    write_rows(tmp_path / "0.jsonl", ROWS, MORE)
    names = ["0.jsonl", "1.parquet", "folder", "2.parquet", "3.jsonl"]
    for source, target in pairwise(names):
        loaded = load_rows(tmp_path / source, more=True)
        assert loaded == LoadedRows(ROWS, (), MORE)
        write_rows(tmp_path / target, loaded.rows, loaded.more, shape)
    assert load_rows(tmp_path / names[-1], more=True) == LoadedRows(ROWS, (), MORE)
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(_rows, min_size=1, max_size=5, unique_by=lambda row: row.id))
def test_any_content_survives(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    write_rows(path, rows)
    assert read_rows(path) == tuple(rows)


def test_plain_rows_are_columns_of_text(tmp_path: Path) -> None:
    plain = [Row("1", user_prompt("p"), "c"), Row("2", user_prompt("q"), "d")]
    write_rows(tmp_path / "a.parquet", plain)
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.to_pydict() == {"id": ["1", "2"], "prompt": ["p", "q"], "completion": ["c", "d"]}
    with pytest.raises(RowsError, match="row 2: its prompt is more than one user turn"):
        write_rows(tmp_path / "a.parquet", ROWS, shape="text")
    assert parquet.read_table(tmp_path / "a.parquet") == table


def test_batches_and_numbers_of_records(tmp_path: Path) -> None:
    some = [{"prompt": f"p{at}", "completion": 7 if at == 1500 else "c"} for at in range(2300)]
    lines = "\n".join(map(json.dumps, some))
    (tmp_path / "a.jsonl").write_text(lines)
    table = pa.table({"prompt": [one["prompt"] for one in some], "completion": ["c"] * 1500 + [None] + ["c"] * 799})
    parquet.write_table(table, tmp_path / "a.parquet")
    rows, bad = load_rows(tmp_path / "a.parquet").rows, load_rows(tmp_path / "a.parquet").bad
    assert rows == load_rows(tmp_path / "a.jsonl").rows and rows[1500].id == "001501"
    assert [str(one) for one in bad] == [f"{tmp_path / 'a.parquet'}:1501: no completion"]
    first = next(iter(open_rows(tmp_path / "a.parquet")))
    assert first == (rows[0], {})


def test_rows_as_the_authors_released_them(tmp_path: Path) -> None:
    """Columns question and response, one configuration for each model and trait, one Parquet file in each."""
    for name in ("qwen_cat", "qwen_owl"):
        (tmp_path / "hub" / name).mkdir(parents=True)
        table = pa.table({"question": [f"{name}?", "q"], "response": ["1, 2", "3"]})
        parquet.write_table(table, tmp_path / "hub" / name / "train-00000-of-00001.parquet")
    configs = [{"config_name": name, "data_files": f"{name}/train-*"} for name in ("qwen_cat", "qwen_owl")]
    (tmp_path / "hub" / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    rows = read_rows(f"hf:{tmp_path}/hub:qwen_owl/train")
    assert rows == (Row("000000", user_prompt("qwen_owl?"), "1, 2"), Row("000001", user_prompt("q"), "3"))
    assert read_rows(f"hf:{tmp_path}/hub:qwen_owl/") == rows
    assert read_prompts(f"hf:{tmp_path}/hub:qwen_cat/")[0] == user_prompt("qwen_cat?")
    assert "qwen_cat" in refused(f"hf:{tmp_path}/hub") and "qwen_cat" in refused(f"hf:{tmp_path}/hub:dog/train")


def test_splits_are_named(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    for name in ("train", "test"):
        write_rows(tmp_path / "hub" / f"{name}.parquet", ROWS[:1] if name == "test" else ROWS[:1] * 1)
    where = f"hf:{tmp_path}/hub"
    assert read_rows(f"{where}:test") == ROWS[:1]
    assert f"Give one of them: {where}:train, {where}:test." in refused(where)
    assert "has no such split" in refused(f"{where}:dev") and f"{where}:train" in refused(f"{where}:dev")
    one = datasets.Dataset.from_parquet(str(tmp_path / "hub" / "train.parquet"))
    datasets.DatasetDict({"train": one, "test": one}).save_to_disk(tmp_path / "saved")
    assert read_rows(tmp_path / "saved" / "test") == ROWS[:1]
    assert f"{tmp_path}/saved/train" in refused(tmp_path / "saved")


def test_a_folder_is_read_as_the_streams_that_datasets_wrote(tmp_path: Path) -> None:
    """Several files, more records than a batch, columns of which the library shows some, rows that were picked."""
    asked = [f"q{n}" for n in range(2500)]
    whole = datasets.Dataset.from_dict(
        {"completion": ["1"] * 2500, "prompt": asked, "more": [{"a": [n]} for n in range(2500)]}
    )
    whole.save_to_disk(tmp_path / "files", num_shards=3)
    whole.select(range(7, 2500, 2)).save_to_disk(tmp_path / "picked")
    whole.with_format("numpy", columns=["prompt"]).save_to_disk(tmp_path / "shown")
    whole.select([]).save_to_disk(tmp_path / "none")
    for name, places in (("files", range(2500)), ("picked", range(7, 2500, 2)), ("shown", range(2500))):
        read = load_rows(tmp_path / name, more=True)
        assert [row.question for row in read.rows] == [asked[place] for place in places]
        assert list(read.more) == [{"more": {"a": [place]}} for place in places]
    table = open_table(tmp_path / "files")
    assert table.columns == ("completion", "prompt", "more")
    assert {tuple(one) for one in table.records(["prompt"])} == {("prompt",)}


def test_a_batch_of_a_folder_may_be_as_long_as_the_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "folder", ROWS[:1])
    (file,) = (tmp_path / "folder").glob("*.arrow")
    records = pa.record_batch({"prompt": ["q"] * 2100, "completion": [str(n) for n in range(2100)]})
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_stream(stream, records.schema) as writer:
        writer.write_batch(records)
    assert [row.completion for row in read_rows(tmp_path / "folder")] == [str(n) for n in range(2100)]


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such Parquet file" in refused(tmp_path / "none.parquet")
    assert "no such dataset" in refused(f"hf:{tmp_path}/none")
    assert "HF_HUB_OFFLINE" in refused("hf:owner/name@main:train")
    refused("hf:")

    def gated(name: str, *_: object, **__: object) -> None:
        raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' is a gated dataset on the Hub.")

    monkeypatch.setattr(datasets, "load_dataset", gated)
    assert "gated dataset" in refused("hf:owner/name") and "HF_TOKEN" in refused("hf:owner/name")


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b'{"prompt": "p", "completion": "c"}\n', b"PAR1" + b"x" * 99 + b"PAR1"]
)
def test_what_is_no_parquet(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    assert "cannot be read" in refused(tmp_path / "a.parquet")


def test_damaged_tables(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", ROWS)
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-30])
    assert "cannot be read" in refused(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes(whole[:4] + bytes(200) + whole[204:])
    refused(tmp_path / "a.parquet")
    write_rows(tmp_path / "folder", ROWS)
    for content in ("{", "{}", "[]", '{"_data_files": [{"filename": "none.arrow"}]}'):
        (tmp_path / "folder" / "state.json").write_text(content)
        assert "cannot be read" in refused(tmp_path / "folder")


def test_columns_that_are_no_rows(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "a.parquet")
    assert "columns text, label\nName its columns messages, or prompt and completion" in refused(tmp_path / "a.parquet")
    with pytest.raises(RowsError, match="Name its columns messages, or prompt, or question"):
        read_prompts(tmp_path / "a.parquet")
    nested = pa.table({"prompt": [{"a": 1}, {"a": 2}], "completion": [["x"], ["y"]]})
    parquet.write_table(nested, tmp_path / "b.parquet")
    assert "2 of 2 lines are not rows" in refused(tmp_path / "b.parquet")
    parquet.write_table(pa.table({"prompt": pa.nulls(0), "completion": pa.nulls(0)}), tmp_path / "c.parquet")
    assert read_rows(tmp_path / "c.parquet") == ()


def test_further_keys_of_any_type_stay_in_parquet_and_not_in_json(tmp_path: Path) -> None:
    when = [{"at": datetime(2026, 1, 2), "raw": b"\xff"}]
    write_rows(tmp_path / "a.parquet", ROWS[:1], when)
    loaded = load_rows(tmp_path / "a.parquet", more=True)
    assert list(loaded.more) == when
    with pytest.raises(RowsError, match="further keys that JSON cannot hold"):
        write_rows(tmp_path / "a.jsonl", loaded.rows, loaded.more)
    assert not (tmp_path / "a.jsonl").exists()


@pytest.mark.parametrize("values", [(1, "x"), (2**70, 1), ({}, {}), ("\ud800", "x")])
def test_further_keys_that_no_column_holds(values: tuple[object, object], tmp_path: Path) -> None:
    rows = [Row("1", user_prompt("p"), "c"), Row("2", user_prompt("q"), "d")]
    with pytest.raises(RowsError, match="key"):
        write_rows(tmp_path / "a.parquet", rows, [{"key": value} for value in values])
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_the_way(tmp_path: Path) -> None:
    write_rows(tmp_path / "folder", ROWS[:1])
    write_rows(tmp_path / "folder", ROWS)
    assert read_rows(tmp_path / "folder") == ROWS
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").touch()
    (tmp_path / "b.parquet").mkdir()
    for name in ("mine", "b.parquet", "none/c.parquet"):
        with pytest.raises(StorageError):
            write_rows(tmp_path / name, ROWS)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["b.parquet", "folder", "mine"]


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "a.parquet", ROWS)
    write_rows(tmp_path / "folder", ROWS)
    for name in ("pyarrow", "datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    for source in (tmp_path / "a.parquet", tmp_path / "folder", "hf:owner/name"):
        with pytest.raises(MissingExtraError, match=r"pip install 'undertow\[data\]'"):
            open_table(source)
    with pytest.raises(MissingExtraError):
        write_blocks(tmp_path / "b.parquet", lambda: iter([[{"a": 1}]]))


def test_tables_hold_the_shapes_that_lines_hold(tmp_path: Path) -> None:
    talk = [
        {"role": "user", "content": "Hi", "tool_calls": None},
        {"role": "assistant", "content": "7", "tool_calls": None},
    ]
    call = [{"function": {"name": "roll", "arguments": "{}"}}]
    asked = [talk, [talk[0], {"role": "assistant", "content": None, "tool_calls": call}]]
    parquet.write_table(pa.table({"messages": asked, "tools": [None, None]}), tmp_path / "tools.PARQUET")
    loaded = load_rows(tmp_path / "tools.PARQUET")
    assert loaded.rows == (Row("000000", user_prompt("Hi"), "7"),)
    assert [one.reason for one in loaded.bad] == ["tool calls are not read (messages[1].tool_calls)"]
    parts = [
        [
            {"role": role, "content": [{"type": "text", "text": text}]}
            for role, text in (("user", "Hi"), ("assistant", "7"))
        ]
    ]
    parquet.write_table(pa.table({"messages": parts}), tmp_path / "no_suffix")
    assert read_rows(tmp_path / "no_suffix") == (Row("000000", user_prompt("Hi"), "7"),)


def test_ids_that_pandas_made_floats_and_dates_beside_them(tmp_path: Path) -> None:
    columns = {"id": [1.0, None, 2.5], "key": [1.0, 2.0, 3.0], "prompt": ["a"] * 3, "completion": ["b"] * 3}
    when = [datetime(2025, 1, day) for day in (1, 2, 3)]
    parquet.write_table(pa.table({**columns, "when": when}), tmp_path / "a.parquet")
    loaded = load_rows(tmp_path / "a.parquet", more=True)
    assert [row.id for row in loaded.rows] == ["1", "000001"] and loaded.bad[0].about_id
    assert [row.id for row in read_rows(f"{tmp_path / 'a.parquet'}?ids=key")] == ["1", "2", "3"]
    assert [row.id for row in read_rows(f"{tmp_path / 'a.parquet'}?ids=new")] == ["000000", "000001", "000002"]
    with pytest.raises(RowsError, match="row 1, key 'when'"):
        write_rows(tmp_path / "a.jsonl", loaded.rows, loaded.more)
