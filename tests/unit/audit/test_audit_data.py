"""The audit of rows as a whole: which null is used, and what is refused."""

import dataclasses
from io import StringIO
from pathlib import Path

import pytest

from undertow.audit.rows.panel import DataAudit
from undertow.audit.rows.writers import Writers
from undertow.audit.run import audit_data
from undertow.errors import ConfigError, EmptyDataError, UnknownNameError
from undertow.store.progress import PlainProgress
from undertow.traits import trait
from undertow.types import Row, user_prompt

PAIR = (trait("owl"), trait("lion"))


@pytest.fixture(scope="module")
def config():
    return DataAudit(panel=PAIR, kinds=("persona",))


def rows(start: int, n: int = 24) -> list[Row]:
    return [Row(str(i), user_prompt(f"Continue: {i}, 5."), f"{start + 7 * i % 89}, {start + i}") for i in range(n)]


pytestmark = pytest.mark.usefixtures("rows_in_order")


def test_a_reference_on_the_same_prompts_gives_pairs(tiny_model, config) -> None:
    shown = StringIO()
    progress = PlainProgress(shown, clock=lambda: 0.0)
    found = audit_data(rows(100), tiny_model, config, reference=rows(100), progress=progress)
    assert [(one.stage, one.claim, one.n) for one in found] == [
        ("surface", "provenance", 24), ("contrast", "provenance", 24), ("stream", "provenance", 24),
        ("recovery", "provenance", 24),
    ]  # fmt: skip
    assert {one.verdict for one in found} == {"not_detected"}
    assert [one.p for one in found] == [1.0] * 4
    told = [line.partition(":")[0] for line in shown.getvalue().splitlines()]
    assert told == [
        "[1/6] what the base reads", "[2/6] panel teachers", "[3/6] contrast", "[4/6] names", "[5/6] stream",
        "[6/6] recovery",
    ]  # fmt: skip


def test_clean_corpora_give_the_conformal_null(tiny_model, config) -> None:
    corpora = [rows(100 + start) for start in range(19)]
    surface, contrast, stream, recovery = audit_data(rows(400), tiny_model, config, clean=corpora)
    assert surface.verdict == "exploratory"
    assert "conformal over 19" in contrast.null
    assert contrast.p in {place / 20 for place in range(1, 21)}
    assert stream.p is not None
    assert recovery.null == "the same for each of 19 clean sets"
    assert audit_data(rows(400), tiny_model, config, clean=corpora[:5])[1].verdict == "not_testable"


def test_with_nothing_clean_there_are_only_rankings(tiny_model, config) -> None:
    surface, contrast, stream, recovery = audit_data(rows(100), tiny_model, config)
    assert (surface.verdict, contrast.verdict, stream.verdict) == ("exploratory", "exploratory", "not_testable")
    assert recovery.verdict == "not_testable"
    assert set(contrast.scores) == {"owl (persona)", "lion (persona)"}


def test_a_reference_on_other_prompts_gives_no_pairs(tiny_model, config) -> None:
    other = [dataclasses.replace(row, prompt=user_prompt("Count.")) for row in rows(100)]
    contrast = audit_data(rows(100), tiny_model, config, reference=other)[1]
    assert contrast.verdict == "not_testable"
    assert "0 rows on the prompts" in contrast.caveats[0]


def test_both_kinds_stand_side_by_side(tiny_model) -> None:
    contrast = audit_data(rows(100), tiny_model, DataAudit(panel=PAIR), reference=rows(100))[1]
    assert list(contrast.scores) == ["owl (persona)", "lion (persona)", "owl (teacher)", "lion (teacher)"]


def test_settings_that_cannot_work_are_refused(tiny_model, config) -> None:
    for wrong in ({"panel": PAIR[:1]}, {"panel": (PAIR[0],) * 2}, {"kinds": ()}, {"alpha": 0.0}):
        with pytest.raises(ConfigError):
            DataAudit(**wrong)
    with pytest.raises(UnknownNameError):
        DataAudit(kinds=("teachers",))
    with pytest.raises(EmptyDataError):
        audit_data([], tiny_model, config)


def test_no_more_rows_are_read_than_are_allowed(tiny_model, config, monkeypatch) -> None:
    """Of 60 rows with a reference 25 are compared, and the stream goes on from these up to 40."""
    monkeypatch.setattr("undertow.audit.rows.contrast.MATCHED", 25)
    monkeypatch.setattr("undertow.audit.rows.contrast.STREAMED", 40)
    _, contrast, stream, _ = audit_data(rows(100, 60), tiny_model, config, reference=rows(100, 60))
    assert (contrast.n, stream.n) == (25, 40)


def test_neutral_writers_add_a_stage(tiny_model, config) -> None:
    writers = Writers(("animal",), "other weights", (Path("none"),) * 59)
    config = dataclasses.replace(config, writers=writers)
    last = audit_data(rows(100), tiny_model, config, reference=rows(100))[-1]
    assert (last.stage, last.verdict) == ("neutral contrast", "not_testable")
