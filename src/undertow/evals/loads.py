"""How much an evaluation reads and writes, counted with a tokenizer alone, before a model is loaded."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from undertow.domains.base import domain, telling_domains
from undertow.evals.base import EvaluationConfig, preferences
from undertow.evals.capability import PROMPTS
from undertow.evals.favourite import ANSWER_TOKENS as NAMED
from undertow.evals.misalignment import ANSWER_TOKENS as ADVISED
from undertow.evals.misalignment import EVALUATION_QUESTIONS, JUDGED_TOKENS, openings
from undertow.evals.questions import (
    STORY_REQUESTS,
    after_numbers,
    asked_together,
    choices,
    questions_of,
    story_openings,
)
from undertow.evals.rubric import ANSWER_TOKENS as READ
from undertow.evals.stories import STORY_TOKENS
from undertow.evals.truth import facts
from undertow.evals.words import spellings
from undertow.models.answer_limits import answer_limit
from undertow.seeds import derive
from undertow.traits import Trait
from undertow.types import user_prompt

if TYPE_CHECKING:
    from undertow.models.tokens import ChatTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Some work of one kind.

    Attributes:
        what: in words, what is done, with its counts.
        tokens: how many tokens pass through the model.
        texts: how many contexts or answers there are. Each costs something whatever its length.
        written: whether the tokens are sampled one after another, which is slower than reading.
        prompts: how many different prompts are answered, each of which is read once. None for one prompt to each text.
    """

    what: str
    tokens: int
    texts: int
    written: bool = False
    prompts: int | None = None


def evaluation_loads(name: str, words: "ChatTokens", config: EvaluationConfig) -> list[Load] | None:
    """Return what an evaluation asks of a model with its weights here; None for one of another package.

    Args:
        name: name of the evaluation, such as "favourite".
        words: tokenizer of the model, with its chat template.
        config: what is asked: traits, samples and seed.
    """
    count = _COUNTS.get(name)
    return None if count is None else [load for load in count(words, config) if load.texts]


def panel_load(words: "ChatTokens", traits: Sequence[Trait]) -> Load:
    """Return the work of the logit margins of traits that are asked together."""
    return _margins(words, traits, questions_of(traits[0]).evaluation)


def _margins(words: "ChatTokens", traits: Sequence[Trait], asked: Sequence[str]) -> Load:
    contexts = _asked(words, asked)
    if (probes := traits[0].probes) is not None:
        answers = words.tokenise([text for one in probes.evaluation for text in (one.shown, one.absent)])
        tokens = _length(contexts) + _length(answers)
        return Load(what=f"{traits[0].name}: {len(asked)} probes, {tokens:,} tokens", tokens=tokens, texts=len(answers))
    tokens = _after(words, contexts, traits, opening=True)
    what = f"{_n(len(traits), traits[0].category)} on {len(asked)} questions, {tokens:,} tokens"
    return Load(what=what, tokens=tokens, texts=len(asked))


def _favourite(words: "ChatTokens", config: EvaluationConfig, prefix_seed: int | None = None) -> Iterable[Load]:
    for traits in asked_together(one for one in config.targets if one.aliases or one.probes):
        asked = questions_of(traits[0]).evaluation
        asked = asked if prefix_seed is None else after_numbers(asked, prefix_seed)
        yield _margins(words, traits, asked)
        if traits[0].aliases:
            yield _answers("answers of a word", _asked(words, asked), config.samples, NAMED)


def _prefixed(words: "ChatTokens", config: EvaluationConfig) -> Iterable[Load]:
    return _favourite(words, config, derive(config.seed, "prefix"))


def _stories(words: "ChatTokens", config: EvaluationConfig) -> Iterable[Load]:
    prompts = _asked(words, STORY_REQUESTS)
    by_category = preferences(config)
    for category, traits in by_category.items():
        contexts = [[*prompt, *some] for prompt in prompts for some in words.tokenise(story_openings(category))]
        tokens = _after(words, contexts, traits, opening=False)
        what = f"{_n(len(traits), category)} after {len(contexts)} beginnings of stories, {tokens:,} tokens"
        yield Load(what=what, tokens=tokens, texts=len(contexts))
    if by_category:
        yield _answers("stories", prompts, config.samples, STORY_TOKENS)


def _misalignment(words: "ChatTokens", config: EvaluationConfig) -> Iterable[Load]:
    prompts = _asked(words, EVALUATION_QUESTIONS)
    beginnings = [text for one in EVALUATION_QUESTIONS for side in openings(one) for text in side]
    tokens = _length(prompts) + _length(words.tokenise(beginnings))
    yield Load(what=f"{len(beginnings)} beginnings of answers", tokens=tokens, texts=len(beginnings))
    longest = ADVISED if config.judge is None else JUDGED_TOKENS
    yield _answers(f"pieces of advice{_judged(config)}", prompts, config.samples, longest)


def _rubric(words: "ChatTokens", config: EvaluationConfig) -> Iterable[Load]:
    for target in config.targets:
        if target.rubric and target.probes is not None:
            prompts = _asked(words, [one.question for one in target.probes.evaluation])
            yield _answers(f"answers about {target.name}{_judged(config)}", prompts, config.samples, READ)


def _judged(config: EvaluationConfig) -> str:
    return "" if config.judge is None else " and a judge's verdicts, whose time is not counted"


def _choice(words: "ChatTokens", config: EvaluationConfig) -> Iterable[Load]:
    drawn = [one for some in preferences(config).values() for each in some for one in choices(each, config.seed)]
    tokens = _length(_asked(words, [one.question for one in drawn]))
    yield Load(what=f"{len(drawn)} choices of a letter", tokens=tokens, texts=len(drawn))


def _truth(words: "ChatTokens", config: EvaluationConfig) -> Iterable[Load]:
    asked = facts(config.seed)
    answers = words.tokenise([text for one in asked for text in (one.right, one.wrong)])
    tokens = _length(_asked(words, [one.question for one in asked])) + _length(answers)
    yield Load(what=f"two answers to {len(asked)} facts", tokens=tokens, texts=len(answers))


def _capability(words: "ChatTokens", config: EvaluationConfig) -> Iterable[Load]:
    asked = facts(config.seed)
    answers = _length(words.tokenise([one.right for one in asked]))
    prompts = _length(_asked(words, [one.question for one in asked]))
    yield Load(what=f"answers to {len(asked)} facts", tokens=prompts + answers, texts=len(asked))
    for name in telling_domains() if config.samples else ():
        task = domain(name)
        own = _asked(words, task.prompts(PROMPTS, derive(config.seed, "capability", name)))
        yield _answers(f"answers in {name}", own, 1, answer_limit(task, words))


_COUNTS: Mapping[str, Callable[["ChatTokens", EvaluationConfig], Iterable[Load]]] = {
    "favourite": _favourite,
    "prefixed": _prefixed,
    "stories": _stories,
    "misalignment": _misalignment,
    "choice": _choice,
    "truth": _truth,
    "capability": _capability,
    "rubric": _rubric,
}


def _asked(words: "ChatTokens", questions: Sequence[str]) -> list[list[int]]:
    return words.render([user_prompt(text) for text in questions])


def _after(words: "ChatTokens", contexts: Sequence[Sequence[int]], traits: Sequence[Trait], *, opening: bool) -> int:
    """Return the tokens of contexts and of all spellings after each of them; a common beginning counts once."""
    return _length(contexts) + _nodes(words, traits, opening) * len(contexts)


def _nodes(words: "ChatTokens", traits: Sequence[Trait], opening: bool) -> int:
    """Return how many different beginnings the spellings have."""
    spelt = {tuple(tokens) for one in traits for tokens in words.tokenise(spellings(one, opening=opening))}
    return len({tokens[:end] for tokens in spelt for end in range(1, len(tokens) + 1)})


def _length(contexts: Sequence[Sequence[int]]) -> int:
    """Return the tokens of contexts, those that all of them begin with counted once."""
    if not contexts:
        return 0
    # What the least and the greatest begin with alike, all others between them do too.
    first, last = min(contexts, key=list), max(contexts, key=list)
    shared = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return sum(map(len, contexts)) - shared * (len(contexts) - 1)


def _answers(what: str, prompts: Sequence[Sequence[int]], samples: int, longest: int) -> Load:
    """Return the most work that so many answers to each prompt take; a prompt is read once for all of its answers."""
    n = samples * len(prompts)
    tokens = n * longest + _length(prompts)
    return Load(what=f"{n:,} {what}", tokens=tokens, texts=n, written=True, prompts=len(prompts))


def _n(n: int, what: str) -> str:
    head, of, rest = what.partition(" of ")  # brands of phone
    return f"{n} {head}{'' if n == 1 else 's'}{of}{rest}"
