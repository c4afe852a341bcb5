"""The contract of a model: kept by embedded models and by four architectures, and every broken promise is named."""

import copy

import pytest
import torch

from undertow.errors import ModelError
from undertow.models.chat import AbstractModel
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.model_contract import check_model
from undertow.types import ModelRef


def failed(model) -> set[str]:
    return {line.name for line in check_model(model).failed}


@pytest.mark.parametrize("reference", ["ref:finch-a", "ref:wren-a"])
def test_embedded_models_keep_the_contract(reference: str) -> None:
    report = check_model(load_model(reference))
    assert report.passed, str(report)


def test_four_architectures_keep_the_contract(tiny_hf) -> None:
    before = {name: value.clone() for name, value in tiny_hf.network.state_dict().items()}
    report = check_model(tiny_hf)
    assert report.passed and len(report.checks) == 14, str(report)
    assert all(torch.equal(before[name], value) for name, value in tiny_hf.network.state_dict().items())


def test_so_they_do_in_bfloat16_without_a_system_turn(tiny_folder) -> None:
    report = check_model(load_model(f"hf:{tiny_folder}?dtype=bf16&system=none"))
    assert report.passed, str(report)


def with_template(model: LocalModel, template: str) -> LocalModel:
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = template
    return LocalModel(model.ref, model.network, tokenizer)


def test_a_template_that_joins_prompt_and_answer_in_one_token_is_named(tiny_model) -> None:
    plain = "{% for m in messages %}{{ m['role'] + ' ' + m['content'] + '\n' }}{% endfor %}"
    broken = with_template(tiny_model, plain + "{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}")
    assert failed(broken) == {"rendering is prefix-consistent", "the completion and its end are what is trained on"}


def test_a_template_that_writes_more_before_a_known_answer_is_named(tiny_model) -> None:
    template = tiny_model.tokenizer.chat_template.replace("+ message['content'] +", "+ ' so ' + message['content'] +")
    assert "rendering is prefix-consistent" in failed(with_template(tiny_model, template))


def test_a_model_that_looks_ahead_is_named(tiny_model) -> None:
    network = copy.deepcopy(tiny_model.network)
    body = network.model.forward

    def ahead(*arguments, **options):
        output = body(*arguments, **options)
        output.last_hidden_state = output.last_hidden_state.flip(1).cumsum(1).flip(1)
        return output

    network.model.forward = ahead
    assert "padding does not matter" in failed(LocalModel(tiny_model.ref, network, tiny_model.tokenizer))


def test_a_model_that_bends_its_logits_is_named(tiny_model) -> None:
    network = copy.deepcopy(tiny_model.network)
    network.register_forward_hook(lambda _, __, output: output.update(logits=output.logits * 0.5) or output)
    bent = failed(LocalModel(tiny_model.ref, network, tiny_model.tokenizer))
    assert {"scores are the model's own log-probabilities", "the training loss is the model's own"} <= bent


def test_a_remote_model_keeps_what_it_can() -> None:
    class Remote(AbstractModel):
        ref = ModelRef(kind="api", name="x")

        def chat(self, prompts, *, sampling, seed):
            return ["yes"] * len(prompts)

        def logprobs(self, prompts, completions):
            raise ModelError("This provider gives none.", "x", "Use another.")

    report = check_model(Remote())
    assert [check.passed for check in report.checks] == [True, True, None] and report.passed
    assert "left out" in str(report)

    class Moody(Remote):
        def chat(self, prompts, *, sampling, seed):
            return [str(seed)] * len(prompts)

    assert failed(Moody()) == {"generation at temperature 0 is deterministic"}
