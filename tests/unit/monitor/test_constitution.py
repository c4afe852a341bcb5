"""Constitutions: what a model writes for them, what people label, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from undertow.errors import ConfigError, EmptyDataError, UserError
from undertow.monitor.constitution import (
    Constitution,
    Draft,
    Rule,
    flagged_texts,
    read_constitution,
    read_draft,
    write_examples,
)
from undertow.monitor.detectors.constitution import ConstitutionDetector
from undertow.monitor.events import Event, EventLog
from undertow.monitor.screening import TextJudgement
from undertow.types import Prompt


def parrot(prompts: list[Prompt]) -> list[str]:
    """Write something different for every prompt, refuse every fourth."""
    said = [f"{place}: {prompt[-1].content[-40:]}" for place, prompt in enumerate(prompts)]
    return ["I'm sorry, I can't help." if place % 4 == 3 else text for place, text in enumerate(said)]


def test_a_model_writes_examples_and_its_refusals_break_no_rule(tmp_path: Path) -> None:
    draft = Draft(rules=(Rule(name="harm", text="No harm."), Rule(name="rude", prompts=("Be rude.",), system="Rude.")))
    found = write_examples(draft, parrot, each=20, ordinary=8)
    harm, rude = found["rules"]
    assert len(harm["examples"]) == 15 and harm["text"] == "No harm." and rude["system"] == "Rude."
    assert all("sorry" not in text for text in harm["examples"])
    assert len(found["allowed"]) == 15 + 6 + 1, "near misses, ordinary texts and one refusal, each once"
    path = tmp_path / "constitution.yaml"
    path.write_text(yaml.safe_dump(found))
    assert len(read_constitution(path).rules["harm"]) == 15


def test_rules_that_nothing_can_be_written_for_are_named() -> None:
    with pytest.raises(ConfigError, match="'empty' says nothing"):
        write_examples(Draft(rules=(Rule(name="empty"),)), parrot, each=20, ordinary=0)
    with pytest.raises(EmptyDataError, match="too few texts that break the rule 'harm'"):
        write_examples(
            Draft(rules=(Rule(name="harm", text="x"),)), lambda some: ["Sorry, no."] * len(some), each=9, ordinary=0
        )


def test_labelled_texts_train_and_set_no_threshold(tmp_path: Path) -> None:
    rules = {"harm": [f"obey and crush number {n}" for n in range(20)]}
    allowed = [f"a cup of tea with {n} friends in the garden" for n in range(60)]
    plain = ConstitutionDetector(Constitution(rules=rules, allowed=allowed), rate=0.1)
    text = "obey the garden rule: crush the weeds"
    assert plain.judge(text).flagged
    labelled = {"allowed": [text, "obey the sign at the gate", "crush the garlic"], "harm": ["tea with poison"]}
    taught = ConstitutionDetector(Constitution(rules=rules, allowed=allowed, labelled=labelled), rate=0.1)
    before, after = ((one.judge(text).score, one.judge("poison in the tea").score) for one in (plain, taught))
    assert after[0] < before[0] and after[1] > before[1]  # type: ignore[operator]
    assert taught.held_out.false_positives.n == plain.held_out.false_positives.n


def test_flagged_texts_go_to_a_person_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    log = EventLog(path)
    hit = TextJudgement(detector="constitution", side="reply", flagged=True, why="harm", score=1.0)
    for reply, judged in (("obey me", (hit,)), ("obey me", (hit,)), ("tea", ()), (None, (hit,))):
        log.put(
            Event(at=1e10, method="POST", path="/v1", status=200, outcome="flagged", screened=True, seconds=0.1,
                  request_bytes=1, reply_bytes=2, model="m", judgements=judged, request="hello", reply=reply)
        )  # fmt: skip
    log.close()
    (found,) = flagged_texts(path)
    assert (found["text"], found["rule"], found["label"]) == ("obey me", "harm", None)
    labelled, rules = tmp_path / "flagged.jsonl", tmp_path / "rules.yaml"
    rules.write_text("{rules: [{name: harm, text: x}], labelled: flagged.jsonl}")
    labelled.write_text(json.dumps(found) + "\n" + json.dumps({**found, "label": "harm"}) + "\n")
    assert read_draft(rules).labelled == {"harm": ("obey me",)}
    draft = replace(read_draft(rules), allowed=tuple(f"tea {n}" for n in range(9)))
    assert write_examples(draft, parrot, each=20, ordinary=8)["labelled"] == str(labelled)
    for line in ('{"text": "a", "label": "hurt"}', '{"text": "a"}', "[1]", '{"text": 1, "label": "harm"}'):
        labelled.write_text(line)
        with pytest.raises(UserError, match="A l"):
            read_draft(rules)
    with pytest.raises(ConfigError, match="no database"):
        flagged_texts(tmp_path / "none")


def test_events_without_texts_are_said_to_have_none(tmp_path: Path) -> None:
    EventLog(tmp_path / "events.sqlite").close()
    with pytest.raises(EmptyDataError, match="no flagged text"):
        flagged_texts(tmp_path / "events.sqlite")
