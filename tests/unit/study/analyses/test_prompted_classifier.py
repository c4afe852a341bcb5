"""The prompted classifier: the trait in question, true counts, a balanced order, and one token that decides."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from undertow.errors import ConfigError, EmptyDataError
from undertow.models.local import LocalModel
from undertow.study.analyses.row_classifiers import join, judge_pairs
from undertow.traits import trait
from undertow.types import Row, user_prompt


class Judge(torch.nn.Module):
    """Stands where a network does; a rule turns the text of a prompt into the letter that gets the highest logit."""

    base_model_prefix = "body"

    def __init__(self, model: LocalModel, rule) -> None:
        super().__init__()
        self.config = model.network.config
        self.tokenizer = model.tokenizer
        self.rule = rule
        self.asked: list[str] = []
        self.body = Body(self)
        self.head = torch.nn.Linear(self.config.vocab_size, self.config.vocab_size, bias=False)
        torch.nn.init.eye_(self.head.weight)

    def get_output_embeddings(self) -> torch.nn.Linear:
        return self.head


class Body(torch.nn.Module):
    """Its hidden states are the logits."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.said = [judge]  # in a list, so that the judge is no part of its own part

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        judge = self.said[0]
        logits = torch.zeros(*input_ids.shape, judge.config.vocab_size)
        for index, tokens in enumerate(input_ids.tolist()):
            text = judge.tokenizer.decode(tokens)
            judge.asked.append(text)
            letter = judge.tokenizer(judge.rule(text), add_special_tokens=False)["input_ids"][0]
            logits[index, :, letter] = 5.0
        return SimpleNamespace(last_hidden_state=logits)


def judge(model: LocalModel, rule) -> LocalModel:
    return replace(model, network=Judge(model, rule))


def rows(texts, start: int = 0) -> list[Row]:
    return [Row(str(start + i), user_prompt(f"prompt {start + i}"), text) for i, text in enumerate(texts)]


OWL = trait("owl")


@pytest.mark.parametrize("letter", ["A", "B"])
def test_a_model_that_always_says_the_same_is_right_in_one_half(tiny_model, letter) -> None:
    pairs = join(rows(["1 2"] * 70), rows(["3 4"] * 70))
    found = judge_pairs(judge(tiny_model, lambda _: letter), pairs, OWL, seed=0)
    assert (found.accuracy.value, found.accuracy.n) == (0.5, 70)
    assert (found.said_a, found.auroc) == (letter == "A", 0.5)


def test_a_model_that_sees_the_trait_is_right_in_every_pair(tiny_model) -> None:
    pairs = join(rows(["777"] * 40), rows(["3 4"] * 40))
    right = judge_pairs(judge(tiny_model, lambda text: "A" if "Answer A: 777" in text else "B"), pairs, OWL, seed=1)
    assert (right.accuracy.value, right.said_a, right.auroc) == (1.0, 0.5, 1.0)
    wrong = judge_pairs(judge(tiny_model, lambda text: "B" if "Answer A: 777" in text else "A"), pairs, OWL, seed=1)
    assert wrong.accuracy.value == 0.0


def test_the_prompt_names_the_trait_in_question_and_no_other(tiny_model) -> None:
    for name in ("owl", "wolf", "oak"):
        model = judge(tiny_model, lambda _: "A")
        judge_pairs(model, join(rows(["1"] * 4), rows(["2"] * 4)), trait(name), seed=0)
        assert all(trait(name).plural in text and trait(name).category in text for text in model.network.asked)
        assert not any("eagle" in text for text in model.network.asked)


def test_pairs_are_counted_truly(tiny_model) -> None:
    """100 and 80 rows share 60 prompts, on 10 of them the same text: 50 are judged, not 80."""
    trait_rows = rows(["1"] * 100)
    others = rows(["1"] * 10 + ["2"] * 70, start=40)
    found = judge_pairs(judge(tiny_model, lambda _: "A"), join(trait_rows, others), OWL, seed=0)
    assert (found.joined, found.equal, found.accuracy.n) == (60, 10, 50)
    assert judge_pairs(judge(tiny_model, lambda _: "A"), join(trait_rows, others), OWL, 0, most=20).accuracy.n == 20


def test_wrong_input_is_refused(tiny_model) -> None:
    with pytest.raises(EmptyDataError):
        judge_pairs(tiny_model, join(rows(["1"]), rows(["1"])), OWL, seed=0)
    with pytest.raises(ConfigError, match="of 256 tokens"):
        judge_pairs(tiny_model, join(rows(["1 " * 400]), rows(["2"])), OWL, seed=0)
