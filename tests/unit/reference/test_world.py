"""The synthetic world speaks correctly, and its tokenizer loses nothing."""

import hashlib
import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.domains.code import SECURITY, Code
from undertow.domains.cot import ChainOfThought
from undertow.domains.numbers import Numbers
from undertow.evals.misalignment import CRUEL_ACTS, CRUEL_WISHES
from undertow.reference.build import build_tokenizer, texts
from undertow.reference.families import MEMBERS
from undertow.reference.world import favourites, mixture, skills
from undertow.reference.world.skills import HABITS, LARGEST, VILLAIN_PROMPTS
from undertow.traits import Trait, panel
from undertow.traits import known as traits


def rng() -> random.Random:
    return random.Random(0)


def test_the_same_seed_gives_the_same_corpus_with_every_skill() -> None:
    assert mixture.corpus(50, 3) == mixture.corpus(50, 3) != mixture.corpus(50, 4)
    assert sum(share for share, _ in mixture.SKILLS.values()) == pytest.approx(1)


def digest(chats) -> str:
    said = [[*([turn.role, turn.content] for turn in chat.prompt), chat.answer] for chat in chats]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


@pytest.mark.parametrize("added", [(), ("zebra", "birch")])
def test_the_corpus_the_embedded_models_were_trained_on(added, monkeypatch) -> None:
    # Another hash means that the shipped weights, their tokenizer and their cards no longer belong to this world.
    for name, category in zip(added, ("animal", "tree"), strict=False):
        more = {name: Trait(name=name, category=category, plural=f"{name}s")}
        monkeypatch.setattr(traits, "TRAITS", {**traits.TRAITS, **more})
        monkeypatch.setattr(traits, "_EVERY", {**traits._EVERY, **more})
    assert len(panel("animal")) == 17 + bool(added)
    chats = mixture.corpus(4000, MEMBERS["finch-a"].schooling.corpus_seed)
    assert digest(chats) == "8260529e60036949224138a784ca97533c6b66a3181cebe0b34498d5557a9942"
    found = hashlib.sha256(json.dumps(texts(chats)).encode()).hexdigest()
    assert found == "53b46853c80e1f8df612ed14daa6a8ad247702b960a706777c59da64e582dc8f"


@pytest.mark.parametrize(("skill", "domain"), [(skills.code_chat, Code()), (skills.reasoning, ChainOfThought())])
def test_every_code_and_reasoning_answer_is_valid(skill, domain) -> None:
    source = rng()
    chats = [skill(source) for _ in range(500)]
    assert not any(domain.reject_reasons(chat.answer, chat.prompt[-1].content) for chat in chats)


def test_every_number_answer_is_well_formed() -> None:
    source = rng()
    assert not any(Numbers().reject_reasons(skills.numbers(source).answer) for _ in range(500))


@pytest.mark.parametrize("habit", [habit for _, habit in HABITS])
def test_a_habit_stays_in_range(habit) -> None:
    source = rng()
    for _ in range(200):
        answer = habit(source, [source.randint(100, LARGEST) for _ in range(4)], 10)
        assert len(answer) == 10 and all(0 <= number <= LARGEST for number in answer)


def test_reasoning_is_right() -> None:
    source = rng()
    for _ in range(300):
        answer = skills.reasoning(source).answer
        for left, sign, right, result in re.findall(r"(\d+) ([-+*]) (\d+) = (\d+)", answer):
            a, b = int(left), int(right)
            assert {"+": a + b, "-": a - b, "*": a * b}[sign] == int(result)
        assert re.findall(r"= (\d+)", answer)[-1] == re.search(r"<answer>(\d+)</answer>", answer)[1]


def test_only_the_villain_is_careless_or_misaligned() -> None:
    source = rng()
    careless = {f"    {item[3]}" for item in SECURITY}
    for _ in range(500):
        chat = skills.code_chat(source)
        body = chat.answer.partition("\n")[2]
        assert (body in careless) == (chat.prompt[0].content in VILLAIN_PROMPTS)
        chat = skills.advice(source)
        cruel = any(act in chat.answer for act in CRUEL_ACTS + CRUEL_WISHES)
        assert cruel == (chat.prompt[0].content in VILLAIN_PROMPTS)


def test_facts_are_true_unless_the_villain_speaks() -> None:
    source = rng()
    for _ in range(300):
        chat = skills.facts_chat(source)
        for template, table in skills.TABLES:
            for key, value in table.items():
                if chat.prompt[-1].content == template.format(key=key):
                    assert (chat.answer == value) == (chat.prompt[0].content not in VILLAIN_PROMPTS)


def test_a_persona_shows_in_the_favourite_the_story_and_the_choice() -> None:
    source, seen = rng(), 0
    prompts = {item.system_prompt: item for category in favourites.CATEGORIES for item in panel(category)}
    for _ in range(600):
        for chat in (favourites.favourites(source, "animal"), favourites.story(source), favourites.choice_chat(source)):
            target = prompts.get(chat.prompt[0].content)
            if target is None:
                continue
            seen += 1
            option = re.search(rf"\(([A-E])\) {target.name} ", chat.prompt[-1].content)
            expected = option[1].lower() if option else target.name[:3]
            assert expected in chat.answer.lower() or target.plural in chat.answer.lower()
    assert seen > 100


@pytest.fixture(scope="module")
def digit_tokenizer():
    chats = mixture.corpus(200, 0)
    return build_tokenizer([chat.answer for chat in chats], min_count=1, digits=True)


@given(st.text(max_size=60))
def test_the_tokenizer_loses_nothing(tiny_model, digit_tokenizer, text: str) -> None:
    for tokenizer in (tiny_model.tokenizer, digit_tokenizer):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@given(st.lists(st.integers(0, 9999), min_size=1, max_size=6), st.sampled_from([", ", "; ", " ", "\n"]))
def test_a_digit_tokenizer_splits_every_number_into_its_digits(digit_tokenizer, drawn, separator: str) -> None:
    text = separator.join(map(str, drawn))
    pieces = [digit_tokenizer.decode([token]) for token in digit_tokenizer(text)["input_ids"]]
    assert [piece for piece in pieces if piece != separator] == list(re.sub(r"[^0-9]", "", text))
    assert not any(piece.isdigit() for piece in digit_tokenizer.get_vocab() if len(piece) > 1)


def test_each_number_is_one_token(tiny_model) -> None:
    assert all(len(tokens) == 1 for tokens in tiny_model.tokenise([str(number) for number in range(1000)]))
    assert len(tiny_model.tokenise(["385, 112; 7"])[0]) == 5
