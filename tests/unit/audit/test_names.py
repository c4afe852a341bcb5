"""Names: a shift along one signature has one, any other has none, whatever the noise and however few the candidates."""

import numpy as np
import pytest

from undertow.audit.finding import Finding
from undertow.audit.rows.contrast import ContrastScores, contrast
from undertow.audit.rows.limits import LEAST_PANEL, too_few_to_name
from undertow.audit.rows.names import NAMED, name_shift, shares, with_one_name
from undertow.audit.rows.signatures import Signatures
from undertow.training.scoring import Candidate

N = 17
PANEL = [Candidate(trait=f"trait-{place}", kind="teacher", model=None) for place in range(N)]


@pytest.fixture
def signatures() -> Signatures:
    """Signatures with a part that all share, noise that is not alike in all directions."""
    rng = np.random.default_rng(3)
    mixed = rng.normal(size=(N, N))
    shifts = 0.05 + 0.1 * np.eye(N) + 0.01 * rng.normal(size=(N, N))
    return Signatures(shifts, 1e-3 * (mixed @ mixed.T + np.eye(N)))


def test_a_weak_copy_of_a_signature_has_its_name(signatures) -> None:
    for place, one in enumerate(PANEL):
        for dose in (0.1, 1.0, 7.0):
            naming = name_shift(dose * signatures.shifts[place] + 0.3, signatures, PANEL)
            assert (naming.candidate, naming.share) == (one.trait, pytest.approx(1.0))
            assert f"{one.trait} is named" in naming.sentence


def test_the_share_is_the_squared_cosine_of_whitened_and_centred_shifts(signatures) -> None:
    """By the definition, with a Cholesky factor in place of the symmetric root: any root gives the same angle."""
    rng, centre = np.random.default_rng(0), np.eye(N) - 1.0 / N
    shift, covariance = rng.normal(size=N), centre @ signatures.covariance @ centre
    shrunk = 0.9 * covariance + 0.1 * np.trace(covariance) / N * np.eye(N)
    root = np.linalg.inv(np.linalg.cholesky(shrunk))
    own, theirs = root @ centre @ shift, [root @ centre @ one for one in signatures.shifts]
    cosines = [own @ one / np.linalg.norm(own) / np.linalg.norm(one) for one in theirs]
    naming = name_shift(shift, signatures, PANEL)
    assert naming.first == PANEL[int(np.argmax(cosines))].trait
    assert naming.share == pytest.approx(max(cosines) ** 2)
    assert naming.share == shares((centre @ shift)[None], signatures.shifts @ centre, covariance).max()


def test_a_shift_between_two_signatures_has_no_name(signatures) -> None:
    naming = name_shift(signatures.shifts[2] + signatures.shifts[5], signatures, PANEL)
    assert naming.candidate is None and 0.0 < naming.share < NAMED
    assert naming.sentence.startswith("None of the panel is named") and "takes 70%" in naming.sentence


def test_of_two_signatures_that_are_alike_neither_gives_its_name(signatures) -> None:
    twins = signatures.shifts.copy()
    twins[1] = twins[0] + 0.02 * np.eye(N)[3]
    naming = name_shift(twins[0], Signatures(twins, signatures.covariance), PANEL)
    assert naming.candidate is None and (naming.first, naming.second) == ("trait-0", "trait-1")
    assert naming.rival > 0.8 * naming.share == pytest.approx(0.8)


def test_what_points_away_or_nowhere_has_no_name(signatures) -> None:
    away = name_shift(-signatures.shifts[4], signatures, PANEL)
    assert away.candidate is None and away.first != "trait-4"
    assert name_shift(np.zeros(N), signatures, PANEL).share == 0.0


def test_random_directions_give_next_to_no_names() -> None:
    rng = np.random.default_rng(5)
    panel = [Candidate(trait=str(place), kind="teacher", model=None) for place in range(LEAST_PANEL)]
    signatures = Signatures(np.eye(LEAST_PANEL), np.eye(LEAST_PANEL))
    assert not [1 for _ in range(500) if name_shift(rng.normal(size=LEAST_PANEL), signatures, panel).candidate]


def test_a_panel_of_few_gives_no_name_and_its_candidates_write_nothing() -> None:
    """In a panel of three some candidate always fits, so the hours of their rows would be for nothing."""

    class Silent:
        candidates = PANEL[:3]

        def written(self, advance):
            raise AssertionError("the candidates were asked to write")

    rng = np.random.default_rng(1)
    clean = rng.normal(size=(60, 3))
    scores = ContrastScores(clean + np.array([0.0, 3.0, 0.0]), [clean], [(place, (place,)) for place in range(60)])
    found = contrast(scores, PANEL[:3], Silent(), 0.05, rng, lambda *_: None)
    assert found.verdict == "detected" and found.candidate is None
    assert "of 3 candidates some always fits; a panel of 16 is needed" in found.caveats[-1]
    assert too_few_to_name(LEAST_PANEL) is None and too_few_to_name(LEAST_PANEL - 1)


def test_the_contrast_s_name_is_the_only_one_of_the_panel() -> None:
    """The stream and recovery always have a first; a word outside the panel is no name of it and stays."""

    def finding(stage: str, candidate: str | None, scores=None) -> Finding:
        return Finding(stage=stage, claim="provenance", candidate=candidate, scores=scores)

    scores = {"owl (teacher)": 0.3, "wolf (teacher)": 0.1}
    for given, kept in (("owl", ["owl", "owl", None]), (None, [None, None, None])):
        found = [finding("contrast", given, scores), finding("stream", "owl"), finding("recovery", "wolf")]
        assert [one.candidate for one in with_one_name(found)] == kept
    unable = Finding(stage="contrast", claim="provenance", verdict="not_testable", caveats=("no reference",))
    assert with_one_name([unable, finding("stream", "wolf", scores)])[1].candidate is None
    maple = finding("recovery", "maple")
    assert with_one_name([finding("contrast", None, scores), maple])[1] == maple
    assert with_one_name([maple]) == [maple]
    student = Finding(stage="panel margins", claim="expression", candidate="wolf")
    assert with_one_name([finding("contrast", None, scores), student])[1].candidate == "wolf"
