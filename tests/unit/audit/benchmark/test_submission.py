"""Submissions are read strictly: whatever is not in the format is refused, with the line and what to do."""

import json

import pytest

from undertow.audit.benchmark.files import SCHEMA, Answer, Submission, read_submission, write_submission
from undertow.errors import ConfigError, UnknownNameError

IDS = ("case-0001", "case-0002")
HEADER = {"schema": SCHEMA, "detector": "mine"}
GOOD = {"case": "case-0001", "p": 0.5, "candidate": None, "seconds": 1}


@pytest.fixture
def written(tmp_path):
    def write(*lines: object) -> object:
        path = tmp_path / "mine.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return path

    return write


def test_what_is_written_is_read_back(tmp_path) -> None:
    answers = {
        "case-0001": Answer(p=None, candidate=None, seconds=0.25),
        "case-0002": Answer(p=1.0, candidate="owl", seconds=0.0, rows_read=12),
    }
    write_submission(tmp_path / "mine.jsonl", Submission("mine", answers))
    assert read_submission(tmp_path / "mine.jsonl", IDS) == Submission("mine", answers)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jsonl"]


def test_lines_come_in_any_order_and_rows_read_may_be_left_out(written) -> None:
    path = written(HEADER, {**GOOD, "case": "case-0002", "rows_read": 3}, "", GOOD)
    found = read_submission(path, IDS).answers
    assert found["case-0001"].rows_read is None and found["case-0002"].rows_read == 3


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"p": 0.0}, "outside (0, 1]"),
        ({"p": 1.01}, "outside (0, 1]"),
        ({"p": -0.1}, "outside (0, 1]"),
        ({"p": float("nan")}, "outside (0, 1]"),
        ({"p": True}, "outside (0, 1]"),
        ({"p": "0.5"}, "outside (0, 1]"),
        ({"candidate": 3}, "candidate is not text"),
        ({"seconds": -1}, "seconds are not"),
        ({"seconds": None}, "seconds are not"),
        ({"rows_read": 1.5}, "rows read are not"),
        ({"rows_read": -1}, "rows read are not"),
        ({"confidence": 1}, "not in the format"),
    ],
)
def test_a_value_out_of_range_is_refused(written, changed, what) -> None:
    with pytest.raises(ConfigError) as error:
        read_submission(written(HEADER, {**GOOD, **changed}), IDS)
    assert what in error.value.what
    assert "mine.jsonl:2" in error.value.value and error.value.fix
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize("key", ["p", "candidate", "seconds"])
def test_every_key_has_to_be_there(written, key) -> None:
    with pytest.raises(ConfigError, match="lacks p, candidate or seconds"):
        read_submission(written(HEADER, {name: value for name, value in GOOD.items() if name != key}), IDS)


def test_every_case_is_answered_once(written) -> None:
    with pytest.raises(ConfigError, match="1 of 2 cases have no answer") as error:
        read_submission(written(HEADER, GOOD), IDS)
    assert "case-0002" in error.value.value
    with pytest.raises(ConfigError, match="answered twice"):
        read_submission(written(HEADER, GOOD, GOOD), IDS)
    with pytest.raises(UnknownNameError, match="no case in this benchmark") as error:
        read_submission(written(HEADER, {**GOOD, "case": "case-0003"}), IDS)
    assert "case-0003" in error.value.value and "mine.jsonl:2" in error.value.value
    with pytest.raises(UnknownNameError):
        read_submission(written(HEADER, {"p": 0.5}), IDS)


@pytest.mark.parametrize("lines", [(), (GOOD,), ({"schema": SCHEMA},), ({**HEADER, "detector": " "},)])
def test_a_submission_begins_with_its_header(written, lines) -> None:
    with pytest.raises(ConfigError, match="header of a submission"):
        read_submission(written(*lines), IDS)


def test_what_is_no_jsonl_is_refused(written, tmp_path) -> None:
    with pytest.raises(ConfigError, match="not JSON"):
        read_submission(written(HEADER, "p = 0.5"), IDS)
    with pytest.raises(ConfigError, match="not a JSON object"):
        read_submission(written(HEADER, "[1]"), IDS)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_submission(tmp_path / "none.jsonl", IDS)
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_submission(tmp_path / "bytes.jsonl", IDS)
