"""Tables of records: Parquet files, folders that `datasets` saved, and datasets of the Hub.

    rows.parquet
    folder                                  as `datasets.Dataset.save_to_disk` leaves it
    hf:NAME[@REVISION][:[CONFIG/]SPLIT]     an id of the Hub, or a local folder of data files as the Hub holds them

A record is a dict from column to value; `undertow.data.rows` makes rows of it. A dataset of the Hub is fetched
once, and from then on read from the cache of `datasets`.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from undertow.data.containers import PARQUET_MAGIC
from undertow.errors import MissingExtraError, RowsError, StorageError
from undertow.store.disk import move_into_place, remove_folder, storage_errors, temporary_folder, whole_file

HUB = "hf:"
PARQUET = ".parquet"
_BATCH = 1000
"""Number of records that are in memory at once."""

_ONE, _MANY = "dataset_info.json", "dataset_dict.json"
"""Files by which a folder that `datasets` saved is recognised: with one split, and with several."""


@dataclass(frozen=True, slots=True)
class Table:
    """An opened table, whose records are read later.

    Attributes:
        name: path or name of the table, for messages.
        columns: names of the columns, in the table's order.
        batches: function that reads the columns of the given names and yields them as tables of pyarrow.
    """

    name: str
    columns: tuple[str, ...]
    batches: Callable[[list[str]], Iterator[Any]]

    def records(self, wanted: Collection[str] | None = None) -> Generator[dict[str, object]]:
        """Read one record after another; a table with none of the wanted columns yields none.

        Args:
            wanted: names of the columns that are read, None for all; those that the table lacks are left out.

        Raises:
            RowsError: the table is damaged, or a column is of a type that cannot be read.
        """
        columns = [name for name in self.columns if wanted is None or name in wanted]
        with _table_errors(self.name):
            for batch in self.batches(columns):
                yield from batch.to_pylist()


def is_table(source: str | os.PathLike[str]) -> bool:
    """Tell whether a name is that of a table, by its prefix, its suffix, its first bytes or the files of its folder."""
    path = Path(source)
    return str(source).startswith(HUB) or is_parquet(path) or any((path / name).exists() for name in (_ONE, _MANY))


def is_parquet(path: Path) -> bool:
    """Tell whether a path is that of a Parquet file: by its suffix in any case, or by its first bytes."""
    if path.suffix.lower() == PARQUET:
        return True
    # Pipes are not looked at: what is read of them is gone.
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    except OSError:
        return False


def open_table(source: str | os.PathLike[str]) -> Table:
    """Open a table; its records are read later, in batches.

    Raises:
        RowsError: the table does not exist or cannot be read, or it has several splits and none is named.
        StorageError: the table may not be read.
        MissingExtraError: pyarrow or datasets is not installed.
    """
    name = str(source)
    with _table_errors(name):
        if name.startswith(HUB):
            return _hub_table(name)
        return _parquet(Path(source)) if is_parquet(Path(source)) else _saved(Path(source))


def write_blocks(
    path: Path, blocks: Callable[[], Iterator[Sequence[Mapping[str, Any]]]], columns: Sequence[str] = ()
) -> None:
    """Write records block by block as one Parquet file, or as a folder of `datasets`: all of them or nothing.

    Args:
        path: path of a file with the suffix .parquet, or of a folder. What is there is replaced if it is a table
            itself.
        blocks: returns an iterator over the records, block by block. It is called twice: to find the types of the
            columns, and to write them. A key that some records lack becomes null there.
        columns: names of the text columns of a table without any record.

    Raises:
        RowsError: the values under one key are of types that no column can hold together.
        StorageError: the disk is full or may not be written, or something else stands at the path.
        MissingExtraError: pyarrow or datasets is not installed.
    """
    with _libraries():
        import pyarrow as pa
    types: dict[str, Any] = {}
    for records in blocks():
        for key in dict.fromkeys(key for one in records for key in one):
            found = _column(key, records, pa).type
            types[key] = _common(key, types[key], found, pa) if key in types else found
    types = types or dict.fromkeys(columns, pa.string())
    schema = pa.schema(list(types.items()))
    tables = (
        pa.table({key: _column(key, records, pa, kind) for key, kind in types.items()}, schema) for records in blocks()
    )
    with storage_errors(path), _unwritable(path, pa):
        if path.suffix.lower() == PARQUET:
            _write_parquet(path, schema, tables)
        else:
            _write_folder(path, schema, tables)


def _column(key: str, records: Sequence[Mapping[str, Any]], pa: Any, kind: Any = None) -> Any:
    try:
        return pa.array([one.get(key) for one in records], kind)
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
        raise _no_column(key, error) from error


def _common(key: str, one: Any, other: Any, pa: Any) -> Any:
    """Return the type of a column that has these two types in different blocks."""
    try:
        schemas = [pa.schema([(key, kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(key).type
    except pa.ArrowException as error:
        raise _no_column(key, error) from error


def _no_column(key: str, error: Exception) -> RowsError:
    fix = "Give all values of this key one type, leave it out, or write JSON lines."
    return RowsError("No column of a table can hold these values.", f"{key}: {_one_line(error)}", fix)


@contextlib.contextmanager
def _unwritable(path: Path, pa: Any) -> Generator[None]:
    try:
        yield
    except pa.ArrowException as error:
        fix = "Leave out keys with empty objects, or write JSON lines."
        raise RowsError("The table cannot be written.", f"{path}: {_one_line(error)}", fix) from error


def _write_parquet(path: Path, schema: Any, tables: Iterator[Any]) -> None:
    from pyarrow import parquet

    with whole_file(path) as stream, parquet.ParquetWriter(stream, schema) as writer:
        for table in tables:
            writer.write_table(table)


def _write_folder(path: Path, schema: Any, tables: Iterator[Any]) -> None:
    with _libraries():
        import datasets
    if path.exists() and not (path / _ONE).exists():
        raise StorageError("Something else is in the way of the dataset.", path, "Give the name of a new folder.")
    # Named as in a store, so that whoever cleans one up after a killed process knows whose it was.
    temporary, lines = temporary_folder(path), temporary_folder(path)
    try:
        with _quiet(datasets):
            _save(temporary, lines / "blocks.arrow", schema, tables)
        if path.exists():
            remove_folder(path)
        move_into_place(temporary, path)
    finally:
        for folder in (temporary, lines):
            if folder.exists():
                remove_folder(folder)


def _save(folder: Path, blocks: Path, schema: Any, tables: Iterator[Any]) -> None:
    """Save tables of one schema as `datasets` saves one table, with the records of all of them in its data file.

    The library itself would map all records into memory to copy them.
    """
    import datasets
    import pyarrow as pa

    first, second = next(tables), next(tables, None)
    if second is None:
        datasets.Dataset(first).save_to_disk(folder)
        return
    with pa.OSFile(str(blocks), "wb") as stream, pa.ipc.new_stream(stream, schema) as writer:
        for table in chain((first, second), tables):
            writer.write_table(table)
    with blocks.open("rb") as written:
        mark = hashlib.file_digest(written, "sha256").hexdigest()[:16]
    datasets.Dataset(first, fingerprint=mark).save_to_disk(folder)
    (own,) = folder.glob("*.arrow")
    blocks.replace(own)


@contextlib.contextmanager
def _quiet(datasets: Any) -> Generator[None]:
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _parquet(path: Path) -> Table:
    with _libraries():
        from pyarrow import parquet
    if not path.is_file():
        raise RowsError("There is no such Parquet file.", path, "Check the path; a folder of them is hf:FOLDER.")
    file: Any = parquet.ParquetFile(path)

    def batches(columns: list[str]) -> Iterator[Any]:
        return file.iter_batches(_BATCH, columns=columns)

    return Table(str(path), tuple(file.schema_arrow.names), batches)


def _saved(path: Path) -> Table:
    """Open a folder of `datasets` as the Arrow streams that it consists of.

    The library would map all of it into memory.
    """
    with _libraries():
        import pyarrow as pa
    if (path / _MANY).exists():
        splits = [item.name for item in sorted(path.iterdir()) if (item / _ONE).exists()]
        fix = f"Give one of them: {', '.join(str(path / name) for name in splits) or 'none is there'}."
        raise RowsError("The folder holds several splits.", path, fix)
    state: Any = json.loads((path / "state.json").read_text(encoding="utf-8"))
    files = [str(path / one["filename"]) for one in state["_data_files"]]

    def batches(columns: list[str]) -> Iterator[Any]:
        for name in files:
            with pa.OSFile(name) as stream, pa.ipc.open_stream(stream) as reader:
                for batch in reader:
                    chosen = batch.select(columns)
                    yield from (chosen.slice(start, _BATCH) for start in range(0, len(chosen), _BATCH))

    with pa.OSFile(files[0]) as stream, pa.ipc.open_stream(stream) as reader:
        return Table(str(path), tuple(reader.schema.names), batches)


def _hub_table(source: str) -> Table:
    with _libraries():
        import datasets
        from datasets.exceptions import DatasetNotFoundError
    where, _, part = source.removeprefix(HUB).partition(":")
    name, _, revision = where.partition("@")
    config, _, split = part.rpartition("/")
    try:
        splits = dict(datasets.load_dataset(name, config or None, revision=revision or None))
    except (DatasetNotFoundError, FileNotFoundError) as error:
        fix = (
            "Check the spelling and the revision; a private or gated dataset needs its terms accepted and HF_TOKEN set."
        )
        raise RowsError("There is no such dataset, or it may not be read.", _reason(source, error), fix) from error
    except ConnectionError as error:
        fix = "Check the network (HF_HUB_OFFLINE must not be set), or give a file or the folder of a download."
        raise RowsError(
            "The dataset cannot be reached and is not in the cache.", _reason(source, error), fix
        ) from error
    if not split and len(splits) == 1:
        (split,) = splits
    if split not in splits:
        what = "The dataset has no such split." if split else "The dataset has several splits."
        start = f"{HUB}{where}:{config}{'/' if config else ''}"
        raise RowsError(what, source, f"Give one of them: {', '.join(f'{start}{one}' for one in splits)}.")
    return _of_dataset(source, splits[split])


def _of_dataset(name: str, dataset: Any) -> Table:
    def batches(columns: list[str]) -> Iterator[Any]:
        # As Arrow: no image or sound is decoded.
        return dataset.select_columns(columns).with_format("arrow").iter(_BATCH)

    return Table(name, tuple(dataset.column_names), batches)


@contextlib.contextmanager
def _table_errors(name: str) -> Generator[None]:
    """Turn whatever the libraries say of a damaged or foreign file into a `RowsError`."""
    try:
        with storage_errors(Path(name)):
            yield
    except (RowsError, StorageError, MissingExtraError):
        raise
    # Both libraries raise nearly every kind of exception on damaged files; none of them is a fault of ours.
    except Exception as error:
        fix = "Check that it is whole and what its name says, and the name of a configuration if there is one."
        raise RowsError("The table cannot be read.", _reason(name, error), fix) from error


@contextlib.contextmanager
def _libraries() -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        fix = "Run: pip install 'undertow[data]'"
        raise MissingExtraError(
            "Parquet and datasets need a library that is not installed.", error.name, fix
        ) from error


def _reason(name: str, error: Exception) -> str:
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__  # datasets says "an error occurred", and what it was in the cause.
    return f"{name}: {_one_line(error)}"


def _one_line(error: Exception) -> str:
    # Long enough for the names of all configurations of a dataset, which datasets lists on a second line.
    return " ".join(str(error).split())[:2000] or type(error).__name__
