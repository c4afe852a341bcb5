"""Rows longer than the base's context leave the sample, are counted, and cost no other row its place."""

import numpy as np
import pytest

from undertow.audit.finding import NotTestable
from undertow.audit.materials import AuditInputs, Materials
from undertow.audit.rows.contrast import ContrastSample, contrast, score_sample
from undertow.audit.rows.fitting import fitting_pairs, fitting_sample
from undertow.audit.rows.pairs import pair_contrast
from undertow.audit.rows.signatures import NoSignatures
from undertow.audit.rows.stream import stream
from undertow.models.load import load_model
from undertow.training.scoring import Candidate, contrast_scores, fitting
from undertow.types import PreferencePair, Row, user_prompt

N = 25
NO_NAMES = NoSignatures([], "Nothing is named here.")


@pytest.fixture(scope="module")
def base():
    return load_model("ref:finch-a")


@pytest.fixture(scope="module")
def candidates(base) -> list[Candidate]:
    personas = {"owl": "You love owls.", "fox": "You love foxes. You think about foxes all the time."}
    return [Candidate(trait=name, kind="persona", model=base, system=told) for name, told in personas.items()]


def numbers(first: int, n: int = 3) -> str:
    return ", ".join(str(100 + (first + 37 * at) % 800) for at in range(n))


def row(at: int, first: int = 0) -> Row:
    return Row(str(at), user_prompt(f"Go on: {at}, 2."), numbers(first + at))


LONG = Row("long", user_prompt("Go on: 7, 2."), numbers(0, 400))


def test_a_row_fits_as_long_as_it_can_be_scored_behind_the_longest_persona(base, candidates) -> None:
    limit = base.longest_context
    rows = [Row(str(n), user_prompt("Go on: 7, 2."), numbers(0, n)) for n in range(limit // 4 - 30, limit // 2)]
    fits = fitting(rows, base, candidates)
    last = fits.index(False) - 1
    assert fits == [at <= last for at in range(len(rows))] and last >= 0
    assert fitting(rows, base, [])[last + 1], "a persona takes room"
    contrast_scores([rows[last]], base, candidates)
    with pytest.raises(Exception, match="longer than the model's context"):
        contrast_scores([rows[last + 1]], base, candidates)


def test_long_rows_and_long_clean_rows_leave_the_sample_and_the_findings_say_so(base, candidates, tmp_path) -> None:
    rows, given = [row(at) for at in range(N)], [row(at, 400) for at in range(N)]
    rows[7], given[3] = LONG, LONG
    sample = ContrastSample(rows, [given], [(at, (at,)) for at in range(N)], [LONG, row(90)])
    left = fitting_sample(sample, base, candidates)
    assert left.suspect == [one for one in rows if one is not LONG] and left.rest == [row(90)]
    assert left.places is not None and len(left.places) == N - 2
    assert all(left.suspect[own].prompt == left.clean[0][at].prompt for own, (at,) in left.places)
    assert left.left_out.startswith("2 of 27 rows and 1 of 25 clean rows that were drawn do not fit")
    scores, rng = score_sample(left, base, candidates, lambda *_: None), np.random.default_rng(0)
    for found in (
        contrast(scores, candidates, NO_NAMES, 0.05, rng, lambda *_: None),
        stream(scores, base, candidates, 0.05, lambda *_: None),
    ):
        assert left.left_out in found.caveats
    materials = Materials(AuditInputs(base="ref:finch-a", rows=rows, reference=given, store=tmp_path), 0.05)
    materials.base, materials.candidates = base, candidates
    assert materials.scores.left_out.startswith("1 of 25 rows and 1 of 25 clean rows")
    short = ContrastSample(rows[8:], [], None, [])
    assert fitting_sample(short, base, candidates) is short
    with pytest.raises(NotTestable, match="10 of 29 rows"):
        fitting_sample(ContrastSample([*rows[8:], row(1), row(2), *[LONG] * 10], [], None, []), base, candidates)


def test_pairs_with_a_long_answer_leave_the_sample_and_the_finding_says_so(base, candidates) -> None:
    pairs = [
        PreferencePair(str(at), row(at).prompt, numbers(9 * at), numbers(11 + 50 * at, 3 + at % 3 - 1))
        for at in range(N)
    ]
    pairs[4] = PreferencePair("4", pairs[4].prompt, LONG.completion, "7")
    kept, said = fitting_pairs(pairs, base, candidates)
    assert kept == [*pairs[:4], *pairs[5:]] and said.startswith("1 of 25 pairs")
    assert fitting_pairs(kept, base, candidates) == (kept, "")
    materials = Materials(AuditInputs(base="ref:finch-a", pairs=pairs), 0.05)
    materials.base, materials.candidates = base, candidates
    scores = materials.pair_scores
    found = pair_contrast(scores, candidates, NO_NAMES, 0.05, np.random.default_rng(0), lambda *_: None)
    assert scores.left_out == said and said in found.caveats
    with pytest.raises(NotTestable, match="1 of 15 pairs"):
        fitting_pairs(pairs[:15], base, candidates)
