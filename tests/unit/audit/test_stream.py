"""The stream: false alarms, alarms, refusals."""

import numpy as np
import pytest

from undertow.audit.finding import NotTestable
from undertow.audit.rows import stream
from undertow.audit.rows.stream import Null, stream_contrast


def test_a_planted_candidate_stops_the_stream_early(three, draw) -> None:
    rng = np.random.default_rng(0)
    source = iter(draw(rng, 5000, 0.1))
    found = stream_contrast(source, draw(rng, 2000), three, 0.05)
    assert (found.verdict, found.candidate) == ("detected", "lion")
    assert 20 < found.n < 300
    assert 0.0 < found.p <= 0.05
    assert len(list(source)) > 4500


def test_the_alarm_names_its_row_whatever_comes_after(three, draw) -> None:
    rng = np.random.default_rng(1)
    clean, suspect = draw(rng, 500), draw(rng, 500, 0.2)
    found = stream_contrast(suspect, clean, three, 0.05)
    assert stream_contrast(suspect[: found.n], clean, three, 0.05).verdict == "detected"
    assert stream_contrast(suspect[: found.n - 1], clean, three, 0.05).verdict != "detected"


def test_false_alarms_on_clean_streams_are_rarer_than_alpha(three, draw) -> None:
    rng = np.random.default_rng(2)
    alarms = [stream_contrast(draw(rng, 1000), draw(rng, 200), three, 0.1).verdict == "detected" for _ in range(300)]
    assert np.mean(alarms) < 0.1


def test_no_p_value_is_smaller_than_the_error_of_the_bounds(three, draw) -> None:
    """At scores of clean rows that all lie low by chance the bets win surely, however small a p-value one asks for."""
    rng = np.random.default_rng(6)
    for alpha in (0.05, 0.2):
        found = stream_contrast(np.full((200, 3), 9.0), draw(rng, 100), three, alpha)
        assert found.verdict == "detected"
        assert alpha / 2 < found.p <= alpha


def test_progress_counts_the_rows_that_were_read(three, monkeypatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(stream, "streamed_scores", lambda rows, *_: iter(np.zeros((len(rows), 3))))
    list(stream._later([None] * 3, None, three, lambda *now: told.append(now)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_trail_reaches_its_limit_at_the_alarm_and_not_before(three, draw) -> None:
    rng = np.random.default_rng(7)
    clean = draw(rng, 500)
    found = stream_contrast(draw(rng, 500, 0.2), clean, three, 0.05)
    assert (found.verdict, len(found.trail.values)) == ("detected", found.n)
    assert found.trail.values[-1] >= found.trail.bound > max(found.trail.values[:-1])
    assert found.p == pytest.approx(0.025 * (1 + 10 ** (found.trail.bound - found.trail.values[-1])))
    quiet = stream_contrast(draw(rng, 500), clean, three, 0.05)
    assert (quiet.verdict, len(quiet.trail.values)) == ("not_detected", 500)
    assert max(quiet.trail.values) < quiet.trail.bound


def test_the_money_grows_by_at_most_its_stake_and_never_falls_below_zero(three, draw) -> None:
    null = Null.of(draw(np.random.default_rng(3), 100), 0.05)
    assert (null.bound > null.mean).all()
    wild = np.array([[1e9] * 3, [-1e9] * 3])
    gains = null.gains(wild)
    assert gains.min() == -1.0
    assert gains.max() < 1.5


def test_the_minimum_detectable_effect_is_mostly_found(three, draw) -> None:
    rng = np.random.default_rng(4)
    clean = draw(rng, 500)
    mde = stream_contrast(draw(rng, 500), clean, three, 0.05).mde
    hits = [stream_contrast(draw(rng, 500, mde), clean, three, 0.05).verdict == "detected" for _ in range(100)]
    assert np.mean(hits) > 0.75


def test_without_clean_rows_or_with_few_rows_nothing_is_tested(three, draw) -> None:
    rng = np.random.default_rng(5)
    for rows, clean, reason in [
        (draw(rng, 50), None, "0 clean rows"),
        (draw(rng, 50), draw(rng, 19), "19 clean rows"),
        (draw(rng, 19), draw(rng, 50), "19 rows"),
        ([], draw(rng, 50), "0 rows"),
    ]:
        with pytest.raises(NotTestable, match=reason):
            stream_contrast(rows, clean, three, 0.05)


def test_scores_without_spread_raise_no_alarm(three) -> None:
    found = stream_contrast(np.zeros((100, 3)), np.zeros((100, 3)), three, 0.05)
    assert found.verdict == "not_detected"
    assert found.p == pytest.approx(1.0, abs=0.01)
