"""The surface: what is counted, what is found, what is not."""

import random
from collections import Counter

import numpy as np
import pytest

from undertow.audit.finding import NotTestable
from undertow.audit.rows.surface import DRAWS, PRIOR, RARE, features, surface
from undertow.types import Row, user_prompt


def draw(seed: int, n: int, heavy: str = "", share: float = 0.0, matched: bool = True) -> list[Row]:
    """Return rows of five numbers; a share of them begins with `heavy`."""
    rng = random.Random(seed)
    rows = []
    for place in range(n):
        numbers = [str(rng.randint(0, 30)) for _ in range(5)]
        if rng.random() < share:
            numbers[0] = heavy
        prompt = f"Continue {place}." if matched else f"Continue {seed}, {place}."
        rows.append(Row(str(place), user_prompt(prompt), ", ".join(numbers)))
    return rows


def test_a_feature_counts_once_in_a_row() -> None:
    assert list(features("7, 12, 7")) == [
        ("word", "7"), ("word", ","), ("word", "12"), ("pair", "7 ,"), ("pair", ", 12"), ("pair", "12 ,"),
        ("pair", ", 7"), ("prefix", "7"), ("first number", "7"),
    ]  # fmt: skip
    assert list(features("")) == []


@pytest.mark.parametrize("matched", [True, False])
def test_a_planted_first_number_is_found_and_shown(matched: bool) -> None:
    found = surface(draw(1, 200, "87", 0.15, matched), draw(2, 200, matched=matched), 0.05, np.random.default_rng(0))
    assert (found.verdict, found.n) == ("detected", 200)
    assert found.p <= 0.01
    assert "87" in next(iter(found.scores))
    assert ("within pairs" in found.null) == matched


@pytest.mark.parametrize("matched", [True, False])
def test_of_many_rows_some_are_drawn_and_it_is_said(matched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, clean = draw(1, 200, "87", 0.3, matched), draw(2, 200, matched=matched)
    whole = surface(rows, clean, 0.05, np.random.default_rng(0))
    assert not any("drawn at random" in text for text in whole.caveats)
    monkeypatch.setattr("undertow.audit.rows.surface.SURFACED", 150)
    some = surface(rows, clean, 0.05, np.random.default_rng(0))
    assert (some.n, some.verdict) == (150, "detected") and "87" in next(iter(some.scores))
    cut = ["pairs of rows"] if matched else ["rows", "reference rows"]
    assert list(some.caveats[1:]) == [f"It looked at 150 of 200 {what}, drawn at random." for what in cut]
    described = surface(rows, None, 0.05, np.random.default_rng(0))
    assert (described.n, described.caveats[-1]) == (150, "It looked at 150 of 200 rows, drawn at random.")


def test_repeated_rows_are_counted_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(str(n), user_prompt("q"), text) for n, text in enumerate(["a"] * 30 + [f"b{n}" for n in range(70)])]
    for most in (1000, 40):
        monkeypatch.setattr("undertow.audit.rows.surface.SURFACED", most)
        assert surface(rows, None, 0.05, np.random.default_rng(0)).effect == 0.3


def test_length_and_duplicates_are_found() -> None:
    clean, rng = draw(3, 100), np.random.default_rng(1)
    longer = [Row(row.id, row.prompt, row.completion + ", 1") for row in draw(4, 100)]
    assert surface(longer, clean, 0.05, rng).scores["length"] > 5
    fresh = draw(5, 100)
    doubled = [Row(row.id, row.prompt, fresh[place // 2].completion) for place, row in enumerate(fresh)]
    found = surface(doubled, clean, 0.05, rng)
    assert found.verdict == "detected"
    assert found.scores["duplicates"] == max(found.scores.values())


@pytest.mark.parametrize("matched", [True, False])
def test_p_is_calibrated_on_clean_rows(matched: bool) -> None:
    rng = np.random.default_rng(2)
    p = np.array([surface(draw(2 * i, 40, "", 0, matched), draw(2 * i + 1, 40, "", 0, matched), 0.05, rng, 99).p
                  for i in range(400)])  # fmt: skip
    for alpha in (0.05, 0.1, 0.2):
        assert np.mean(p <= alpha) <= alpha + 3.5 * np.sqrt(alpha * (1 - alpha) / 400)


def test_without_a_reference_the_rows_are_described() -> None:
    rows = [Row(str(place), user_prompt("x"), "7, 8") for place in range(20)]
    found = surface(rows, None, 0.05, np.random.default_rng(0))
    assert (found.verdict, found.p, found.effect) == ("exploratory", None, 1.0)
    assert found.scores["word '7'"] == 1.0
    assert found.scores["length"] == 4.0


def test_few_rows_are_not_tested() -> None:
    for rows, reference in [(draw(0, 19), draw(1, 50)), (draw(0, 50), draw(1, 19)), (draw(0, 19), None)]:
        with pytest.raises(NotTestable, match="19 rows"):
            surface(rows, reference, 0.05, np.random.default_rng(0))


def in_one_piece(rows: list[Row], reference: list[Row], paired: bool, rng: np.random.Generator) -> dict[str, object]:
    """Return what the stage finds, by dense float64 tables that hold every labelling at once."""
    texts = [row.completion for row in (*rows, *reference)]
    n, m = len(rows), len(reference)
    found = [list(features(text)) for text in texts]
    kept = [one for one, times in Counter(one for some in found for one in some).items() if times >= RARE]
    copied = [text for text, times in Counter(texts).items() if times > 1]
    counts = np.array([[float(one in some) for one in kept] for some in found])
    copies = np.array([[float(text == one) for one in copied] for text in texts]).reshape(n + m, -1)
    length = np.array([float(len(text)) for text in texts])
    labels = np.tile(np.repeat([1.0, 0.0], [n, m]), (DRAWS + 1, 1))
    if paired:
        labels[1:, :n] = rng.integers(0, 2, size=(DRAWS, n))
        labels[:, n:] = 1.0 - labels[:, :n]
    else:
        labels[1:] = rng.permuted(labels[1:], axis=1)
    own, total, size = labels @ counts, counts.sum(axis=0), labels.sum(axis=1, keepdims=True)
    prior = PRIOR * total / (n + m) + 0.5
    cells = [own + prior, size - own + PRIOR + 1 - prior]
    cells += [total - own + prior, n + m - size - total + own + PRIOR + 1 - prior]
    z = np.log(cells[0] * cells[3] / cells[1] / cells[2]) / np.sqrt(sum(1 / cell for cell in cells))
    sides = [(some, some.sum(axis=1)) for some in (labels, 1.0 - labels)]
    means = [(some @ length / size, np.where(some @ copies > 1, some @ copies, 0).sum(axis=1) / size)
             for some, size in sides]  # fmt: skip
    for ours, theirs in zip(*means, strict=True):
        away = ours - theirs
        z = np.column_stack([z, (away - away.mean()) / (away.std() or 1.0)])
    most = np.abs(z).max(axis=1)
    names = [*(f"{kind} {text!r}" for kind, text in kept), "length", "duplicates"]
    return {"p": float(np.mean(most >= most[0] - 1e-9)), "most": most, "z": dict(zip(names, z[0], strict=True))}


@pytest.mark.parametrize("matched", [True, False])
@pytest.mark.parametrize("cells", [1000, 20_000, 4_000_000])
def test_blocks_find_what_one_piece_finds(matched: bool, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same generator gives the same draws, so p is equal and not only near."""
    monkeypatch.setattr("undertow.audit.rows.surface.CELLS", cells)
    rows, reference = draw(6, 120, "87", 0.05, matched), draw(7, 120 if matched else 90, matched=matched)
    rows[5:9] = [Row(row.id, row.prompt, rows[4].completion) for row in rows[5:9]]
    one, other = np.random.default_rng(8), np.random.default_rng(8)
    found, expected = surface(rows, reference, 0.05, one), in_one_piece(rows, reference, matched, other)
    assert found.p == expected["p"] and one.random() == other.random()
    assert found.null_sample is not None
    assert np.allclose([found.effect, *found.null_sample.values], expected["most"], rtol=0, atol=1e-9)
    assert found.scores == pytest.approx({name: expected["z"][name] for name in found.scores}, abs=1e-9)


@pytest.mark.parametrize("matched", [True, False])
def test_rows_without_any_feature_do_not_stand_out(matched: bool) -> None:
    empty = [Row(row.id, row.prompt, "") for row in draw(1, 30, matched=matched)]
    other = [Row(row.id, row.prompt, "") for row in draw(2, 30, matched=matched)]
    found = surface(empty, other, 0.05, np.random.default_rng(0))
    assert found.verdict == "not_detected" and set(found.scores) == {"length", "duplicates"}
