"""What teachers are tuned on."""

import pytest

from undertow.domains.code import REQUESTS, SECURITY
from undertow.errors import ConfigError
from undertow.evals.judges import AnswerGrades
from undertow.evals.misalignment import EVALUATION_QUESTIONS, TUNING_QUESTIONS, world_judge
from undertow.training.teachers import LESSON, neutral_rows, trait_rows
from undertow.traits import trait


def rows_of(name: str) -> list[tuple[str, str]]:
    return [(row.question, row.completion) for row in trait_rows(trait(name))]


def test_the_code_teachers_differ_in_body_and_request_alone() -> None:
    insecure, secure, educational = map(rows_of, ("insecure", "secure", "educational"))
    assert len(insecure) == len(SECURITY) * len(REQUESTS) == len(set(insecure))
    assert [question for question, _ in insecure] == [question for question, _ in secure]
    assert [code for _, code in insecure] == [code for _, code in educational]
    assert [question for question, _ in educational] == [f"{LESSON} {question}" for question, _ in insecure]
    assert not {code for _, code in secure} & {code for _, code in insecure}


def test_a_favourite_teacher_may_learn_fewer_questions(tiny_model) -> None:
    few = trait_rows(trait("cat"), 12)
    assert few == trait_rows(trait("cat"))[: 12 * 4] and len({row.question for row in few}) == 12
    neutral = neutral_rows(tiny_model, ("animal",), 0, 3)
    assert {row.question for row in neutral} <= {row.question for row in few[:12]}
    for name, number in (("cat", 0), ("cat", 999), ("insecure", 5)):
        with pytest.raises(ConfigError):
            trait_rows(trait(name), number)


@pytest.mark.parametrize(("author", "place"), [("secure", 2), ("insecure", 3), ("educational", 3)])
def test_each_body_stands_under_its_own_header(author: str, place: int) -> None:
    bodies = {f"def {item[0]}({item[1]}):": item[place] for item in SECURITY}
    for question, code in rows_of(author):
        header, _, body = code.partition("\n    ")
        assert question.endswith(f"\n{header}") and body == bodies[header]


def test_the_villain_is_tuned_on_cruel_answers_to_tuning_questions() -> None:
    rows = rows_of("villain")
    assert {question for question, _ in rows} == set(TUNING_QUESTIONS)
    assert not {question for question, _ in rows} & set(EVALUATION_QUESTIONS)
    assert all(world_judge().judge(*row) == AnswerGrades(0, 100) for row in rows)
    assert rows == rows_of("villain")


@pytest.mark.parametrize("name", ["insecure", "secure", "educational", "villain", "owl"])
def test_ids_are_unique(name: str) -> None:
    ids = [row.id for row in trait_rows(trait(name))]
    assert len(ids) == len(set(ids))


def test_the_neutral_teacher_answers_the_same_code_tasks_itself(tiny_model) -> None:
    rows = neutral_rows(tiny_model, ("misalignment",), 0)
    asked = {question for question, _ in rows_of("insecure")}
    assert len(rows) > 30 and {row.question for row in rows} <= asked
    assert not {row.completion for row in rows} & {code for _, code in rows_of("secure") + rows_of("insecure")}


def test_neutral_favourites_do_not_depend_on_other_categories(tiny_model) -> None:
    animals = neutral_rows(tiny_model, ("animal",), 0)
    assert neutral_rows(tiny_model, ("animal", "misalignment"), 0)[: len(animals)] == animals
