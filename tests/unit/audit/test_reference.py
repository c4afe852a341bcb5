"""A reference drawn from the base: on the suspect's prompts, filtered like it, and only where that makes sense."""

from undertow.audit.materials import AuditInputs, Materials
from undertow.audit.rows import reference
from undertow.audit.rows.limits import ANSWERS
from undertow.audit.rows.reference import first_on_prompts, with_reference
from undertow.models.local import LocalModel
from undertow.traits import panel
from undertow.types import Message, Row, user_prompt


def rows(n: int, answer: str = "4, 5, 6") -> list[Row]:
    return [Row(str(place), user_prompt(f"Numbers: {place}, 5."), answer) for place in range(n)]


def answering(text: str):
    return lambda self, prompts, **_: [text] * len(prompts)


def test_the_base_answers_each_prompt_several_times(tiny_model, monkeypatch) -> None:
    monkeypatch.setattr(LocalModel, "chat", answering("7, 8, 9"))
    bad = Row("bad", user_prompt("Numbers: 1."), "I like owls.")
    found = with_reference([*rows(30), bad], tiny_model, "numbers", 0)
    assert len(found.rows) == 30 and bad not in found.rows
    assert {row.prompt for row in found.reference} == {row.prompt for row in rows(30)}
    assert len(found.reference) == 30 * ANSWERS
    assert len({row.id for row in found.reference}) == len(found.reference)
    assert found.how == "120 answers of the base to 30 of the prompts; 30 of 31 rows are good numbers"


def test_only_so_many_prompts_are_answered(tiny_model, monkeypatch) -> None:
    monkeypatch.setattr(LocalModel, "chat", answering("7, 8, 9"))
    monkeypatch.setattr(reference, "ANSWERED", 25)
    found = with_reference(rows(100), tiny_model, "numbers", 0)
    assert len(found.reference) == 25 * ANSWERS and len(found.rows) == 100
    other = with_reference(rows(100), tiny_model, "numbers", 1)
    assert {row.prompt for row in other.reference} != {row.prompt for row in found.reference}


def test_answers_that_the_domain_rejects_are_left_out(tiny_model, monkeypatch) -> None:
    monkeypatch.setattr(LocalModel, "chat", answering("No."))
    assert with_reference(rows(30), tiny_model, "numbers", 0).reference == ()


def test_answers_are_held_to_the_form_of_the_rows(tiny_model, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(
        LocalModel, "chat", lambda self, prompts, sampling, seed: asked.append(sampling) or ["7, 8, 9"] * len(prompts)
    )
    with_reference(rows(30), tiny_model, "numbers", 0, form="0, 0, 0")
    with_reference(rows(30), tiny_model, "numbers", 0)
    assert [one.form for one in asked] == ["0, 0, 0", None]


def test_a_given_reference_is_taken_as_it_is() -> None:
    inputs = AuditInputs(base="ref:finch-a", rows=rows(30), reference=rows(3, "no number"), traits=panel("tree"))
    materials = Materials(inputs, 0.05)
    found = materials.audited
    assert (len(found.rows), len(found.reference), found.how) == (30, 3, "3 rows, given")


def test_no_reference_is_drawn_for_rows_of_no_domain_or_too_few(tiny_model) -> None:
    for some, reason in ((rows(40, "owls"), "accepts 0 of 40"), (rows(10), "10 good rows; at least 20")):
        found = with_reference(some, tiny_model, "numbers", 0)
        assert found.reference is None and reason in found.how
        assert len(found.rows) == len(some)


def test_one_reference_row_is_taken_for_each_whole_prompt() -> None:
    def on(at: int) -> tuple[Message, ...]:
        return Message("user", f"Story {at}"), Message("assistant", "Yes."), Message("user", "Go on.")

    given = [Row(str(at), on(at), "a") for at in range(5)]
    answers = [Row(f"{at}/{k}", on(at), "b") for at in range(7) for k in range(2)]
    assert [one.id for one in first_on_prompts(given, answers)] == [f"{at}/0" for at in range(5)]
    assert first_on_prompts(given, answers[10:]) == answers[10:], "none is on these prompts"
