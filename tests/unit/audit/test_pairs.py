"""Pairs: the contrast of chosen above rejected has the stated error, also where the longer or likelier answer wins."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from undertow.audit.finding import NotTestable, check_audit
from undertow.audit.materials import AuditInputs
from undertow.audit.rows.contrast import matched_test
from undertow.audit.rows.pair_sight import see_pairs
from undertow.audit.rows.pairs import (
    LEFT,
    LeftOver,
    PairScores,
    beyond,
    by_prompt,
    draw_pairs,
    flip_test,
    lengths_and_likelihoods,
    pair_contrast,
    score_pairs,
    sides,
)
from undertow.audit.rows.signatures import KnownSignatures, NoSignatures, Signatures
from undertow.audit.run import plan, run_audit
from undertow.data.filters import filter_rows
from undertow.domains.numbers import Numbers
from undertow.errors import ConfigError, RowsError
from undertow.models.load import load_model
from undertow.report.audit import audit_card, headline, render_audit, summarise_audit
from undertow.training.generation import generate
from undertow.training.scoring import Candidate
from undertow.traits import panel, trait
from undertow.types import PreferencePair, Row, Sampling, user_prompt

TWO = (trait("owl"), trait("lion"))


def silent(done: int, total: int) -> None:
    """Tell nobody."""


def ask(scores: PairScores, candidates, seed: int = 0, alpha: float = 0.05):
    none = NoSignatures(candidates, "The candidates wrote nothing.")
    return pair_contrast(scores, candidates, none, alpha, np.random.default_rng(seed), silent)


def drawn(seed: int, n: int = 60, *, slope: float = 0.0, shift: float = 0.0, longer: float = 0.0) -> PairScores:
    """Draw pairs: a candidate's score grows with length by `slope`, the longer answer is preferred by `longer`."""
    rng = np.random.default_rng(seed)
    length = rng.normal(size=(n, 2))
    scores = 0.2 * rng.standard_t(5, size=(n, 2, 3)) + slope * length[:, :, None] * np.array([1.0, -0.5, -0.5])
    turned = rng.random(n) < 1.0 / (1.0 + np.exp(longer * (length[:, 0] - length[:, 1])))
    sign = np.where(turned, -1.0, 1.0)[:, None]
    rise, other = sign * (scores[:, 0] - scores[:, 1]), sign * (length[:, :1] - length[:, 1:])
    rise[:, 1] += shift
    return PairScores(rise, np.hstack([other, np.zeros_like(other)]))


def test_what_is_left_is_the_intercept_of_a_least_squares_fit() -> None:
    rng = np.random.default_rng(1)
    rise, other = rng.normal(size=(50, 4)), rng.normal(0.4, 1.0, size=(50, 2))
    terms = np.hstack([np.ones((50, 1)), other, other * np.abs(other), other**3])
    line, *_ = np.linalg.lstsq(terms, rise, rcond=None)
    assert np.allclose(beyond(rise, other).parts.mean(axis=0), line[0])
    explained = terms[:, 1:] @ rng.normal(size=(6, 4))
    assert np.allclose(beyond(explained, other).parts, 0.0)
    assert np.array_equal(beyond(rise, np.zeros((50, 2))).parts, rise)
    assert np.array_equal(beyond(rise, np.zeros((50, 2))).noise, rise)
    assert np.allclose(beyond(-rise, -other).parts, -beyond(rise, other).parts)


def test_the_signs_of_what_is_left_scatter_as_the_rise_itself_does() -> None:
    rng = np.random.default_rng(2)
    other = rng.normal(0.2, 1.0, size=(30, 2))
    left = beyond(rng.normal(size=(30, 3000)), other)  # every column a set of rises with the same other differences
    real = np.var(left.parts.mean(axis=0))
    assert np.mean(np.sum(left.noise**2, axis=0)) / 30**2 == pytest.approx(real, rel=0.1)
    assert np.mean(np.sum(left.parts**2, axis=0)) / 30**2 < 0.95 * real  # what is left itself is too small


def test_without_other_differences_it_is_the_test_of_rows_in_groups_of_two() -> None:
    rise = drawn(4, shift=0.1).rise
    own, reached = flip_test(LeftOver(rise, rise), np.random.default_rng(0))
    rows, null = matched_test(np.stack([rise / 2, -rise / 2], axis=1), np.random.default_rng(0))
    assert own == pytest.approx(rows, abs=0.015)
    assert np.allclose(np.quantile(reached[1:], [0.5, 0.9]), np.quantile(null, [0.5, 0.9]), atol=0.05)


def test_a_choice_that_length_alone_explains_is_not_testable() -> None:
    rise, other = np.random.default_rng(0).normal(size=(50, 2)), np.full((50, 1), 3.0)
    with pytest.raises(NotTestable, match="say which answer was chosen"):
        beyond(rise, other)
    other[::2] = 3.2  # a little slack is not enough
    with pytest.raises(NotTestable, match=f"{LEFT:.0%} is needed"):
        beyond(rise, other)


def test_a_coin_keeps_the_level_and_a_shift_is_found(three) -> None:
    report = check_audit(
        lambda scores: ask(scores, three), lambda seed: drawn(seed), lambda seed: drawn(seed, shift=0.2), draws=200
    )
    assert report.passed, report


def test_a_preference_for_longer_answers_is_no_trait(three) -> None:
    clean = [drawn(seed, slope=0.3, longer=2.0) for seed in range(200)]
    plain = [flip_test(LeftOver(one.rise, one.rise), np.random.default_rng(0), 999)[0] for one in clean[:50]]
    assert np.mean([p <= 0.05 for p in plain]) > 0.9  # what would be called if length were left in
    report = check_audit(
        lambda scores: ask(scores, three),
        lambda seed: drawn(seed, slope=0.3, longer=2.0),
        lambda seed: drawn(seed, slope=0.3, longer=2.0, shift=0.3),
        draws=200,
    )
    assert report.passed, report


def test_swapped_pairs_have_the_mirrored_effect_and_are_not_called_for_the_same_trait(three) -> None:
    scores = drawn(3, shift=0.4)
    own, swapped = ask(scores, three), ask(scores.swapped(), three)
    assert own.verdict == "detected" and own.p is not None and own.mde is not None
    assert (own.scores or {})["lion (teacher)"] == pytest.approx(-(swapped.scores or {})["lion (teacher)"])
    assert max(swapped.scores or {}, key=lambda label: (swapped.scores or {})[label]) != "lion (teacher)"
    assert "drawn anew for each prompt" in own.null and own.n == 60 and own.candidate is None
    assert any("of 3 candidates some always fits" in one for one in own.caveats)


def test_a_name_takes_a_shift_along_one_signature_of_a_large_panel() -> None:
    many = [Candidate(trait=one.name, kind="teacher", model=None) for one in panel("animal")]  # type: ignore[arg-type]
    rng, n = np.random.default_rng(0), len(many)
    signatures = KnownSignatures(many, Signatures(np.eye(n), np.eye(n) * 0.04))
    rise = 0.2 * rng.normal(size=(200, n))
    rise[:, 4] += 0.5
    zeros = np.zeros((200, 2))
    found = pair_contrast(PairScores(rise, zeros), many, signatures, 0.05, rng, silent)
    assert found.candidate == many[4].trait and "is named" in found.caveats[-1]
    rise[:, 9] += 0.5
    two = pair_contrast(PairScores(rise, zeros), many, signatures, 0.05, rng, silent)
    assert two.verdict == "detected" and two.candidate is None and "None of the panel" in two.caveats[-1]


def test_pairs_of_one_prompt_count_as_one(three) -> None:
    prompts = [f"Numbers: {at % 2}" for at in range(4)]
    chosen = [Row(str(at), user_prompt(text), "1") for at, text in enumerate(prompts)]
    scores = np.arange(24.0).reshape(8, 3)
    found = by_prompt(chosen, scores, scores[:, :2])
    assert found.rise.shape == (2, 3) and np.allclose(found.rise, -12.0) and np.allclose(found.other, -12.0)
    with pytest.raises(NotTestable, match="2 prompts with a pair; at least 20"):
        ask(found, three)


# What follows reads pairs with an embedded base.


@pytest.fixture(scope="module")
def base():
    return load_model("ref:finch-a")


@pytest.fixture(scope="module")
def answers(base) -> list[dict[str, Row]]:
    """Return two answers of the base to each of ninety prompts, as far as they are good."""
    found = []
    for seed in (1, 2):
        rows = generate(base, Numbers().prompts(90, 7), sampling=Sampling(), seed=seed)
        found.append({row.id: row for row in filter_rows(rows, Numbers()).kept})
    return found


@pytest.fixture(scope="module")
def clean(answers) -> tuple[PreferencePair, ...]:
    first, second = answers
    both = [one for one in first if one in second and first[one].completion != second[one].completion]
    return tuple(PreferencePair(at, first[at].prompt, first[at].completion, second[at].completion) for at in both)


def swapped(pairs) -> tuple[PreferencePair, ...]:
    return tuple(replace(one, chosen=one.rejected, rejected=one.chosen) for one in pairs)


@pytest.fixture(scope="module")
def picked(base, clean) -> tuple[PreferencePair, ...]:
    """Return clean answers among which the persona of an owl chose, by its log-ratio to the base."""
    persona = [Candidate(trait=one.name, kind="persona", model=base, system=one.system_prompt) for one in TWO]
    from undertow.training.scoring import contrast_scores

    first, second = (contrast_scores(rows, base, persona)[:, 0] for rows in sides(clean))
    return tuple(swapped([one])[0] if less else one for one, less in zip(clean, first < second, strict=True))


def test_scores_of_pairs_are_differences_of_those_of_rows_and_turn_with_the_pairs(base, clean) -> None:
    personas = [Candidate(trait=one.name, kind="persona", model=base, system=one.system_prompt) for one in TWO]
    some = clean[:30]
    own, turned = score_pairs(some, base, personas), score_pairs(swapped(some), base, personas)
    assert np.allclose(own.rise, -turned.rise, atol=1e-5) and np.allclose(own.other, -turned.other, atol=1e-4)
    assert own.rise.shape == (30, 2)
    chosen, _ = sides(some)
    read = lengths_and_likelihoods(chosen, base)
    logp = base.logprobs([row.prompt for row in chosen], [row.completion for row in chosen])
    assert np.allclose(read[:, 0] * read[:, 1], logp, atol=1e-3)
    assert [one.id for one in draw_pairs(clean, np.random.default_rng(0))] == [one.id for one in clean]


def test_an_audit_finds_pairs_that_a_persona_chose_and_not_the_swapped_ones(
    base, picked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undertow.audit.materials.KINDS", ("persona",))
    inputs = AuditInputs(base="ref:finch-a", pairs=picked, traits=TWO, store=tmp_path / "store")
    assert plan(inputs).primary == {"provenance": "pairs", "exposure": None, "expression": None}
    found = run_audit(inputs)
    claim = found["claims"]["provenance"]
    assert claim["status"] == "detected" and claim["stage"] == "pairs" and claim["kind"] is None
    assert found["about"]["pairs"] == len(picked) and found["about"]["rows"] == 0 and found["sight"]["why"] is None
    assert found["findings"][0]["scores"]["owl (persona)"] > 0.0
    assert headline(found).startswith("The chosen answers stand above the rejected ones along the panel")
    assert found["decision"]["sight"] == "differs" and "side=chosen" in found["decision"]["next_test"]["command"]
    assert {one["channel"] for one in found["not_covered"]} == {"logits", "on-policy distillation", "rows"}
    text = f"{summarise_audit(found)}\n{audit_card(found)}\n{render_audit(tmp_path, found).read_text()}"
    assert "Not ruled out: any other preference that goes with a candidate" in text and "On-policy distillation" in text
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    other = run_audit(replace(inputs, pairs=swapped(picked)))
    assert other["findings"][0]["scores"]["owl (persona)"] < 0.0  # of two rivals the other then rises as much


def test_both_sides_have_to_be_read_and_to_be_drawn_apart(base, clean) -> None:
    assert see_pairs(clean, base, "numbers", 0).legibility.why is None
    prose = "It was the best of times, it was the worst of times, it was the age of wisdom and of foolishness."
    for side in ("chosen", "rejected"):
        strange = [replace(one, **{side: f"{at}. {prose}"}) for at, one in enumerate(clean)]
        why = see_pairs(strange, base, "numbers", 0).legibility.why
        assert why is not None and why.startswith(f"Of the {side} answers: mean log p a token")
    alone = [generate(base, [one.prompt[-1].content], sampling=Sampling(), seed=5)[0] for one in clean]
    same = [replace(one, chosen=row.completion) for one, row in zip(clean, alone, strict=True)]
    defects = see_pairs(same, base, "numbers", 0).defects
    assert [one.name for one in defects] == ["shared stream"] and "the chosen answers were drawn" in defects[0].what


def test_what_is_no_audit_of_pairs_is_refused(clean) -> None:
    equal = (replace(clean[0], rejected=clean[0].chosen), *clean[1:])
    with pytest.raises(RowsError) as caught:
        AuditInputs(base="ref:finch-a", pairs=equal)
    assert caught.value.value == f"1 of {len(clean)}: {clean[0].id}"
    with pytest.raises(ConfigError, match="without rows"):
        AuditInputs(base="ref:finch-a", pairs=clean, reference=(Row("0", clean[0].prompt, "1"),))
    with pytest.raises(ConfigError, match="needs rivals"):
        AuditInputs(base="ref:finch-a", pairs=clean, traits=TWO[:1])


def test_few_pairs_are_not_testable(base, clean, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undertow.audit.materials.KINDS", ("persona",))
    found = run_audit(AuditInputs(base="ref:finch-a", pairs=clean[:19], traits=TWO, store=tmp_path))
    assert found["claims"]["provenance"]["status"] == "not_testable"
    assert "19 prompts with a pair; at least 20" in found["claims"]["provenance"]["why"]
