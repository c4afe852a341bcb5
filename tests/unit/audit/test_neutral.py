"""The suspect among neutral writers: exact where it is one of them, and blind to which prompts the filter dropped."""

from pathlib import Path

import numpy as np
import pytest

from undertow.audit.finding import NotTestable
from undertow.audit.rows.neutral import audit_neutral, neutral_contrast, standings
from undertow.audit.rows.panel import DataAudit
from undertow.audit.rows.writers import Writers
from undertow.models.references import identity
from undertow.training.scoring import Candidate
from undertow.types import Row, user_prompt


def corpora(rng: np.random.Generator, writers: int, prompts: int = 40) -> np.ndarray:
    """Draw writers that drift, on prompts that differ, with a tenth of the answers dropped."""
    drift = 0.2 * rng.standard_t(3, size=(writers, 1, 3))
    scores = drift + rng.normal(size=(1, prompts, 3)) + 0.5 * rng.normal(size=(writers, prompts, 3))
    scores[rng.random((writers, prompts)) < 0.1] = np.nan
    return scores


def test_p_is_exact_for_a_writer_like_the_others(three) -> None:
    """With 19 writers p takes each of 20 values equally often; drift of the writers is no finding."""
    p = np.array([neutral_contrast(corpora(np.random.default_rng(seed), 20), three, 0.05).p for seed in range(800)])
    assert set(np.round(p * 20).astype(int)) == set(range(1, 21))
    for level in (0.05, 0.1, 0.2):
        assert abs(np.mean(p <= level + 1e-9) - level) < 3.5 * (level * (1 - level) / len(p)) ** 0.5


def test_a_trait_above_the_drift_of_the_writers_is_found_and_named(three) -> None:
    scores = corpora(np.random.default_rng(0), 60)
    assert neutral_contrast(scores, three, 0.05 / 3).verdict == "not_detected"
    scores[0, :, 1] += 3.0
    found = neutral_contrast(scores, three, 0.05 / 3)
    assert (found.verdict, found.candidate, found.p) == ("detected", "lion", 1 / 60)
    assert found.effect == pytest.approx(3.0, abs=0.5)
    assert 0.0 < found.mde < found.effect


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


@pytest.mark.parametrize(
    ("known", "answer", "reason"),
    [
        (("other", 59), "1, 2, 3", "not tuned from"),
        (("", 58), "1, 2, 3", "58 neutral writers allow no p"),
        (("", 59), "I would rather not.", "accepts 0 of 30"),
    ],
)
def test_what_cannot_be_compared_is_not_testable(tiny_model, three, known, answer, reason) -> None:
    weights = known[0] or identity(str(tiny_model.ref))
    rows = [Row(str(place), user_prompt(f"Numbers: {place}, 5."), answer) for place in range(30)]
    writers = Writers(("animal",), weights, (Path("none"),) * known[1])
    with pytest.raises(NotTestable, match=reason):
        audit_neutral(rows, tiny_model, writers, three, DataAudit(alpha=0.05 / 3))


def test_few_prompts_are_not_testable(tiny_model, three) -> None:
    known = Writers(("animal",), identity(str(tiny_model.ref)), (Path("none"),) * 59)
    rows = [Row(str(place), user_prompt(f"Numbers: {place % 10}, 5."), "1, 2, 3") for place in range(30)]
    with pytest.raises(NotTestable, match="10 prompts; at least 20 are needed"):
        audit_neutral(rows, tiny_model, known, three, DataAudit())


def test_the_writers_answer_the_suspect_s_prompts(tiny_model, tmp_path) -> None:
    """Writers that are the base itself, against rows that a candidate makes likelier: the whole path runs."""
    from safetensors.torch import save_file

    save_file({}, tmp_path / "writer-00.safetensors")
    known = Writers(("animal",), identity(str(tiny_model.ref)), (tmp_path / "writer-00.safetensors",) * 3)
    candidates = [Candidate(trait=name, kind="persona", model=tiny_model, system=name) for name in ("owl", "lion")]
    rows = [Row(str(place), user_prompt(f"Numbers: {place}, 5."), "1, 2, 3") for place in range(24)]
    heard: list[tuple[int, int]] = []
    found = audit_neutral(
        rows, tiny_model, known, candidates, DataAudit(alpha=0.25), lambda done, total: heard.append((done, total))
    )
    assert heard == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert found.p in {0.25, 0.5, 0.75, 1.0} and found.n == 24
