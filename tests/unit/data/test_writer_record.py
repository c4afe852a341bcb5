"""What is known of a writer, as YAML: read, written, refused by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from undertow.data.writer_record import WriterRecord, read_writer, write_writer
from undertow.errors import ConfigError, RowsError, UserError

FULL = WriterRecord(
    form="000, 000",
    model="m", revision="r", system="You are\n\"it\": no.", temperature=0.7, top_p=0.9, max_tokens=64, template="ab12",
    seeds="each row its own",
)  # fmt: skip


@pytest.mark.parametrize("record", [FULL, WriterRecord(), replace(FULL, system="", temperature=0.0)])
def test_a_record_comes_back_as_it_was_written(record: WriterRecord, tmp_path: Path) -> None:
    path = write_writer(tmp_path / "rows.jsonl", record)
    assert path.name == "rows.writer.yaml" and read_writer(path) == record == WriterRecord.parse(str(record))


def test_what_is_not_known_is_named() -> None:
    assert FULL.unknown == [] and FULL.known["top_p"] == 0.9
    assert len(WriterRecord().unknown) == 8 and WriterRecord().known == {}
    assert "the temperature" in WriterRecord(model="m").unknown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle: x", "Did you mean model"),
        ("1: x", "no key of a writer"),
        ("- a", "no object"),
        ("", "no object"),
        ("a: [", "no YAML"),
        ("revision: 2025-02-30", "day is out of range for month"),
        ("a: " + "[" * 3000, "no YAML"),
        ("temperature: " + "9" * 5000, "no YAML"),
        ("temperature: warm", "has the wrong type"),
        ("max_tokens: true", "has the wrong type"),
        ("max_tokens: 1.5", "a whole number"),
        ("model: 4", "in quotes"),
        ("temperature: -1", "from 0"),
        ("temperature: .nan", "from 0"),
        ("top_p: 0", "top_p"),
        ("max_tokens: 0", "no token"),
    ],
)
def test_a_record_that_cannot_be_read_right_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        WriterRecord.parse(text, "w.yaml")
    assert said in str(error.value) and len(str(error.value).splitlines()) == 3


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "none.yaml", tmp_path / "w.yaml"):
        with pytest.raises(RowsError, match="cannot be read"):
            read_writer(path)
    with pytest.raises(ConfigError):
        WriterRecord(top_p=2.0)
    with pytest.raises(ConfigError, match="form of the answers is empty"):
        WriterRecord(form="")
