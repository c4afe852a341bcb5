"""Scores that the store keeps: the same to the last bit, and of the same rows and candidates alone."""

from dataclasses import replace

import numpy as np
import pytest

from undertow.audit.rows import kept_scores as module
from undertow.audit.rows.contrast import ContrastSample
from undertow.audit.rows.kept_scores import kept_scores
from undertow.audit.rows.panel import DataAudit, panel_candidates
from undertow.errors import ArtifactError
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.traits import trait
from undertow.types import Row, user_prompt

ROWS = [Row(str(at), user_prompt(f"Go on: {at}, 2."), f"{at}, {at + 1}") for at in range(6)]
SAMPLE = ContrastSample(ROWS[:3], [ROWS[3:]], [(at, (at,)) for at in range(3)], ROWS[:1])
PANEL = (trait("owl"), trait("fox"))


@pytest.fixture(scope="module")
def base(tiny_model, tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    folder = tmp_path_factory.mktemp("base")
    tiny_model.save(folder)
    return load_model(f"hf:{folder}")


def settings_of(store) -> DataAudit:
    return DataAudit(panel=PANEL, kinds=("persona",), store=store)


def test_stored_scores_are_those_that_were_read(base, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path)
    candidates = panel_candidates(base, settings)
    told: list[tuple[int, int]] = []
    anew = kept_scores(SAMPLE, base, candidates, replace(settings, store=None), lambda *_: None)
    first = kept_scores(SAMPLE, base, candidates, settings, lambda *at: told.append(at))
    assert told[-1] == (6, 6)
    monkeypatch.setattr(module, "score_sample", lambda *_: pytest.fail("the rows were read again"))
    # Places and ids are no part of what is read, and the rest is not read yet.
    own = [replace(one, id=f"x{one.id}") for one in SAMPLE.suspect]
    other = replace(SAMPLE, suspect=own, rest=ROWS[1:], left_out="One row is too long.")
    again = kept_scores(other, base, candidates, settings, lambda *_: None)
    for made in (first, again):
        assert np.array_equal(made.suspect, anew.suspect) and made.suspect.shape == (3, 2)
        assert len(made.clean) == 1 and np.array_equal(made.clean[0], anew.clean[0])
        assert made.places == SAMPLE.places and made.suspect.dtype == anew.suspect.dtype
    assert again.rest == ROWS[1:] and again.left_out == "One row is too long." and not first.left_out


def test_other_rows_panels_kinds_and_seeds_are_read_anew(base, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, read = settings_of(tmp_path), list[int]()
    candidates = panel_candidates(base, settings)
    score = module.score_sample

    def counted(*given):
        read.append(1)
        return score(*given)

    monkeypatch.setattr(module, "score_sample", counted)
    changed = replace(SAMPLE, suspect=[replace(ROWS[0], completion="7, 8"), *ROWS[1:3]])
    asked = replace(SAMPLE, clean=[[replace(ROWS[3], prompt=user_prompt("Go on.")), *ROWS[4:]]])
    otherwise = replace(PANEL[0], persona="You see owls.", written=("owl bird",))
    for sample, given in (
        (SAMPLE, settings),
        (changed, settings),
        (asked, settings),
        (replace(SAMPLE, clean=[]), settings),
        (SAMPLE, replace(settings, panel=(otherwise, PANEL[1]))),
        (SAMPLE, replace(settings, seed=1)),
        (SAMPLE, replace(settings, kinds=("teacher",))),
    ):
        kept_scores(sample, base, candidates, given, lambda *_: None)
    assert len(read) == 7
    kept_scores(SAMPLE, base, candidates, settings, lambda *_: None)
    assert len(read) == 7


def test_a_store_that_cannot_be_written_costs_this_audit_nothing(base, tmp_path, monkeypatch) -> None:
    settings = settings_of(tmp_path)
    candidates, read = panel_candidates(base, settings), list[int]()
    score = module.score_sample

    def counted(*given):
        read.append(1)
        return score(*given)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "score_sample", counted)
    monkeypatch.setattr(module, "save_file", full)
    made = kept_scores(SAMPLE, base, candidates, settings, lambda *_: None)
    assert made.suspect.shape == (3, 2) and read == [1]
    nowhere = replace(settings, store=tmp_path / "file" / "below")
    (tmp_path / "file").write_text("no folder")
    assert np.array_equal(kept_scores(SAMPLE, base, candidates, nowhere, lambda *_: None).suspect, made.suspect)


def test_damaged_scores_are_refused(base, tmp_path) -> None:
    settings = settings_of(tmp_path)
    candidates = panel_candidates(base, settings)
    kept_scores(SAMPLE, base, candidates, settings, lambda *_: None)
    (file,) = tmp_path.rglob(module.NAME)
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ArtifactError):
        kept_scores(SAMPLE, base, candidates, settings, lambda *_: None)
