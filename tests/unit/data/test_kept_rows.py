"""Rows that stay on the disk are the rows that were given, and parts of them are read by their places."""

from array import array
from pathlib import Path

import pytest

from undertow.data.filters import accepted_rows, filter_rows
from undertow.data.kept_rows import KeptRows, PickedRows
from undertow.data.marks import first_places, marks_of
from undertow.domains.numbers import Numbers
from undertow.errors import StorageError
from undertow.types import Message, Row, user_prompt

ROWS = (
    Row("a", user_prompt("Continue 1.", "You are terse."), "1, 2"),
    Row("b", (Message("user", "é\u2028"), Message("assistant", ""), Message("user", "x" * 70_000)), ""),
    Row("c", user_prompt("q"), "words", ("format",), (0, 7)),
    Row("d", (), "half a pair \ud800"),
)


def test_what_is_kept_is_what_was_given() -> None:
    kept = KeptRows(iter(ROWS))
    assert tuple(kept) == ROWS == tuple(kept[:]) and len(kept) == 4
    assert kept[-1] == ROWS[3] and kept[2] == ROWS[2]
    assert tuple(kept[::-2]) == ROWS[::-2] and tuple(kept[1:][1:]) == ROWS[2:]
    assert ROWS[2] in kept and kept.index(ROWS[1]) == 1
    assert not KeptRows([]) and list(KeptRows([])) == []
    for place in (4, -5):
        with pytest.raises(IndexError):
            kept[place]


def test_parts_are_in_the_order_of_their_places() -> None:
    for places in ([3, 0, 0], array("q", [3, 0, 0])):
        some = PickedRows(KeptRows(ROWS), places)
        assert list(some) == [ROWS[3], ROWS[0], ROWS[0]] and list(some[1:]) == [ROWS[0]] * 2
        with pytest.raises(IndexError):
            some[3]


def test_what_a_domain_accepts_is_what_its_filter_keeps() -> None:
    rows = [Row(str(n), user_prompt("Continue 1."), text) for n, text in enumerate(("1, 2", "owl", "3", "", "4 5 6"))]
    for some in (rows, KeptRows(rows), []):
        assert tuple(accepted_rows(some, Numbers())) == filter_rows(some, Numbers()).kept


def test_marks_tell_texts_apart_and_the_first_of_each() -> None:
    marks = marks_of(row.prompt for row in (*ROWS, *ROWS[:3]))
    assert marks[:3].tolist() == marks[4:].tolist() and len(set(marks.tolist())) == 4
    assert first_places(marks).tolist() == [0, 1, 2, 3] and first_places(marks[::-1]).tolist() == [0, 1, 2, 3]
    assert marks_of([]).tolist() == first_places(marks_of([])).tolist() == []


def test_a_disk_that_is_no_place_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(StorageError, match="Rows cannot be kept"):
        KeptRows(ROWS)
