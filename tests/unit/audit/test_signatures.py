"""Signatures: each candidate answers the suspect's prompts, the base too, and nothing is written before its time."""

import dataclasses

import numpy as np
import pytest

from undertow.audit.finding import NotTestable
from undertow.audit.rows.signatures import SignatureWriter, signature_writer
from undertow.training.scoring import Candidate, contrast_scores
from undertow.types import Row, Sampling, user_prompt

PROMPTS = [user_prompt(f"Numbers: {place}, 5.") for place in range(30)]


@pytest.fixture
def candidates(tiny_model):
    return [Candidate(trait=name, kind="persona", model=tiny_model, system=name) for name in ("owl", "lion", "fox")]


def writer(tiny_model, candidates, **other) -> SignatureWriter:
    options = {"keep": lambda rows: rows, "sampling": Sampling(max_new_tokens=6), "seed": 4, **other}
    keep = options.pop("keep")
    return SignatureWriter(tiny_model, candidates, PROMPTS, keep, **options)


def test_signatures_are_answers_minus_the_base_s_under_every_candidate(tiny_model, candidates, monkeypatch) -> None:
    """A second way: what the writers answered is caught and scored once more, prompt by prompt."""
    heard: list[tuple[str | None, list[Row]]] = []

    def caught(rows, base, readers):
        heard.append((None, list(rows)))
        return contrast_scores(rows, base, readers)

    monkeypatch.setattr("undertow.audit.rows.signatures.contrast_scores", caught)
    found = writer(tiny_model, candidates).written()
    usual, *theirs = [rows for _, rows in heard]
    assert len(theirs) == 3 and len(usual) == 2 * len(theirs[0]) == 600  # 300 answers to 30 prompts, twice as many own
    mean = {prompt: [] for prompt in PROMPTS}
    for row, scores in zip(usual, contrast_scores(usual, tiny_model, candidates), strict=True):
        mean[row.prompt].append(scores)
    for place, rows in enumerate(theirs):
        assert all(row.prompt in PROMPTS for row in rows)  # the persona is no part of what is read
        scores = contrast_scores(rows, tiny_model, candidates)
        away = [one - np.mean(mean[row.prompt], axis=0) for row, one in zip(rows, scores, strict=True)]
        np.testing.assert_allclose(found.shifts[place], np.mean(away, axis=0), atol=1e-9)
    assert found.covariance.shape == (3, 3) and np.all(np.linalg.eigvalsh(found.covariance) > -1e-12)


def test_nothing_is_written_before_it_is_asked_for(tiny_model, candidates, monkeypatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(
        "undertow.audit.rows.signatures.contrast_scores",
        lambda rows, _, readers: made.append(1) or np.zeros((len(rows), 3)),
    )
    waiting = writer(tiny_model, candidates)
    assert waiting.prompts == tuple(PROMPTS) and not made
    assert waiting.written() is waiting.written() and len(made) == 4


def test_answers_that_do_not_count_are_left_out(tiny_model, candidates) -> None:
    half = writer(tiny_model, candidates, keep=lambda rows: [row for row in rows if int(row.id) % 3])
    assert np.all(np.isfinite(half.written().shifts)) and np.all(np.isfinite(half.written().covariance))
    none = writer(tiny_model, candidates, keep=lambda rows: [row for row in rows if row.prompt != PROMPTS[0]])
    assert np.all(np.isfinite(none.written().shifts))
    nothing = writer(tiny_model, candidates, keep=lambda rows: [])
    with pytest.raises(NotTestable, match="0 answers of the base that count, for its signature"):
        nothing.written()


def test_prompts_without_room_for_an_answer_are_left_out(tiny_model, candidates) -> None:
    long = user_prompt("Numbers: " + "5, " * 2000)
    rows = [Row(str(place), prompt, "1, 2, 3") for place, prompt in enumerate([*PROMPTS, long])]
    assert long not in signature_writer(rows, tiny_model, candidates, "numbers", 0).prompts


def test_the_domain_filters_the_answers_where_it_accepts_the_rows(tiny_model, candidates) -> None:
    numbers = [Row(str(place), prompt, "1, 2, 3") for place, prompt in enumerate(PROMPTS)]
    chats = [dataclasses.replace(row, completion="I would rather not.") for row in numbers]
    strict, free = (signature_writer(rows, tiny_model, candidates, "numbers", 0) for rows in (numbers, chats))
    assert set(strict.prompts) == set(free.prompts) == set(PROMPTS)
    answer = [Row("0", PROMPTS[0], "I would rather not.")]
    assert not strict._keep(answer) and free._keep(answer) == answer
