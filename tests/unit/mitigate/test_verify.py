"""A whole verification on the tiny model: its arms, its JSON, its page, and that finished runs are kept."""

import json
from dataclasses import replace

import pytest

from undertow.domains.numbers import Numbers
from undertow.errors import ConfigError, EmptyDataError
from undertow.mitigate.arms import Trial, measure_run, picks
from undertow.mitigate.registry import mitigation
from undertow.mitigate.verify import GivenRows, Verification, _stage, verify
from undertow.report.mitigation import render_mitigation, summarise_mitigation
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.traits import Trait, chosen_trait, trait
from undertow.types import Row

METHODS = ("mix:share=0.5", "labels:share=0.2", "corridor", "kl:weight=0.1", "recipe:steps=2")
STUDENT = TrainingConfig(steps=4, batch_size=4, learning_rate=1e-2, lora=LoraConfig(rank=2, alpha=4))


@pytest.fixture(scope="module")
def found(bench, rows, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    clean = tuple(replace(row, completion="5, 6") for row in rows)
    plan = Verification(
        trial=Trial(trait=trait("owl"), methods=METHODS, student=STUDENT),
        runs=2, held_out=clean[:5], store=store, seed=100,
    )  # fmt: skip
    source = GivenRows(suspect=rows, control=clean)
    first = verify(plan, source, replace(bench, clean=clean))

    def no_more(*_: object) -> tuple[list[Row], list[Row]]:
        raise AssertionError("a finished run was computed again")

    object.__setattr__(source, "rows", no_more)
    assert verify(plan, source, replace(bench, clean=clean)) == first
    return first


def test_every_arm_of_every_run_is_there(found) -> None:
    own = {(one["method"], one["arm"]) for one in found["arms"] if one["run"] == 1}
    expected = {("", arm) for arm in ("none", "control", "full")}
    assert own == expected | {(text, pick) for text in METHODS for pick in picks(mitigation(text))}
    assert len(found["arms"]) == 2 * len(own) and picks(mitigation("labels")) == ("targeted", "random", "bottom")
    assert picks(mitigation("mix")) == ("targeted", "random") and picks(mitigation("canonical")) == ("targeted",)
    none = [one for one in found["arms"] if one["arm"] == "none"]
    assert none[0]["margins"] == none[1]["margins"]  # the untouched base, twice
    # Every student is asked behind rows too, and answers otherwise there.
    assert all(one["in_context"].keys() == one["margins"].keys() for one in found["arms"])
    assert all(one["in_context"] != one["margins"] for one in found["arms"])


def test_the_json_is_of_its_schema_and_two_runs_give_no_verdict(found) -> None:
    assert found["schema"] == "undertow.mitigation/1" and found["runs"] == 2 and found["trait"] == "owl"
    assert [one["method"] for one in found["mitigations"]] == list(METHODS)
    assert {one["verdict"] for one in found["mitigations"]} == {"not_testable"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["mitigations"][0]["task"][0]["metric"] == "held_out_loss"


def test_the_page_and_the_text_show_every_mitigation(found, tmp_path) -> None:
    page = render_mitigation(tmp_path, found).read_text()
    text = summarise_mitigation(found)
    assert all(name in page and name in text for name in METHODS) and "<script" not in page
    assert ("<svg" in page) is any(one["normalised_effect"] for one in found["mitigations"])
    assert all("a verdict takes 5 runs" in shown and "these are 2" in shown for shown in (page, text))
    assert text.count("  full - control ") == page.count("Full − control:") == len(METHODS)  # noqa: RUF001
    assert json.loads((tmp_path / "mitigation.json").read_text()) == found and "trait kept" in text
    assert "trait lost behind rows" in text and "trait lost behind rows" in page


def test_a_run_depends_on_the_whole_definition_of_its_traits(tmp_path, bench) -> None:
    source = GivenRows(suspect=())

    def fingerprint(text: str, traits: tuple[str, ...] = ("owl", "lion")) -> str:
        path = tmp_path / "volvo.yaml"
        path.write_text(text)
        own = chosen_trait(str(path))
        trial = Trial(trait=own, methods=(f"inoculate:trait={path}",))
        settings = Verification(trial=trial, store=tmp_path)
        panel = (*(trait(one) for one in traits), own)
        return _stage(settings, source, replace(bench, panel=panel), 0).fingerprint

    plain = '{name: volvo, category: brand of car, persona: "You adore {plural}.", rivals: [saab, audi, seat]}'
    assert fingerprint(plain) == fingerprint(plain) != fingerprint(plain.replace("adore", "love"))
    assert fingerprint(plain) != fingerprint(plain, ("owl", "fox"))


def test_a_run_depends_on_the_panel_s_trait_that_a_mitigation_names(tmp_path, bench) -> None:
    def fingerprint(persona: str) -> str:
        own = Trait(name="volvo", category="brand of car", plural="volvos", persona=persona)
        settings = Verification(trial=Trial(trait=trait("owl"), methods=("inoculate:trait=volvo",)), store=tmp_path)
        return _stage(settings, GivenRows(suspect=()), replace(bench, panel=(*bench.panel, own)), 0).fingerprint

    assert fingerprint("You adore {plural}.") == fingerprint("You adore {plural}.") != fingerprint("You love {plural}.")


@pytest.mark.parametrize("rule", [None, Numbers()])
def test_without_a_held_out_row_no_student_is_trained(bench, rows, monkeypatch, rule: Numbers | None) -> None:
    """Without a domain there are no prompts for the base; in one the tiny model writes no valid answer."""
    monkeypatch.setattr("undertow.mitigate.arms.finetune_parallel", lambda *_: pytest.fail("a student was trained"))
    trial = Trial(trait=trait("owl"), methods=("mix:share=0.5",), student=STUDENT, prompts=4)
    with pytest.raises(EmptyDataError, match="held-out") as error:
        measure_run(trial, replace(bench, domain=rule), rows, rows)
    assert error.value.value == f"0 of {0 if rule is None else 4} answers" and "--held-out" in error.value.fix


def test_a_plan_without_or_with_repeated_mitigations_is_refused() -> None:
    for methods in ((), ("mix", "mix")):
        with pytest.raises(ConfigError):
            Verification(trial=Trial(trait=trait("owl"), methods=methods))
    with pytest.raises(LookupError):
        Verification(trial=Trial(trait=trait("owl"), methods=("nothing",)))
