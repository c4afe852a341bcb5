"""Files of preference pairs: told from files of rows, counted by side, refused where nothing was chosen."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.data.pairs import count_pairs, holds_pairs, read_pairs, refuse_equal_answers, write_pairs
from undertow.errors import RowsError
from undertow.types import Message, PreferencePair

PAIRS = [{"prompt": f"{at % 3}, 6", "chosen": "7, 8, 9", "rejected": f"{at}"} for at in range(5)]


def written(path: Path, records: list[dict]) -> Path:
    path.write_text("\n".join(json.dumps(one) for one in records) + "\n")
    return path


def test_pairs_are_told_from_rows_unless_a_side_is_picked(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", PAIRS)
    assert holds_pairs(path) and holds_pairs(f"{path}?ids=new") and not holds_pairs(f"{path}?side=chosen")
    assert not holds_pairs(written(tmp_path / "b.jsonl", [{"prompt": "p", "completion": "c"}]))
    (tmp_path / "empty.jsonl").touch()
    assert not holds_pairs(tmp_path / "empty.jsonl")


def test_a_first_line_that_is_no_record_is_no_pair(tmp_path: Path) -> None:
    for text in ("{broken\n", '{"unknown": 1}\n', "[1, 2]\n"):
        (tmp_path / "c.jsonl").write_text(text + json.dumps(PAIRS[0]) + "\n")
        assert not holds_pairs(tmp_path / "c.jsonl")


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4))
def test_written_pairs_are_read_back(answers: list[tuple[str, str]]) -> None:
    prompt = (Message("system", "Be brief."), Message("user", "1, 2"))
    pairs = [PreferencePair(str(at), prompt, *both) for at, both in enumerate(answers)]
    with TemporaryDirectory() as folder:
        write_pairs(Path(folder) / "pairs.jsonl", pairs)
        assert list(read_pairs(Path(folder) / "pairs.jsonl")) == pairs


def test_both_sides_are_counted(tmp_path: Path) -> None:
    said: list[str] = []
    found = count_pairs(written(tmp_path / "a.jsonl", PAIRS), said.append)
    assert (found.chosen.rows, found.rejected.rows, found.prompts) == (5, 5, 3) and len(said) == 1
    assert found.chosen.completion_characters == (7, 7, 7) and found.rejected.completion_characters == (1, 1, 1)
    assert found.chosen.source.endswith("?side=chosen") and found.rejected.source.endswith("?side=rejected")


def test_pairs_with_equal_answers_are_refused_by_their_ids(tmp_path: Path) -> None:
    same = [{**one, "id": f"p{at}", "rejected": one["chosen"]} for at, one in enumerate(PAIRS)]
    pairs = read_pairs(
        written(tmp_path / "a.jsonl", [*PAIRS, *same, *[{**same[0], "id": f"q{at}"} for at in range(2)]])
    )
    with pytest.raises(RowsError, match="answers are equal") as caught:
        refuse_equal_answers(pairs)
    assert caught.value.value == "7 of 12: p0, p1, p2, p3, p4 and 2 more" and "nothing was chosen" in caught.value.fix
    refuse_equal_answers(pairs[:5])
