"""The contrast: rival-centring, three nulls, refusals. The calibration on real rows is in tests/truth."""

import itertools

import numpy as np
import pytest

from undertow.audit.finding import NotTestable
from undertow.audit.rows.contrast import (
    conformal_contrast,
    draw_sample,
    grouped,
    matched_contrast,
    matched_test,
    ranked,
    rival_centred,
)
from undertow.audit.rows.limits import MATCHED, STREAMED
from undertow.training.scoring import Candidate
from undertow.types import Row, user_prompt


def test_rivals_are_the_other_candidates_of_the_same_kind() -> None:
    panel = [Candidate(trait=t, kind=k, model=None) for k, t in itertools.product(("persona", "teacher"), "abc")]
    scores = np.random.default_rng(0).normal(size=(4, 6))
    centred = rival_centred(scores, panel)
    np.testing.assert_allclose(centred[:, 1], scores[:, 1] - (scores[:, 0] + scores[:, 2]) / 2)
    np.testing.assert_allclose(centred[:, 5], scores[:, 5] - (scores[:, 3] + scores[:, 4]) / 2)
    np.testing.assert_allclose(rival_centred(scores + 7.0, panel), centred)


def test_groups_hold_the_suspect_first_and_nan_for_what_is_missing() -> None:
    suspect, reference = np.array([[1.0], [2.0]]), np.array([[10.0], [20.0], [30.0]])
    groups = grouped(suspect, reference, [(0, (2,)), (1, (0, 1))])
    np.testing.assert_array_equal(groups[..., 0], [[1.0, 30.0, np.nan], [2.0, 10.0, 20.0]])


def pairs(suspect: np.ndarray, clean: np.ndarray) -> np.ndarray:
    return np.stack([suspect, clean], axis=1)


def test_a_planted_candidate_is_found_and_named(three, draw) -> None:
    rng = np.random.default_rng(1)
    clean, suspect = (rival_centred(draw(rng, 100, shift), three) for shift in (0.0, 0.1))
    found = matched_contrast(pairs(suspect, clean), three, 0.05, rng)
    assert (found.verdict, found.candidate, found.p, found.n) == ("detected", "lion", 1e-4, 100)
    assert found.effect == found.scores["lion (teacher)"] == pytest.approx(0.1, abs=0.05)
    drawn = found.null_sample
    assert drawn.observed[0] > drawn.bound
    assert len(drawn.values) == 9999
    corpora = [rival_centred(draw(rng, 120), three) for _ in range(19)]
    found = conformal_contrast(suspect, corpora, three, 0.05, rng)
    assert (found.verdict, found.candidate, found.p, found.n) == ("detected", "lion", 0.05, 100)
    assert found.null_sample.observed[0] > found.null_sample.bound == max(found.null_sample.values)
    assert found.effect == pytest.approx(0.1, abs=0.05)


def test_the_name_is_judged_in_spreads_of_clean_rows(three) -> None:
    """Fox rises more in nats, lion more beside how much it varies anyway."""
    rng = np.random.default_rng(8)
    clean = rng.normal(size=(500, 3)) * np.array([0.1, 0.1, 1.0])
    found = matched_contrast(pairs(clean[:100] + np.array([0.0, 0.3, 0.6]), clean[100:200]), three, 0.05, rng)
    assert found.candidate == "lion"


def test_a_candidate_that_fell_is_not_found(three, draw) -> None:
    rng = np.random.default_rng(2)
    found = matched_contrast(pairs(draw(rng, 100, -0.5), draw(rng, 100)), three, 0.05, rng)
    assert found.verdict == "not_detected"


def test_the_p_of_pairs_agrees_with_all_patterns_of_signs() -> None:
    rng = np.random.default_rng(9)
    differences = rng.normal(0.4, 1.0, size=(10, 2))
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=10)))
    statistics = np.max(signs @ (differences / np.sqrt(np.sum(differences**2, axis=0))), axis=1)
    exact = np.mean(statistics >= statistics[-1] - 1e-9)
    assert matched_test(pairs(differences, 0 * differences), rng, 20000)[0] == pytest.approx(exact, abs=0.01)


def ragged(rng: np.random.Generator, draw, shift: float = 0.0) -> np.ndarray:
    """Return 40 groups of a suspect row and one to four others."""
    groups = np.stack([draw(rng, 40, shift), *(draw(rng, 40) for _ in range(4))], axis=1)
    for place, group in enumerate(groups):
        group[2 + place % 4 :] = np.nan
    return groups


def test_groups_of_several_sizes_are_calibrated_and_find_more_than_pairs(draw) -> None:
    rng = np.random.default_rng(10)
    p = np.array([matched_test(ragged(rng, draw), rng, 199)[0] for _ in range(1000)])
    for share, alpha in zip(shares(p), (0.05, 0.1, 0.2, 0.5), strict=True):
        assert share == pytest.approx(alpha, abs=3.5 * np.sqrt(alpha * (1 - alpha) / 1000))
    planted = [ragged(rng, draw, 0.2) for _ in range(200)]
    wide = np.mean([matched_test(groups, rng, 199)[0] <= 0.05 for groups in planted])
    narrow = np.mean([matched_test(groups[:, :2], rng, 199)[0] <= 0.05 for groups in planted])
    assert wide > narrow + 0.05


def shares(p: np.ndarray) -> list[float]:
    return [float(np.mean(p <= alpha)) for alpha in (0.05, 0.1, 0.2, 0.5)]


def test_both_p_values_are_calibrated_on_drawn_scores(three, draw) -> None:
    rng = np.random.default_rng(3)
    paired, conformal = [], []
    for _ in range(1000):
        paired.append(matched_test(pairs(draw(rng, 25), draw(rng, 25)), rng, 199)[0])
        corpora = [draw(rng, 25) for _ in range(20)]
        conformal.append(conformal_contrast(corpora[0], corpora[1:], three, 0.05, rng).p)
    for p in (np.array(paired), np.array(conformal)):
        for share, alpha in zip(shares(p), (0.05, 0.1, 0.2, 0.5), strict=True):
            assert share == pytest.approx(alpha, abs=3.5 * np.sqrt(alpha * (1 - alpha) / 1000))


def test_the_minimum_detectable_effect_is_found_with_about_power_point_eight(three, draw) -> None:
    """Somewhat more often: the largest error over the candidates stands for all."""
    rng = np.random.default_rng(4)
    hits, effects = [], []
    for _ in range(300):
        suspect, clean = (rival_centred(draw(rng, 60), three) for _ in range(2))
        effects.append(matched_contrast(pairs(suspect, clean), three, 0.05, rng).mde)
        suspect[:, 1] += np.mean(effects)
        hits.append(matched_test(pairs(suspect, clean), rng, 199)[0] <= 0.05)
    assert 0.75 < np.mean(hits) < 0.93


def test_the_conformal_effect_is_found_with_about_its_power(three, draw) -> None:
    rng = np.random.default_rng(5)
    hits, effects = [], []
    for _ in range(300):
        corpora = [rival_centred(draw(rng, 60), three) for _ in range(40)]
        effects.append(conformal_contrast(corpora[0], corpora[1:], three, 0.05, rng).mde)
        corpora[0][:, 1] += np.mean(effects)
        hits.append(conformal_contrast(corpora[0], corpora[1:], three, 0.05, rng).verdict == "detected")
    assert 0.65 < np.mean(hits) < 0.95


def test_what_cannot_be_tested_says_why(three, draw) -> None:
    rng = np.random.default_rng(6)
    few, many = draw(rng, 19), draw(rng, 50)
    with pytest.raises(NotTestable, match="19 rows on the prompts"):
        matched_contrast(pairs(few, few), three, 0.05, rng)
    with pytest.raises(NotTestable, match=r"18 clean corpora cannot give p <= 0\.05; 19 can"):
        conformal_contrast(many, [many] * 18, three, 0.05, rng)
    with pytest.raises(NotTestable, match="19 rows in the smallest corpus"):
        conformal_contrast(many, [many] * 18 + [few], three, 0.05, rng)
    with pytest.raises(NotTestable, match="99 can"):
        conformal_contrast(many, [many] * 98, three, 0.01, rng)
    with pytest.raises(NotTestable, match="19 rows"):
        ranked(few, three)


def test_without_clean_rows_there_is_a_ranking_and_no_p(three, draw) -> None:
    found = ranked(rival_centred(draw(np.random.default_rng(7), 50, 0.2), three), three)
    assert (found.verdict, found.candidate, found.p) == ("exploratory", "lion", None)
    assert max(found.scores, key=found.scores.__getitem__) == "lion (teacher)"


@pytest.mark.parametrize("matched", [True, False])
def test_what_the_stream_reads_on_is_drawn_from_the_whole_file(matched: bool) -> None:
    rows = [Row(str(at), user_prompt(f"Go on: {at}."), "1, 2") for at in range(20_000)]
    drawn = draw_sample(rows, rows[::10] if matched else None, (), np.random.default_rng(0))
    places = [int(one.id) for one in drawn.rest]
    assert len(drawn.suspect) == MATCHED and len(places) == len(set(places)) == STREAMED - MATCHED
    assert not {one.id for one in drawn.suspect} & {one.id for one in drawn.rest}
    quarters = np.histogram(places, bins=4, range=(0, len(rows)))[0]
    assert quarters.min() > 600, "the first unread rows of the file would all stand in one quarter"
    few = draw_sample(rows[:1500], None, (), np.random.default_rng(0))
    assert sorted(int(one.id) for one in [*few.suspect, *few.rest]) == list(range(1500))
