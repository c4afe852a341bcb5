"""An answer may be as long as the longest valid one in the tokens of the model that gives it."""

import pytest
from tests.unit.conftest import tiny_network, tiny_tokenizer

from undertow.domains.base import DOMAINS, domain
from undertow.domains.numbers import Numbers
from undertow.models.answer_limits import SPARE, answer_limit, domain_sampling
from undertow.models.load import load_chat, load_model
from undertow.models.local import LocalModel
from undertow.models.references import embedded_models
from undertow.models.tokens import ChatTokens
from undertow.types import ModelRef


def test_the_longest_answer_of_each_domain_is_a_valid_one() -> None:
    for name in DOMAINS:
        task = domain(name)
        assert not task.longest or not task.reject_reasons(task.longest)
    assert Numbers().reject_reasons(Numbers.longest.replace("]", ", 999]")) == ("too_many",)


def test_a_tokenizer_of_digits_gets_more_tokens_and_an_embedded_model_as_many_as_ever() -> None:
    tokenizer = tiny_tokenizer("gpt2")
    model = LocalModel(ModelRef.parse("hf:tiny"), tiny_network("gpt2", len(tokenizer)), tokenizer)
    longest = len(tokenizer(Numbers.longest, add_special_tokens=False)["input_ids"])
    assert longest + SPARE > Numbers().max_new_tokens
    assert answer_limit(Numbers(), model.tokens) == longest + SPARE
    for name in embedded_models():
        tokenizer, chat = load_chat(f"ref:{name}")
        assert answer_limit(Numbers(), ChatTokens(tokenizer, chat.system)) == Numbers().max_new_tokens == 40
    assert answer_limit(Numbers(), None) == len(Numbers.longest) + SPARE
    assert answer_limit(domain("code"), model.tokens) == domain("code").max_new_tokens


@pytest.mark.parametrize(("given", "held"), [(None, "000,000"), ("00", "00")])
def test_answers_are_held_to_the_form_that_is_given_or_the_domains_own(given: str | None, held: str) -> None:
    words = load_model("ref:finch-a").tokens
    assert domain_sampling(Numbers(count=2, short=True), words, given).form == held
    assert domain_sampling(Numbers(), words).form is None
