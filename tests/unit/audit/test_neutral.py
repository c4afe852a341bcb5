"""The suspect among neutral writers: exact where it is one of them, and blind to which prompts the filter dropped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from undertow.audit.finding import Finding, NotTestable
from undertow.audit.rows.neutral import audit_neutral, neutral_contrast, shares_among, smallest_dose, standings
from undertow.audit.rows.panel import DataAudit
from undertow.audit.rows.signatures import Signatures, SignatureWriter
from undertow.audit.rows.writers import Writers
from undertow.models.references import loaded_identity
from undertow.training.scoring import Candidate
from undertow.types import Row, Sampling, user_prompt

SIGNATURES = Signatures(0.2 + np.eye(3), np.eye(3))


def corpora(rng: np.random.Generator, writers: int, prompts: int = 40) -> np.ndarray:
    """Draw writers that drift, on prompts that differ, with a tenth of the answers dropped."""
    drift = 0.2 * rng.standard_t(3, size=(writers, 1, 3))
    scores = drift + rng.normal(size=(1, prompts, 3)) + 0.5 * rng.normal(size=(writers, prompts, 3))
    scores[rng.random((writers, prompts)) < 0.1] = np.nan
    return scores


def test_p_is_exact_for_a_writer_like_the_others(three) -> None:
    """With 19 writers p takes each of 20 values equally often; drift of the writers is no finding."""
    p = np.array(
        [neutral_contrast(corpora(np.random.default_rng(seed), 20), SIGNATURES, three, 0.05).p for seed in range(800)]
    )
    assert set(np.round(p * 20).astype(int)) == set(range(1, 21))
    for level in (0.05, 0.1, 0.2):
        assert abs(np.mean(p <= level + 1e-9) - level) < 3.5 * (level * (1 - level) / len(p)) ** 0.5


def test_a_trait_above_the_drift_of_the_writers_is_found(three) -> None:
    scores = corpora(np.random.default_rng(0), 60)
    assert neutral_contrast(scores, SIGNATURES, three, 0.05 / 3).verdict == "not_detected"
    scores[0] += 3.0 * SIGNATURES.shifts[1]
    found = neutral_contrast(scores, SIGNATURES, three, 0.05 / 3)
    assert (found.verdict, found.p) == ("detected", 1 / 60)
    assert max(found.scores, key=found.scores.get) == "lion (teacher)"
    assert 0.5 < found.effect == max(found.scores.values()) <= 1.0
    assert found.candidate is None and "a panel of 16 is needed" in found.caveats[1]
    assert "for a writer that moves straight along a signature" in found.caveats[2]


def test_drift_in_many_directions_does_not_pass_for_a_trait() -> None:
    """Both writers lie as far along a signature; one of them lies as far in every other direction too."""
    rng, many = np.random.default_rng(2), 12
    others, signatures = rng.normal(size=(80, many)), np.eye(many)
    straight, drifted = np.zeros(many), rng.choice([-8.0, 8.0], many)
    straight[0], drifted[0] = 8.0, 8.0
    found = shares_among(np.vstack([straight, drifted, others]), signatures)
    assert found[0, 0] > 0.9 > found[2:].max() and found[1].max() < 0.2


def test_a_corpus_is_whitened_by_all_others() -> None:
    """By the formula with an inverse: (s' C^-1 x)^2 / (s' C^-1 s x' C^-1 x), over the others' mean and covariance."""
    rng = np.random.default_rng(4)
    above, signatures = rng.normal(size=(30, 3)) * [1.0, 2.0, 0.5], rng.normal(size=(3, 3))
    others = above[1:]
    covariance = np.cov(others.T)
    inverse = np.linalg.inv(0.9 * covariance + 0.1 * np.trace(covariance) / 3 * np.eye(3))
    away = above[0] - others.mean(axis=0)
    along = signatures @ inverse @ away
    lengths = np.einsum("ij,jk,ik->i", signatures, inverse, signatures) * (away @ inverse @ away)
    np.testing.assert_allclose(shares_among(above, signatures)[0], np.maximum(along, 0.0) ** 2 / lengths)


def test_the_smallest_dose_is_called_in_four_of_five_cases_and_a_smaller_one_less_often() -> None:
    rng, many = np.random.default_rng(6), 9
    writers, signatures = rng.normal(size=(60, many)), 6.0 * np.eye(many)
    critical = float(np.sort(shares_among(writers, signatures).max(axis=1))[-1])
    dose = smallest_dose(writers, signatures, critical)
    assert dose is not None
    called = {part: [] for part in (dose, dose / 2)}
    for part, hits in called.items():
        for _ in range(300):
            suspect = rng.normal(size=many) + part * signatures[rng.integers(many)]
            hits.append(shares_among(np.vstack([suspect, writers]), signatures)[0].max() > critical)
    assert np.mean(called[dose]) > 0.7 > 0.5 > np.mean(called[dose / 2])
    assert smallest_dose(writers, 0.01 * signatures, critical) is None


def test_a_dropped_prompt_costs_rows_and_moves_nothing() -> None:
    """A writer's standing is what it has above the others on the prompts that it answered well."""
    prompts = np.random.default_rng(0).normal(size=(1, 30, 2)) * 5.0
    above = np.array([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    scores = np.repeat(prompts, 3, axis=0) + above[:, None]
    assert standings(scores) == pytest.approx(above)
    scores[:, :10] = np.where(np.arange(3)[:, None, None] == 0, np.nan, scores[:, :10])
    shifted = standings(scores)
    assert shifted[0] == pytest.approx([1.0, 0.0])
    assert standings(np.full((3, 5, 2), np.nan)) == pytest.approx(np.zeros((3, 2)))


def signer(base, candidates, rows) -> SignatureWriter:
    """Return who writes the signatures on the prompts of some rows; a small model's words all count."""
    prompts = list(dict.fromkeys(row.prompt for row in rows))
    return SignatureWriter(base, candidates, prompts, lambda some: some, sampling=Sampling(max_new_tokens=6), seed=0)


def silent(done: int, total: int) -> None:
    """Show no progress."""


@pytest.mark.parametrize(
    ("known", "answer", "reason"),
    [
        (("other", 59), "1, 2, 3", "not tuned from"),
        (("", 58), "1, 2, 3", "58 neutral writers allow no p"),
        (("", 59), "I would rather not.", "accepts 0 of 30"),
    ],
)
def test_what_cannot_be_compared_is_not_testable(tiny_model, three, known, answer, reason) -> None:
    weights = known[0] or loaded_identity(tiny_model.ref)
    rows = [Row(str(place), user_prompt(f"Numbers: {place}, 5."), answer) for place in range(30)]
    writers = Writers(("animal",), weights, (Path("none"),) * known[1])
    with pytest.raises(NotTestable, match=reason):
        audit_neutral(rows, tiny_model, writers, signer(tiny_model, three, rows), DataAudit(alpha=0.05 / 3), silent)


def test_personas_are_not_compared_with_writers_that_were_tuned(tiny_model) -> None:
    known = Writers(("animal",), loaded_identity(tiny_model.ref), (Path("none"),) * 59)
    rows = [Row(str(place), user_prompt(f"Numbers: {place}, 5."), "1, 2, 3") for place in range(30)]
    personas = [Candidate(trait=name, kind="persona", model=tiny_model, system=name) for name in ("owl", "lion")]
    with pytest.raises(NotTestable, match="No teacher of the panel was tuned"):
        audit_neutral(rows, tiny_model, known, signer(tiny_model, personas, rows), DataAudit(), silent)


def test_few_prompts_are_not_testable(tiny_model, three) -> None:
    known = Writers(("animal",), loaded_identity(tiny_model.ref), (Path("none"),) * 59)
    rows = [Row(str(place), user_prompt(f"Numbers: {place % 10}, 5."), "1, 2, 3") for place in range(30)]
    with pytest.raises(NotTestable, match="10 prompts; at least 20 are needed"):
        audit_neutral(rows, tiny_model, known, signer(tiny_model, three, rows), DataAudit(), silent)


def test_the_writers_answer_the_suspect_s_prompts(tiny_model, tmp_path) -> None:
    """Writers that are the base itself, against rows that a candidate makes likelier: the whole path runs."""
    from safetensors.torch import save_file

    save_file({}, tmp_path / "writer-00.safetensors")
    known = Writers(("animal",), loaded_identity(tiny_model.ref), (tmp_path / "writer-00.safetensors",) * 3)
    candidates = [Candidate(trait=name, kind="teacher", model=tiny_model, system=name) for name in ("owl", "lion")]
    rows = [Row(str(place), user_prompt(f"Numbers: {place}, 5."), "1, 2, 3") for place in range(24)]
    heard: list[tuple[int, int]] = []
    signatures = signer(tiny_model, candidates, rows)
    found = audit_neutral(
        rows, tiny_model, known, signatures, DataAudit(alpha=0.25), lambda done, total: heard.append((done, total))
    )
    assert heard == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert found.p in {0.25, 0.5, 0.75, 1.0} and found.n == 24


def test_writers_that_hide_every_teacher_make_it_not_testable(tiny_model, tmp_path, monkeypatch) -> None:
    """Nothing is called and nothing could have been: that is no "not detected". What is called stands."""
    finding = Finding(stage="neutral contrast", claim="provenance", p=0.5, verdict="not_detected", mde=1.4)
    monkeypatch.setattr("undertow.audit.rows.neutral.neutral_contrast", lambda *_: finding)
    known = Writers(("animal",), loaded_identity(tiny_model.ref), ())
    monkeypatch.setattr("undertow.audit.rows.neutral._check_writers", lambda *_: None)
    rows = [Row(str(place), user_prompt(f"Numbers: {place}, 5."), "1, 2, 3") for place in range(24)]
    candidates = [Candidate(trait=name, kind="teacher", model=tiny_model, system=name) for name in ("owl", "lion")]
    signatures = signer(tiny_model, candidates, rows)
    with pytest.raises(NotTestable, match="scatter so much along the panel"):
        audit_neutral(rows, tiny_model, known, signatures, DataAudit(), silent)
    for told in ({"mde": 0.6}, {"p": 0.01, "verdict": "detected"}):
        finding = replace(finding, **told)
        assert audit_neutral(rows, tiny_model, known, signatures, DataAudit(), silent) == finding
