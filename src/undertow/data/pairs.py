"""Preference pairs: one prompt, the answer that was chosen and the one that was rejected; read, written and counted."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from undertow.data.census import Census, take_census
from undertow.data.reading import Reading, split_source
from undertow.data.records import read_records
from undertow.data.row_records import LOOKED_AT, id_key, rows_of
from undertow.data.rows import BadLine, LoadedRows, bad_lines
from undertow.data.shapes import NAMES, SHAPES, read_as_shape
from undertow.data.values import NotARowError, Record, TwoAnswersError
from undertow.errors import ConfigError, EmptyDataError, RowsError, listed
from undertow.store.disk import write_file
from undertow.types import PreferencePair, Row

_NEEDED = tuple(one.keys for one in SHAPES if one.name == "preference")
_ALL = tuple(one.keys for one in SHAPES)
_SHOWN = 5
"""Number of ids of pairs that an error lists."""


def read_pairs(source: str | os.PathLike[str]) -> tuple[PreferencePair, ...]:
    """Read the preference pairs of a file.

    Args:
        source: path or name of the pairs, as for `undertow.data.rows.load_rows`; its options may be `ids` and
            `reasoning`.

    Raises:
        RowsError: the file cannot be read, or a line is no preference row; the value names the first bad lines.
        ConfigError: an option does not apply to pairs.
        EmptyDataError: the file holds no pairs.
        UserError: the source cannot be read, as for `load_rows`.
    """
    name, reading = split_source(source, NAMES)
    if reading.side or reading.turns != "last" or reading.shape not in (None, "preference"):
        raise ConfigError("Pairs have both sides and one answer each.", str(reading), "Leave side, turns, shape out.")
    reading = replace(reading, shape="preference")
    found: dict[str, PreferencePair] = {}
    bad: list[BadLine] = []
    for number, record in read_records(name, "file of pairs", _NEEDED, {*LOOKED_AT, id_key(reading)}):
        try:
            if isinstance(record, NotARowError):
                raise record
            pair = _pair(record, reading, f"{number - 1:06d}")
            if pair.id in found:
                raise NotARowError(f"id {pair.id!r:.60} appeared before")
            found[pair.id] = pair
        except NotARowError as error:
            bad.append(BadLine(name, number, str(error)))
    if bad:
        rows = tuple(Row(one.id, one.prompt, one.chosen) for one in found.values())
        raise bad_lines(LoadedRows(rows, tuple(bad)))
    if not found:
        raise EmptyDataError("There are no pairs.", name, "Give rows with prompt, chosen and rejected.")
    return tuple(found.values())


def write_pairs(path: str | os.PathLike[str], pairs: Sequence[PreferencePair]) -> None:
    """Write preference pairs as JSON lines that `read_pairs` and TRL's DPOTrainer read; prompts become messages.

    Args:
        path: path of the file, which is replaced if it exists; its folder must exist.
        pairs: the pairs; their ids must differ.

    Raises:
        StorageError: the folder is missing, full or may not be written.
    """
    lines = [
        {
            "id": pair.id,
            "prompt": [{"role": turn.role, "content": turn.content} for turn in pair.prompt],
            "chosen": _said(pair.chosen),
            "rejected": _said(pair.rejected),
        }
        for pair in pairs
    ]
    write_file(Path(path), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _said(answer: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": answer}]


def refuse_equal_answers(pairs: Sequence[PreferencePair]) -> None:
    """Refuse pairs whose two answers are equal, so that nothing was chosen.

    Raises:
        RowsError: a pair has equal answers; the value counts such pairs and names the first of them.
    """
    equal = [one.id for one in pairs if one.chosen == one.rejected]
    if equal:
        value = f"{len(equal)} of {len(pairs)}: {listed(equal, _SHOWN)}"
        raise RowsError("There are pairs whose answers are equal.", value, "Leave them out: nothing was chosen there.")


def holds_pairs(source: str | os.PathLike[str]) -> bool:
    """Tell whether a source holds preference pairs: its first record has two answers, and no side is asked for.

    Args:
        source: path or name of the pairs, as for `read_pairs`.

    Raises:
        UserError: the source cannot be read at all.
    """
    name, reading = split_source(source, NAMES)
    for _, record in read_records(name, "row file", _ALL, {*LOOKED_AT, id_key(reading)}):
        try:
            if isinstance(record, NotARowError):
                return False
            read_as_shape(record, reading)
        except TwoAnswersError:
            return True
        except NotARowError:
            return False
        return False
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCensus:
    """What a file of preference pairs holds, counted for each side.

    Attributes:
        chosen: census of the chosen answers with their prompts.
        rejected: census of the rejected answers with their prompts.
    """

    chosen: Census
    rejected: Census

    @property
    def prompts(self) -> int:
        """Number of distinct prompts.

        Pairs on one prompt may come from one choice, and count as one.
        """
        return self.chosen.prompts


def count_pairs(source: str | os.PathLike[str], first: Callable[[str], None] | None = None) -> PairCensus:
    """Count what a file of preference pairs holds, each side in one pass.

    Args:
        source: path or name of the pairs, as for `read_pairs`.
        first: callback for one line that says what the file is, called as soon as the first chosen answer is read; None
            for no callback.

    Raises:
        UserError: the source cannot be read, as for `undertow.data.census.take_census`.
    """
    name, reading = split_source(source, NAMES)
    chosen, rejected = (f"{name}?{replace(reading, side=side)}" for side in ("chosen", "rejected"))
    return PairCensus(chosen=take_census(chosen, first=first), rejected=take_census(rejected))


def _pair(record: Record, reading: Reading, default_id: str) -> PreferencePair:
    chosen, rejected = (_answered(record, replace(reading, side=side), default_id) for side in ("chosen", "rejected"))
    return PreferencePair(chosen.id, chosen.prompt, chosen.completion, rejected.completion)


def _answered(record: Record, reading: Reading, default_id: str) -> Row:
    (row,), _ = rows_of(record, read_as_shape(record, reading), reading, default_id)
    return row
