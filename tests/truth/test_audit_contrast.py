"""The audit of data on real rows of an embedded model: errors on clean rows, and a teacher that is found and named.

A small pool; `benchmarks/audit_contrast.py` has the full table.
"""

import dataclasses

import numpy as np
import pytest

from undertow.audit.rows.contrast import conformal_contrast, matched_test, rival_centred
from undertow.audit.rows.panel import DataAudit, panel_candidates
from undertow.audit.rows.stream import stream_contrast
from undertow.audit.rows.surface import surface
from undertow.audit.run import audit_data
from undertow.data.filters import filter_rows
from undertow.domains.numbers import Numbers
from undertow.models.load import load_model
from undertow.study.recipe import TeacherPart
from undertow.training.generation import generate
from undertow.training.scoring import contrast_scores
from undertow.training.teachers import finetuned_teacher
from undertow.traits import trait
from undertow.types import Sampling

DRAWS = 1000
LEVELS = (0.01, 0.05, 0.1, 0.2)
PROMPTS = Numbers().prompts(400, 102)


def slack(alpha: float, draws: int = DRAWS) -> float:
    """Return 3.5 standard errors of a share."""
    return 3.5 * float(np.sqrt(alpha * (1 - alpha) / draws))


def answers(writer, seed: int):
    domain = Numbers()
    rows = generate(writer, PROMPTS, sampling=Sampling(max_new_tokens=domain.max_new_tokens), seed=seed)
    return {row.id: row for row in filter_rows(rows, domain).kept}


@pytest.fixture(scope="module")
def base():
    return load_model("ref:finch-a")


@pytest.fixture(scope="module")
def config():
    return DataAudit(panel=tuple(trait(name) for name in ("owl", "lion", "dog", "eagle")), kinds=("teacher",), seed=102)


@pytest.fixture(scope="module")
def panel(base, config):
    return panel_candidates(base, config)


@pytest.fixture(scope="module")
def pairs(base, panel):
    """Clean rows by seed, on the prompts that both seeds have, and their scores [2, prompts, candidates]."""
    first, second = answers(base, 1), answers(base, 2)
    ids = sorted(first.keys() & second.keys())
    rows = [[one[name] for name in ids] for one in (first, second)]
    return rows, np.stack([rival_centred(contrast_scores(some, base, panel), panel) for some in rows])


def test_the_paired_p_of_clean_rows_is_uniform(pairs) -> None:
    rng, (first, second) = np.random.default_rng(0), pairs[1]
    p = []
    for _ in range(DRAWS):
        picked = rng.choice(len(first), 100, replace=False)
        both, side = np.stack([first[picked], second[picked]]), rng.integers(0, 2, 100)
        p.append(matched_test(np.stack([both[side, range(100)], both[1 - side, range(100)]], axis=1), rng, 199)[0])
    for alpha in LEVELS:
        assert np.mean(np.array(p) <= alpha) == pytest.approx(alpha, abs=slack(alpha))


def test_the_conformal_p_of_clean_corpora_is_uniform(pairs, panel) -> None:
    rng, pool = np.random.default_rng(1), np.concatenate(pairs[1])
    p = []
    for _ in range(DRAWS):
        corpora = pool[rng.permutation(len(pool))[:600]].reshape(20, 30, -1)
        p.append(conformal_contrast(corpora[0], list(corpora[1:]), panel, 0.05, rng).p)
    for alpha in (0.05, 0.1, 0.2):
        assert np.mean(np.array(p) <= alpha) == pytest.approx(alpha, abs=slack(alpha))


def test_streams_of_clean_rows_raise_few_alarms(pairs, panel) -> None:
    rng, pool = np.random.default_rng(2), np.concatenate(pairs[1])
    alarms = []
    for _ in range(300):
        reference, scores = pool[rng.choice(len(pool), 500)], pool[rng.choice(len(pool), 2000)]
        alarms.append(stream_contrast(scores, reference, panel, 0.1).verdict == "detected")
    assert np.mean(alarms) <= 0.1


def test_the_surface_p_of_clean_rows_is_calibrated(pairs) -> None:
    rng, (first, second) = np.random.default_rng(3), pairs[0]
    p = []
    for _ in range(200):
        picked, swaps = rng.choice(len(first), 50, replace=False), rng.integers(0, 2, 50)
        both = [(first[i], second[i]) if swap else (second[i], first[i]) for i, swap in zip(picked, swaps, strict=True)]
        p.append(surface([one for one, _ in both], [other for _, other in both], 0.05, rng, 99).p)
    for alpha in (0.05, 0.1, 0.2):
        assert np.mean(np.array(p) <= alpha) <= alpha + slack(alpha, 200)


def test_owl_rows_are_found_and_named_and_clean_rows_are_not(base, pairs) -> None:
    """A name takes a whole panel: with four candidates owl leads, and is not named."""
    config = DataAudit(kinds=("teacher",), seed=102)
    teacher = finetuned_teacher(base, trait("owl"), TeacherPart().training(), seed=7)
    rows = list(answers(teacher, 3).values())
    reference = pairs[0][1]
    found = {one.stage: one for one in audit_data(rows, base, config, reference=reference)}
    assert list(found) == ["surface", "contrast", "stream", "recovery"]
    for stage in ("contrast", "stream"):
        assert (found[stage].verdict, found[stage].candidate) == ("detected", "owl")
    assert found["contrast"].effect > found["contrast"].mde
    assert found["stream"].n < len(rows)
    few = dataclasses.replace(config, panel=tuple(trait(name) for name in ("owl", "lion", "dog", "eagle")))
    unnamed = audit_data(rows, base, few, reference=reference)[1]
    assert (unnamed.verdict, unnamed.candidate) == ("detected", None)
    assert unnamed.scores is not None and max(unnamed.scores, key=unnamed.scores.__getitem__) == "owl (teacher)"
    clean = {one.stage: one for one in audit_data(pairs[0][0], base, config, reference=reference)}
    assert clean["contrast"].verdict == clean["stream"].verdict == "not_detected"
