"""Rows written one by one: the same file as from all at once, and nothing of it after an error."""

import json
from itertools import chain
from pathlib import Path

import pytest

from undertow.cli.main import main
from undertow.data import row_files
from undertow.data.rows import load_rows, read_rows, write_rows
from undertow.errors import RowsError, StorageError
from undertow.types import Row, user_prompt

ROWS = [Row(f"r{at}", user_prompt(f"{at}?"), f"{at}, {at + 1}", ("odd",) if at % 2 else ()) for at in range(25)]
MORE = [
    {"rank": at if at < 12 else at + 0.5, **({"late": [{"a": at}]} if at > 20 else {}), "none": None}
    for at in range(25)
]
TABLES = ("a.parquet", "folder")


@pytest.fixture(params=[4, 25, 1000])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Rows in a block: many blocks, one that is just full, one that is not."""
    monkeypatch.setattr(row_files, "BLOCK", request.param)
    return request.param


@pytest.mark.parametrize("name", ["a.jsonl", *TABLES])
def test_blocks_hold_what_was_given(name: str, block: int, tmp_path: Path) -> None:
    write_rows(tmp_path / name, iter(ROWS), iter(MORE))
    found = load_rows(tmp_path / name, more=True)
    assert list(found.rows) == ROWS and not found.bad
    assert [one["rank"] for one in found.more] == [one["rank"] for one in MORE]
    assert [one.get("late") for one in found.more] == [one.get("late") for one in MORE]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_the_same_columns_in_one_block_and_in_several(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from undertow.data.tables import open_table

    found = []
    for size in (4, 1000):
        monkeypatch.setattr(row_files, "BLOCK", size)
        path = tmp_path / str(size) / name
        path.parent.mkdir()
        write_rows(path, ROWS, MORE)
        table = open_table(path)
        found.append((table.columns, list(table.records()), next(table.batches(list(table.columns))).schema.types))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", TABLES)
def test_equal_rows_give_equal_bytes_in_blocks_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "BLOCK", 4)
    content = []
    for _ in range(2):
        write_rows(tmp_path / name, ROWS, MORE)
        files = [tmp_path / name] if name.endswith("parquet") else sorted((tmp_path / name).iterdir())
        content.append([(file.name, file.read_bytes()) for file in files])
    assert content[0] == content[1]


def test_long_rows_end_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.setattr(row_files, "BLOCK_CHARACTERS", 30)
    rows = [Row(str(at), user_prompt("x" * 20), "y" * 20) for at in range(5)]
    write_rows(tmp_path / "a.parquet", rows)
    assert parquet.ParquetFile(tmp_path / "a.parquet").metadata.num_row_groups == 5
    assert list(read_rows(tmp_path / "a.parquet")) == rows


@pytest.mark.parametrize("name", TABLES)
def test_one_row_far_behind_makes_all_of_a_table_messages(name: str, block: int, tmp_path: Path) -> None:
    rows = [*ROWS, Row("last", user_prompt("Hi", "Be kind."), "Yes")]
    write_rows(tmp_path / name, rows)
    assert list(read_rows(tmp_path / name)) == rows


@pytest.mark.parametrize("name", ["a.jsonl", *TABLES])
def test_what_cannot_be_written_leaves_nothing(name: str, block: int, tmp_path: Path) -> None:
    write_rows(tmp_path / name, ROWS[:1])
    before = read_rows(tmp_path / name)
    wrong = [*ROWS, ROWS[0]]
    with pytest.raises(RowsError, match="row 26: id 'r0' appeared in line 1"):
        write_rows(tmp_path / name, wrong)
    with pytest.raises(ZeroDivisionError):
        write_rows(tmp_path / name, chain(ROWS, (Row("x", user_prompt("x"), str(1 // 0)) for _ in range(1))))
    assert read_rows(tmp_path / name) == before and [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", TABLES)
def test_types_that_only_differ_between_blocks_are_refused(name: str, block: int, tmp_path: Path) -> None:
    more = [{"mixed": at if at < 20 else "text"} for at in range(25)]
    with pytest.raises(RowsError, match="mixed"):
        write_rows(tmp_path / name, ROWS, more)
    assert not any(tmp_path.iterdir())


def test_a_missing_folder_is_said_when_a_block_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "BLOCK", 4)
    with pytest.raises(StorageError, match="No such file"):
        write_rows(tmp_path / "nowhere" / "a.parquet", ROWS)


def test_ids_that_are_known_to_differ_are_not_looked_at(tmp_path: Path) -> None:
    with row_files.open_sink(tmp_path / "a.jsonl", distinct=True) as put:
        put(ROWS[0])
        put(ROWS[0], {"n": 1})
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [one["id"] for one in records] == ["r0", "r0"] and records[1]["n"] == 1


@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.jsonl.gz"])
def test_rows_are_not_written_under_a_name_that_is_read_as_something_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(RowsError, match="not written as"), row_files.open_sink(tmp_path / name):
        pass
    assert main(["generate", str(tmp_path / name), "--model", "ref:none"]) == 2, "before a model is looked for"
    assert not list(tmp_path.iterdir())
