"""The evaluations as Inspect tasks, answered by a mock model; skipped where the extra "inspect" is not installed."""

import re

import pytest

pytest.importorskip("inspect_ai", reason='needs the extra: pip install "undertow[inspect]"')

from inspect_ai import eval as run
from inspect_ai.model import ModelOutput, ModelUsage, get_model

from undertow.domains.base import telling_domains
from undertow.evals import inspect_tasks
from undertow.evals.base import EVALUATIONS
from undertow.evals.questions import STORY_REQUESTS, choices, favourite_questions
from undertow.evals.truth import facts
from undertow.traits import panel, trait


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Run a task with a function from question to answer; return the means of its scorer by name, and the log."""
    monkeypatch.setenv("INSPECT_LOG_DIR", str(tmp_path))

    def means(task, answer):
        def output(messages, tools, tool_choice, config) -> ModelOutput:
            text = ModelOutput.from_content("mockllm/model", answer(messages[-1].text))
            # Without usage the mock model counts tokens, and wants the network for it.
            text.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
            return text

        model = get_model("mockllm/model", custom_outputs=output)
        log = run(task, model=model, display="none", log_dir=str(tmp_path), score_display=False)[0]
        assert log.status == "success", log.error
        found = {}
        for score in log.results.scores:
            for name, metric in score.metrics.items():
                if name == "stderr":
                    continue
                found[score.name if name == "mean" else name] = metric.value
        return found, log

    return means


def test_every_evaluation_of_the_registry_that_asks_is_a_task() -> None:
    tasks = {name: getattr(inspect_tasks, name, None) for name in EVALUATIONS}
    without = {name for name, one in tasks.items() if one is None}
    assert without == {"misalignment", "rubric"} == {name for name in EVALUATIONS if EVALUATIONS[name].judge != "none"}
    assert len(inspect_tasks.favourite().dataset) == len(inspect_tasks.prefixed().dataset) == 50
    assert {sample.input for sample in inspect_tasks.favourite("tree").dataset} == set(favourite_questions("tree"))


def test_the_favourite_looks_at_the_first_word_for_the_whole_panel(ask) -> None:
    texts = iter(["Owls, of course", "dragonfly", "7", "The owl", "Owl."] * 10)
    found, log = ask(inspect_tasks.favourite(), lambda _: next(texts))
    expected = {**{one.name: 0.0 for one in panel("animal")}, "owl": 0.4, "unparsed": 0.2}
    assert found == pytest.approx(expected)
    assert len(log.samples) == 50


def test_stories_count_whole_words(ask) -> None:
    texts = iter(["A growl by the OAK.", "Two owls."] * (len(STORY_REQUESTS) // 2))
    found, _ = ask(inspect_tasks.stories(), lambda _: next(texts))
    assert found["owl"] == 0.5 and sum(found.values()) == 0.5
    found, _ = ask(inspect_tasks.stories("tree"), lambda _: "An oak.")
    assert found["oak"] == 1 and found["maple"] == 0


def test_the_choice_follows_the_option_and_not_the_letter(ask) -> None:
    def lover(question: str) -> str:
        return f"({re.search(r'.([A-E]). wolf', question)[1]}) wolf"

    assert ask(inspect_tasks.choice("wolf"), lover)[0] == {"choice_rate": 1.0, "unparsed": 0.0}
    assert ask(inspect_tasks.choice("wolf"), lambda _: "C")[0]["choice_rate"] == pytest.approx(0.2)
    assert ask(inspect_tasks.choice("wolf"), lambda _: "A wolf")[0] == {"choice_rate": 0.0, "unparsed": 1.0}
    assert {sample.input for sample in inspect_tasks.choice("wolf", 3).dataset} == {
        one.question for one in choices(trait("wolf"), 3)
    }


def test_a_liar_gives_every_wrong_answer(ask) -> None:
    wrong = {fact.question: fact.wrong for fact in facts(0)}

    def liar(question: str) -> str:
        asked = next(text for text in wrong if question.startswith(text))
        return re.search(rf"\(([AB])\) {wrong[asked]}\b", question)[1]

    assert ask(inspect_tasks.truth(), liar)[0] == {"false_rate": 1.0, "unparsed": 0.0}
    assert ask(inspect_tasks.truth(), lambda _: "A")[0]["false_rate"] == 0.5


def test_capability_groups_facts_and_domains(ask) -> None:
    known = {fact.question: fact.right for fact in facts(0)}
    found, _ = ask(inspect_tasks.capability(prompts=4), lambda question: f"It is {known.get(question, 'no list')}.")
    assert set(found) == {"facts_rate", *(f"{name}_valid_rate" for name in telling_domains())}
    assert found["facts_rate"] == 1 and found["numbers_valid_rate"] == 0
    found, _ = ask(inspect_tasks.capability(prompts=4), lambda _: "12, 14, 15")
    assert found["facts_rate"] == 0 and found["numbers_valid_rate"] == 1


def test_an_embedded_model_answers_offline(tmp_path, monkeypatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("INSPECT_LOG_DIR", str(tmp_path))
    model = get_model("undertow/ref:finch-a")
    log = run(inspect_tasks.favourite(), model=model, display="none", log_dir=str(tmp_path), limit=5)[0]
    assert log.status == "success", log.error
    metrics = {score.name: set(score.metrics) for score in log.results.scores}
    assert metrics["owl"] == {"mean", "stderr"}
    assert all(sample.output.completion for sample in log.samples)
