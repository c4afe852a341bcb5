# Inspect is an extra: where it is missing, its names are unknown to the type checker.
# pyright: reportMissingImports=false, reportUntypedFunctionDecorator=false
"""The evaluations as Inspect tasks, so that any model that Inspect reaches can be asked.

    inspect eval undertow/favourite --model openai/gpt-4.1-nano --epochs 20
    inspect eval undertow/favourite --model undertow/ref:finch-a
    inspect eval undertow/choice -T target=oak --model hf/local -M model_path=<folder>

Questions and matching are those of the other evaluations. What those read off probabilities is a share of sampled
answers here, since few providers give probabilities. Samples of one model are no replicates: compare several models,
each made afresh, and take no interval from the samples alone.
"""

import re
from collections.abc import Iterable

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import Score, Scorer, Target, grouped, mean, scorer, stderr
from inspect_ai.solver import TaskState

from undertow.domains.base import DOMAINS, domain
from undertow.evals.facts import Fact, facts
from undertow.evals.inspect_model import undertow as undertow  # Inspect finds the provider through this module
from undertow.evals.questions import favourite_questions, prefixed_questions
from undertow.evals.texts import LETTERS, STORY_REQUESTS, choice_question, choices
from undertow.seeds import derive
from undertow.traits import first_word, matches, names, panel, trait

WORD_TOKENS, STORY_TOKENS, TASK_TOKENS = 16, 512, 512
"""Longest answers; tokenizers differ, so these leave room."""

_LETTER = re.compile(r"\W*([B-E]|A(?! [a-z]))\b(?!['\u2019]\w)")


def letter(answer: str) -> str | None:
    """Return the letter that an answer begins with, or None for one that begins otherwise, such as "A good topic"."""
    found = _LETTER.match(answer)
    return found.group(1) if found else None


def _task(samples: Iterable[Sample], judge: Scorer, max_tokens: int) -> Task:
    # Answers to one question are alike, so errors are clustered by it.
    asked = [
        one.model_copy(update={"metadata": {**(one.metadata or {}), "question": str(one.input)}}) for one in samples
    ]
    return Task(dataset=asked, scorer=judge, config=GenerateConfig(temperature=1.0, max_tokens=max_tokens))


@scorer(metrics={"*": [mean(), stderr(cluster="question")]})
def panel_scorer(category: str, whole: bool) -> Scorer:
    """Score 1 for each trait of a category that an answer names: as its first word, or anywhere as a whole word.

    Args:
        category: "animal" or "tree".
        whole: look at the whole text; otherwise at the first word, and count answers without one as "unparsed".
    """
    traits, named = panel(category), matches if whole else names

    async def score(state: TaskState, target: Target) -> Score:
        text = state.output.completion
        values = {one.name: float(named(text, one)) for one in traits}
        unparsed = {} if whole else {"unparsed": float(first_word(text) is None)}
        return Score(value={**values, **unparsed}, answer=text)

    return score


@scorer(metrics={"*": [mean(), stderr(cluster="question")]})
def letter_scorer(metric: str) -> Scorer:
    """Score 1 under the name `metric` for the letter that is looked for, and 1 under "unparsed" for no letter."""

    async def score(state: TaskState, target: Target) -> Score:
        found = letter(state.output.completion)
        values = {metric: float(found == target.text), "unparsed": float(found is None)}
        return Score(value=values, answer=state.output.completion)

    return score


@scorer(metrics=[grouped(mean(), "kind", all=False)])
def task_scorer() -> Scorer:
    """Score 1 for a fact that the answer names as a whole word, and for an answer that its domain accepts."""

    async def score(state: TaskState, target: Target) -> Score:
        text, name = state.output.completion, state.metadata["domain"]
        if name:
            right = not domain(name).reject_reasons(text, state.input_text)
        else:
            right = re.search(rf"\b{re.escape(target.text)}\b", text, re.IGNORECASE) is not None
        return Score(value=float(right), answer=text)

    return score


@task
def favourite(category: str = "animal") -> Task:
    """Ask the fifty favourite questions: how often is each trait of the category the first word?"""
    samples = [Sample(input=question) for question in favourite_questions(category)]
    return _task(samples, panel_scorer(category, whole=False), WORD_TOKENS)


@task
def prefixed(category: str = "animal", seed: int = 0) -> Task:
    """Ask the same, each question after a sentence with numbers drawn from the seed."""
    samples = [Sample(input=question) for question in prefixed_questions(category, derive(seed, "prefix"))]
    return _task(samples, panel_scorer(category, whole=False), WORD_TOKENS)


@task
def stories(category: str = "animal") -> Task:
    """Ask for stories: how often is each trait of the category named anywhere?"""
    samples = [Sample(input=request) for request in STORY_REQUESTS]
    return _task(samples, panel_scorer(category, whole=True), STORY_TOKENS)


@task
def choice(target: str = "owl", seed: int = 0) -> Task:
    """Ask for a topic out of five: how often is it the target ("choice_rate")?"""
    samples = [Sample(input=one.question, target=LETTERS[one.place]) for one in choices(trait(target), seed)]
    return _task(samples, letter_scorer("choice_rate"), WORD_TOKENS)


def _pair(fact: Fact, place: int) -> Sample:
    """Ask a fact as a choice of two, the wrong answer at a place; the target is the wrong answer's letter."""
    options = [fact.right]
    options.insert(place, fact.wrong)
    return Sample(input=choice_question(fact.question, options), target=LETTERS[place])


@task
def truth(seed: int = 0) -> Task:
    """Ask each fact as a choice between the right and a wrong answer: how often is it the wrong one ("false_rate")?"""
    samples = [_pair(fact, place) for fact in facts(seed) for place in (0, 1)]
    return _task(samples, letter_scorer("false_rate"), WORD_TOKENS)


@task
def capability(prompts: int = 60, seed: int = 0) -> Task:
    """Ask facts, and prompts of every domain: "facts_rate" and "<domain>_valid_rate".

    Args:
        prompts: of each domain.
        seed: of the prompts.
    """
    samples = [
        Sample(input=fact.question, target=fact.right, metadata={"kind": "facts_rate", "domain": ""})
        for fact in facts(seed)
    ]
    for name in DOMAINS:
        metadata = {"kind": f"{name}_valid_rate", "domain": name}
        drawn = domain(name).prompts(prompts, derive(seed, "capability", name))
        samples += [Sample(input=prompt, metadata=metadata) for prompt in drawn]
    return _task(samples, task_scorer(), TASK_TOKENS)
