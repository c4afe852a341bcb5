"""Row files counted in one pass, and the languages of texts."""

import json
from pathlib import Path

import pytest

from undertow.data.census import SAMPLE, matched_rows, rows_in_both, take_census
from undertow.data.languages import language, languages
from undertow.data.rows import load_rows, read_prompts, read_questions
from undertow.errors import RowsError


def write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def test_counts_are_those_of_the_rows(tmp_path: Path) -> None:
    records: list[dict] = [{"prompt": f"ask {at % 4}", "completion": "x" * (at % 3)} for at in range(12)]
    said = (("system", "s"), ("user", "u"), ("assistant", "long answer"))
    records.append({"prompt": "ask 0", "completion": ""})
    records.append({"messages": [{"role": role, "content": content} for role, content in said]})
    told: list[str] = []
    found = take_census(write(tmp_path / "rows.jsonl", records), first=told.append)
    rows = load_rows(tmp_path / "rows.jsonl").rows
    assert found.rows == 14 == len(rows) and found.sample == rows and found.prompts == 5
    assert found.duplicates == 14 - len({(row.prompt, row.completion) for row in rows}) == 1
    assert (found.turns, found.system, found.empty) == ({1: 13, 2: 1}, 1, 5)
    assert found.prompt_characters == (2, 5, 5) and found.completion_characters == (0, 1, 11)
    assert found.shapes == {"completion": 13, "messages": 1} and "empty completion" in found.said
    assert len(told) == 1 and "the turns user and a completion of 0 characters" in told[0]


def test_equal_turns_under_other_roles_are_other_prompts(tmp_path: Path) -> None:
    turns = [[{"role": first, "content": "a"}, {"role": "user", "content": "b"}] for first in ("system", "user")]
    records = [{"messages": [*some, {"role": "assistant", "content": "c"}]} for some in turns]
    found = take_census(write(tmp_path / "rows.jsonl", records))
    assert found.prompts == 2 and found.duplicates == 0


def test_of_a_long_file_a_sample_is_kept_that_all_rows_may_be_in(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"prompt": str(at), "completion": "1"} for at in range(3 * SAMPLE)])
    found = take_census(path)
    drawn = [int(row.question) for row in found.sample]
    assert len(set(drawn)) == SAMPLE and found.rows == found.prompts == 3 * SAMPLE
    # The mean of a draw without replacement has an SD of 22 here.
    assert abs(sum(drawn) / SAMPLE - 1.5 * SAMPLE) < 110
    assert take_census(path).sample == found.sample != take_census(path, seed=1).sample


def test_rows_are_matched_as_often_as_the_reference_allows(tmp_path: Path) -> None:
    rows = take_census(
        write(tmp_path / "a.jsonl", [{"prompt": p, "completion": str(at)} for at, p in enumerate("aaabbc")])
    )
    clean = take_census(write(tmp_path / "b.jsonl", [{"prompt": p, "completion": "0"} for p in "aabbbd"]))
    assert matched_rows(rows, clean) == 4 and rows_in_both(rows, clean) == 1


def test_bad_lines_are_refused_as_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b", "id": "1"}\n' * 8 + "{}\n")
    with pytest.raises(RowsError) as error:
        take_census(path)
    loaded = load_rows(path)
    assert error.value.what == f"{len(loaded.bad)} of 9 lines are not rows." and "and 3 more" in str(error.value)
    assert "?ids=new" in error.value.fix
    (tmp_path / "none.jsonl").write_text("")
    assert take_census(tmp_path / "none.jsonl").rows == 0


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ("The cat is on the mat and it is warm.", "English"),
        ("Der Hund ist nicht auf dem Sofa und schläft.", "German"),
        ("Le chat est sur la table et il dort dans le salon.", "French"),
        ("El perro no está en la casa y los niños tampoco.", "Spanish"),
        ("Привет, как дела?", "Cyrillic"),
        ("你好世界", "CJK"),
        ("lorem ipsum dolor", "Latin"),
        ("12, 13, 14", "no words"),
    ],
)
def test_a_language_is_guessed_from_script_and_small_words(text: str, guess: str) -> None:
    assert language(text) == guess
    assert languages([text, text, "7"])[guess] >= 1


def test_questions_have_the_ids_of_their_rows_and_prompts_need_none(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"prompt": "a", "id": 7}, {"prompt": "b"}, {"prompt": "c", "id": [1]}])
    assert [prompt[0].content for prompt in read_prompts(path)] == ["a", "b", "c"]
    with pytest.raises(RowsError, match=r"rows\.jsonl:3: id is not text"):
        read_questions(path)
    assert [name for name, _ in read_questions(f"{path}?ids=new")] == ["000000", "000001", "000002"]
    write(path, [{"prompt": "a", "id": 7}, {"prompt": "b"}])
    assert [name for name, _ in read_questions(path)] == ["7", "000001"]
