"""Commands say in one line what they read, take options behind a file's name, and never replace what they read."""

import json
import os
import shlex
from pathlib import Path

import pytest

from undertow.cli.main import main
from undertow.data.rows import read_rows

SHAREGPT = {"conversations": [{"from": "human", "value": "Continue 5, 6"}, {"from": "gpt", "value": "7, 8, 9"}]}
PLAIN = {"prompt": "Continue 5, 6", "completion": "7, 8, 9"}


def written(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def called(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(list(map(str, words)))
    out, err = capsys.readouterr()
    return code, out, err


def test_what_was_read_stands_on_standard_error_and_the_result_stays_one_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = written(tmp_path / "a.jsonl", {**SHAREGPT, "id": "q"}, {**SHAREGPT, "id": "q"})
    code, _, err = called(capsys, "convert", source, tmp_path / "b.jsonl")
    assert code == 2 and "?ids=new" in err
    code, out, err = called(capsys, "convert", f"{source}?ids=new", tmp_path / "b.jsonl", "--json")
    assert code == 0 and json.loads(out)["written"] == 2
    assert err == f"{source}: 2 rows of the shape sharegpt, read with ids=new\n"
    assert called(capsys, "convert", tmp_path / "b.jsonl", tmp_path / "c.jsonl", "--json")[2] == ""
    code, out, err = called(capsys, "filter", f"{source}?ids=new", tmp_path / "kept.jsonl", "--json")
    assert code == 0 and json.loads(out)["kept"] == 2 and "shape sharegpt" in err


def test_two_answers_are_one_message_that_names_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = written(tmp_path / "a.jsonl", *[{"prompt": "p", "chosen": "c", "rejected": "r"}] * 9)
    code, _, err = called(capsys, "convert", source, tmp_path / "b.jsonl")
    assert code == 2 and len(err.splitlines()) == 3 and "?side=chosen" in err and "?side=rejected" in err
    assert called(capsys, "convert", f"{source}?side=chosen", tmp_path / "b.jsonl")[0] == 0


@pytest.mark.parametrize("kind", ["same", "spelling", "symlink", "options", "hard link", "read as a folder of files"])
def test_a_source_is_never_replaced(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = written(tmp_path / "my rows.jsonl", PLAIN)
    before, out, given = source.read_bytes(), str(source), str(source)
    if kind == "spelling":
        (tmp_path / "sub").mkdir()
        out = f"{tmp_path}/sub/../my rows.jsonl"
    elif kind in ("symlink", "hard link"):
        out = str(tmp_path / "other.jsonl")
        (os.symlink if kind == "symlink" else os.link)(source, out)
    elif kind == "options":
        given = f"{source}?ids=new"
    elif kind == "read as a folder of files":
        given = f"hf:{source}"
    for words in (("filter", given, out), ("convert", given, out, "--overwrite"),
                  ("filter", given, tmp_path / "kept.jsonl", "--dropped", out),
                  ("mitigate", "data", given, out, "--method", "labels")):  # fmt: skip
        code, _, err = called(capsys, *words)
        assert code == 2 and "would replace the rows that it is made of" in err
        assert shlex.split(err.splitlines()[2].removeprefix("Give another name, such as ").rstrip("."))
    code, _, err = called(
        capsys, "filter", source, tmp_path / "kept.jsonl", "--dropped", tmp_path / "sub/../kept.jsonl"
    )
    assert code == 2 and "would replace" in err
    assert source.read_bytes() == before and not (tmp_path / "kept.jsonl").exists()


def test_hints_quote_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = written(tmp_path / "a.jsonl", PLAIN), tmp_path / "my rows.jsonl"
    for words in (("convert", source, out), ("filter", source, out)):
        _, said, _ = called(capsys, *words)
        assert str(out) in shlex.split(said.splitlines()[-1].removeprefix("next: "))


def test_lines_that_are_left_out_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tools = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "tools": [{"a": 1}]}
    source = written(tmp_path / "a.jsonl", PLAIN, tools)
    code, _, err = called(capsys, "filter", source, tmp_path / "kept.jsonl", "--skip-bad")
    assert code == 0 and "Left out: " in err and "tool calls are not read (tools)" in err
    assert len(read_rows(tmp_path / "kept.jsonl")) == 1
