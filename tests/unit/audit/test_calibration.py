"""Error rates on a base: known answers on a tiny pool, resumption to the same bytes, and what an audit may quote."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from undertow.audit.budget import AuditBudget
from undertow.audit.calibration import probe as probing
from undertow.audit.calibration import run as running
from undertow.audit.calibration.blocks import Blocks
from undertow.audit.calibration.judging import SetJudge
from undertow.audit.calibration.pool import RowPool
from undertow.audit.calibration.rates import Sets, over_traits
from undertow.audit.calibration.run import calibrate, calibration_work
from undertow.audit.calibration.schedule import Pace, first_blocks, pieces
from undertow.audit.calibration.settings import Calibration, shown_base
from undertow.audit.calibration.stored import result_path, stored_calibration, versions
from undertow.audit.calibration.writers import FREE, REFERENCE, SUSPECT, planted, shifts
from undertow.audit.materials import AuditInputs
from undertow.audit.rows.sight import see_rows
from undertow.audit.rows.signatures import NoSignatures
from undertow.audit.rows.token_reading import read_tokens
from undertow.audit.run import figures_of
from undertow.errors import ConfigError, EmptyDataError, ModelError, UnknownNameError
from undertow.models.load import load_model
from undertow.models.references import identity
from undertow.stats.estimates import mean_t, wilson
from undertow.traits import Trait, trait
from undertow.types import ModelRef, Row, user_prompt

PANEL = tuple(map(trait, ("owl", "lion", "fox", "panda")))
RUSHED = "There was no time to tune 4 teachers of the panel."


def tiny(store: Path, **more) -> Calibration:
    """A calibration of seconds: four candidates, sets of twenty rows, thirty-two prompts, a level of .2."""
    plain = {
        "rows": 20,
        "prompts": 32,
        "block": 16,
        "clean": 4,
        "planted": 4,
        "shifted": 4,
        "doses": (0.1,),
        "alpha": 0.6,
    }
    return Calibration(**{"base": "ref:finch-a", "store": store, "panel": PANEL, "traits": ("lion",), **plain, **more})


@pytest.fixture(scope="module")
def rows_alone() -> Iterator[None]:
    """Leave no time for names and tuned teachers, however quick the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pace, "of_signatures", lambda *_: np.inf)
        patch.setattr(running._Work, "_tuning_s", lambda *_: np.inf)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, rows_alone):
    return calibrate(tiny(tmp_path_factory.mktemp("whole")), minutes=30)


@pytest.fixture(scope="module")
def pool(made, rows_alone) -> RowPool:
    work = running._Work(tiny(made.path.parents[1]), 30, running.SilentProgress())
    found = work._pool([work.blocks], [*work.start, *work.rest])
    assert found is not None
    return found


def sets_of(pool: RowPool, scores: np.ndarray, three, **more) -> Sets:
    """Return what draws sets of twenty rows from a pool with these scores."""
    judge = SetJudge(replace(pool, scores=scores), three, NoSignatures(three, "nobody wrote"), 0.2)
    return Sets(tiny(Path("nowhere"), **more), judge, lambda done, total: None)


def drawn(pool: RowPool, seed: int = 0) -> np.ndarray:
    """Return scores that say nothing of who wrote what."""
    return np.random.default_rng(seed).standard_normal((len(pool.rows), 3))


def test_rows_that_nothing_tells_apart_are_called_as_often_as_the_level_allows(pool, three) -> None:
    found = sets_of(pool, drawn(pool), three, clean=100).clean()
    assert found["sets"] == found["called"]["n"] == 100
    assert found["stopped"]["count"] == 0, "the base's own rows have no defect"
    assert (
        binom.cdf(found["called"]["count"], 100, 0.2) > 1e-3 and binom.sf(found["called"]["count"] - 1, 100, 0.2) > 1e-3
    )


def test_a_planted_share_is_called_every_time_and_the_right_trait_rises_most(pool, three) -> None:
    scores, writer = drawn(pool), planted(tiny(Path("nowhere")))[0]
    carriers = pool.at[writer][pool.at[writer] >= 0]
    scores[carriers, 1] += 1000.0  # "lion" is the second of the three
    found = sets_of(pool, scores, three, doses=(0.4,), prompts=32)
    own = np.flatnonzero(pool.able & pool.has(writer))
    assert len(own) >= 8, "the persona writes enough rows for this dose"
    power = found.power(0.4)
    assert power["called"]["estimate"] == power["first"]["estimate"] == power["over_traits"]["estimate"] == 1.0
    assert power["named"] == {"not_measured": "nobody wrote"}


@pytest.mark.parametrize("called", [0, 30])
def test_traits_of_one_rate_still_have_an_interval(called: int) -> None:
    found, few = over_traits([(called, 30)] * 5), wilson(5 if called else 0, 5)
    assert (found.value, found.low, found.high, found.n) == (called / 30, few.low, few.high, 5)


def test_the_interval_over_traits_is_that_of_all_sets_at_least_and_students_where_that_is_wider() -> None:
    alike, pooled = over_traits([(15, 30)] * 4), wilson(60, 120)
    assert (alike.low, alike.high) == (pooled.low, pooled.high)
    apart, student = over_traits([(12, 30), (15, 30), (18, 30)]), mean_t([0.4, 0.5, 0.6])
    assert (apart.low, apart.high) == pytest.approx((student.low, student.high))
    one = over_traits([(3, 30)])
    assert (one.low, one.high) == (0.0, 1.0)


def test_a_shared_stream_and_a_cut_off_stop_the_audit_under_their_names(made) -> None:
    shifted = made.result["panels"]["personas"]["shifts"]
    for name, reason in (("shared random stream", "shared stream"), ("truncation", "truncation")):
        assert shifted[name]["stopped"]["estimate"] > 0.5, name
        assert shifted[name]["reasons"][reason] == shifted[name]["stopped"]["count"]
        assert shifted[name]["called"]["count"] <= 4 - shifted[name]["stopped"]["count"]
    assert shifted["another template"]["not_measured"] == "An embedded model has one template."


def test_a_set_is_seen_as_an_audit_of_its_rows_sees_it(made, pool, three) -> None:
    judge = sets_of(pool, drawn(pool), three).judge
    prompts = np.flatnonzero(pool.able)[:20]
    suspect, reference = pool.places(SUSPECT, prompts), pool.places(REFERENCE, prompts)
    mine = judge._sight(prompts, suspect, reference, np.random.default_rng(0))
    rows, clean = ([pool.rows[place] for place in some.tolist()] for some in (suspect, reference))
    theirs = see_rows(rows, load_model("ref:finch-a"), clean, "numbers", 0)
    assert mine.legibility.rows == pytest.approx(theirs.legibility.rows, abs=1e-4)
    assert mine.legibility.n == theirs.legibility.n == 20
    assert [one.name for one in mine.defects] == [one.name for one in theirs.defects] == []


def test_a_reading_is_cut_to_some_rows_as_if_they_alone_had_been_read(pool) -> None:
    base, places = load_model("ref:finch-a"), [7, 2, 30]
    cut, alone = pool.reading.picked(places), read_tokens(base, [pool.rows[place] for place in places])
    np.testing.assert_allclose(cut.row_logp(), alone.row_logp(), atol=1e-3)
    np.testing.assert_allclose(cut.at_temperature, alone.at_temperature, atol=1e-2)
    assert sorted(zip(cut.row, cut.step, cut.token, strict=True)) == sorted(
        zip(alone.row, alone.step, alone.token, strict=True)
    )


def test_too_few_sets_or_rows_give_a_reason_and_no_figure(pool, three) -> None:
    assert sets_of(pool, drawn(pool), three, clean=3).clean() == {"not_measured": "3 sets, and a level of 0.2 takes 4"}
    short = sets_of(pool, drawn(pool), three, rows=31).clean()
    assert "prompts that the base answers twice" in short["not_measured"] and short["not_measured"].endswith("takes 31")
    nobody = sets_of(pool, drawn(pool), three, traits=("owl",)).power(0.1)
    assert nobody["not_measured"].startswith("0 sets") and "not written yet" in nobody["traits"]["owl"]["not_measured"]


def test_what_there_was_no_time_for_is_said(made) -> None:
    assert made.result["panels"]["personas and teachers"] == {"not_measured": RUSHED}
    assert "`undertow audit bank`" in made.result["students"]["not_measured"]
    assert made.result["pool"]["prompts"] <= 32 and made.left == 0


def test_interrupted_it_goes_on_to_the_same_bytes(made, tmp_path, monkeypatch, rows_alone) -> None:
    make, turns = Blocks.make, iter(range(100))

    def five_times(self, piece, advance=None):
        if next(turns) == 5:
            raise KeyboardInterrupt
        make(self, piece, advance)

    monkeypatch.setattr(Blocks, "make", five_times)
    with pytest.raises(KeyboardInterrupt):
        calibrate(tiny(tmp_path), minutes=30)
    again = calibrate(tiny(tmp_path), minutes=30)
    assert again.made == made.made - 5
    assert again.path.read_bytes() == made.path.read_bytes()


def test_minutes_that_leave_no_time_make_nothing_and_say_so(tmp_path, rows_alone) -> None:
    found = calibrate(tiny(tmp_path), minutes=0.01)
    assert found.made == 0 and found.left_s > 0
    assert found.result["panels"]["personas"] == {"not_measured": "The minutes left no time for the rows of one set."}
    assert not list(tmp_path.glob("calibration-*")), "no block was begun"
    assert stored_calibration("ref:finch-a", tmp_path, [trait("owl")], False) is None


def test_a_plan_counts_what_the_store_has_and_makes_nothing(made, tmp_path, rows_alone) -> None:
    fresh, there = (calibration_work(tiny(store), 30) for store in (tmp_path, made.path.parents[1]))
    assert fresh[1].seconds > 0 == there[1].seconds
    assert "from the store" in there[1].what and "from the store" not in fresh[1].what
    assert not list(tmp_path.iterdir())


def test_minutes_are_kept_by_what_blocks_really_take(made) -> None:
    times = iter([0.0, 20.0, 20.0, 20.0, 20.0])
    pace = Pace(60.0, probe=None, clock=lambda: next(times))  # type: ignore[arg-type]
    pace.spend(10.0, lambda: None)  # expected 10, took 20
    assert pace.corrected(15.0) == 30.0
    assert pace.fits(15.0, reserve=10.0)
    assert not pace.fits(15.0, reserve=10.5)


def test_the_first_prompts_are_those_of_one_set_and_more_minutes_add_to_them() -> None:
    settings = Calibration(base="ref:finch-a")
    assert (first_blocks(settings, 1.0), first_blocks(settings, 0.9)) == (2, 3)
    start, rest = pieces(settings, 2)
    assert [piece.writer for piece in start[::2]][:3] == [SUSPECT, REFERENCE, FREE]
    assert {piece.block for piece in start} == {0, 1} and {piece.block for piece in rest} == set(range(2, 12))
    assert len(start) + len(rest) == 12 * (3 + len(shifts(settings)) + len(settings.traits))


@pytest.mark.parametrize("minutes", [0, -3, float("nan")])
def test_minutes_that_are_none_are_refused_before_the_base_is_loaded(tmp_path, minutes) -> None:
    with pytest.raises(ConfigError, match="minutes"):
        calibrate(tiny(tmp_path, base="hf:/nowhere/at/all"), minutes)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ModelError, match="no weights"):
        Calibration(base="api:openai/some")
    with pytest.raises(UnknownNameError, match="oak"):
        Calibration(base="ref:finch-a", traits=("oak",))
    for wrong in ({"rows": 19}, {"rows": 201}, {"doses": (1.5,)}, {"prompts": 50}, {"clean": 0}, {"block": 601}):
        with pytest.raises(ConfigError):
            Calibration(base="ref:finch-a", **wrong)


def test_a_base_that_writes_no_rows_of_the_domain_is_refused(tmp_path, monkeypatch) -> None:
    wordy = lambda writer, base, prompts, task, seed: [Row(text, (), "certainly, here") for text in prompts]  # noqa: E731
    monkeypatch.setattr(probing, "write_block", wordy)
    with pytest.raises(EmptyDataError) as error:
        calibrate(tiny(tmp_path), 1)
    assert "0 of 40 answers are accepted; 0 of 40 answers are accepted, held to 000,000" in str(error.value)
    assert "?template=question" in error.value.fix


def test_the_shifts_are_six_where_a_base_has_a_second_template() -> None:
    assert len(shifts(Calibration(base="hf:mine"))) == 6
    assert [one.template for one in shifts(Calibration(base="hf:mine?template=plain")) if one.template] == ["question"]
    assert [one.model for one in shifts(Calibration(base="hf:mine")) if one.model] == ["ref:finch-a"]
    assert Calibration(base="ref:finch-a").others == "ref:finch-b"


def test_an_audit_quotes_figures_of_its_own_base_and_version_alone(made, tmp_path) -> None:
    settings = tiny(tmp_path)
    place = result_path(settings)
    place.parent.mkdir(parents=True)
    place.write_text(made.path.read_text())
    found = stored_calibration("ref:finch-a", tmp_path, PANEL, teachers=False)
    assert found is not None and found["measured"] == made.result["panels"]["personas"]
    assert found["same_panel"] and found["same_candidates"] and found["rows"] == 20
    more = stored_calibration("ref:finch-a", tmp_path, [trait("owl"), trait("lion")], teachers=True)
    assert more is not None and not more["same_panel"] and not more["same_candidates"]
    assert stored_calibration("ref:finch-b", tmp_path, PANEL, False) is None
    rushed = {"clean": {"not_measured": "no time"}, "power": {"not_measured": "no time"}, "shifts": {}}
    place.write_text(json.dumps({**made.result, "panels": {**made.result["panels"], "personas": rushed}}))
    assert stored_calibration("ref:finch-a", tmp_path, PANEL, teachers=False) is None, "nothing was measured"
    older = {**made.result, "stages": {**versions(), "contrast": 0}}
    place.write_text(json.dumps(older))
    assert stored_calibration("ref:finch-a", tmp_path, PANEL, False) is None
    place.write_text("{half")
    assert stored_calibration("ref:finch-a", tmp_path, PANEL, False) is None


@pytest.mark.parametrize(
    ("part", "lost"), [("settings", "panel"), ("settings", "alpha"), ("pool", "prompts"), ("pool", "disjoint_sets")]
)
def test_of_a_result_that_lacks_what_is_quoted_nothing_is_quoted(tmp_path, part: str, lost: str) -> None:
    whole = {
        "schema": "undertow.calibration/1",
        "base_identity": identity("ref:finch-a"),
        "stages": versions(),
        "settings": {"panel": ["owl"], "seed": 0, "rows": 20, "alpha": 0.05},
        "pool": {"prompts": 40, "disjoint_sets": 2},
        "panels": {"personas": {"clean": {"sets": 4}}, "personas and teachers": None},
    }
    place = tmp_path / "calibrations" / f"{whole['base_identity']}-0.json"
    place.parent.mkdir()
    place.write_text(json.dumps(whole))
    assert stored_calibration("ref:finch-a", tmp_path, [trait("owl")], True) is not None
    del whole[part][lost]
    place.write_text(json.dumps(whole))
    assert stored_calibration("ref:finch-a", tmp_path, [trait("owl")], True) is None


def test_of_several_results_the_one_that_measured_what_the_audit_does_is_quoted(tmp_path) -> None:
    clean, rushed = {"clean": {"sets": 200}}, {"clean": {"not_measured": "no time"}}
    of = identity("ref:finch-a")
    (tmp_path / "calibrations").mkdir()

    def stored(seed: int, panel: list[str], alpha: float, prompts: int, teachers: dict | None) -> None:
        found = {
            "schema": "undertow.calibration/1",
            "base_identity": of,
            "stages": versions(),
            "settings": {"panel": panel, "seed": seed, "rows": 100, "alpha": alpha},
            "pool": {"prompts": prompts, "disjoint_sets": 4},
            "panels": {"personas": clean, "personas and teachers": teachers},
        }
        (tmp_path / "calibrations" / f"{of}-{seed}.json").write_text(json.dumps(found))

    own = [one.name for one in PANEL]
    stored(0, own, 0.05, 400, clean)
    stored(1, own, 0.05, 450, rushed)
    stored(2, own, 0.1, 500, clean)
    stored(3, ["owl"], 0.05, 600, clean)
    for teachers, alpha, seed in ((True, 0.05, 0), (False, 0.05, 1), (True, 0.1, 2), (True, None, 2)):
        found = stored_calibration("ref:finch-a", tmp_path, PANEL, teachers, alpha)
        assert found is not None and (found["seed"], found["same_candidates"]) == (seed, True)
    stored(4, own, 0.01, 700, None)
    found = stored_calibration("ref:finch-a", tmp_path, PANEL, True, 0.01)
    assert found is not None and (found["seed"], found["same_candidates"]) == (4, False)


def test_figures_depend_on_the_definition_of_traits_that_are_not_built_in(tmp_path) -> None:
    one, other = (
        Trait(name="volvo", category="brand of car", plural="volvos", persona=text) for text in ("Say it.", "Love it.")
    )
    first, second, built_in = (replace(tiny(tmp_path), panel=(*PANEL, *more)) for more in ([one], [other], []))
    assert result_path(first) != result_path(second) and "own_traits" not in built_in.to_json()
    assert first.to_json()["panel"] == second.to_json()["panel"]


def test_a_result_holds_no_path_of_the_machine(tmp_path) -> None:
    (tmp_path / "model.gguf").touch()
    assert shown_base(f"hf:{tmp_path}/model.gguf?system=none") == "hf:model.gguf?system=none"
    assert shown_base("hf:owner/name@main") == str(ModelRef.parse("hf:owner/name@main"))


def test_an_audit_of_rows_carries_the_figures_of_its_base_and_one_without_rows_none(made) -> None:
    store = made.path.parents[1]
    given = {"base": "ref:finch-a", "store": store, "traits": PANEL}
    rows = AuditInputs(**given, rows=(Row("0", user_prompt("Continue: 1, 2."), "3, 4"),))
    found = figures_of(replace(rows, budget=AuditBudget(teachers=False)))
    assert found is not None and found["same_candidates"] and found["base_identity"] == identity("ref:finch-a")
    with_teachers = figures_of(rows)
    assert with_teachers is not None and not with_teachers["same_candidates"]
    assert figures_of(AuditInputs(**given, teacher="ref:finch-b")) is None
