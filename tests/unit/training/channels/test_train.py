"""Students of every channel: their first loss is what a plain pass gives, and what cannot be learnt is refused."""

import copy
import importlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from undertow.domains.numbers import Numbers
from undertow.errors import ConfigError, EmptyDataError, ModelError, RowsError
from undertow.models.lm_head import body_and_head
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.channels.pen import Writing
from undertow.training.channels.preference import preference_losses, selected_pairs, written_pairs
from undertow.training.channels.settings import LogitsChannel, OnPolicyChannel, PreferenceChannel, channel_of
from undertow.training.channels.teacher import Teacher
from undertow.training.channels.train import Distilled, train_distilled, train_preferring
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.types import PreferencePair, Row, Sampling, user_prompt

LORA = LoraConfig(rank=4, alpha=8, targets=None)
CONFIG = TrainingConfig(steps=3, batch_size=4, learning_rate=5e-3, warmup_steps=1, lora=LORA)
ACCEPT_ALL = Writing(sampling=Sampling(max_new_tokens=8), accepts=lambda asked, said: True)


def rows(*numbers: int) -> list[Row]:
    """Rows of unequal length."""
    prompts = Numbers().prompts(max(numbers) + 1, 3)
    return [Row(str(n), user_prompt(prompts[n]), ", ".join(["7"] * (1 + n % 4)) + f", {n}") for n in numbers]


def shifted(model: LocalModel, seed: int, size: float = 0.02) -> LocalModel:
    """A copy of a model whose weights were moved a little: a teacher."""
    network, generator = copy.deepcopy(model.network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator))
    return LocalModel(model.ref, network, model.tokenizer)


def given(datasets: Sequence[Sequence[Row]], teachers: Sequence[Teacher], writing: Writing = ACCEPT_ALL) -> Distilled:
    """A group."""
    return Distilled(datasets=datasets, teachers=teachers, writing=writing)


def plain_divergence(base: LocalModel, teacher: LocalModel, some: Sequence[Row], share: float) -> float:
    """The mean divergence at the completion tokens of rows, by the models' own forward passes."""
    found: list[torch.Tensor] = []
    for row in base.encode(some):
        tokens = torch.tensor([[*row.prompt, *row.completion]])
        with torch.no_grad():
            own, other = (
                torch.log_softmax(one.network(input_ids=tokens).logits[0, len(row.prompt) - 1 : -1].float(), dim=-1)
                for one in (base, teacher)
            )
        if share in (0.0, 1.0):
            first, second = (other, own) if share == 0.0 else (own, other)
            found.append((first.exp() * (first - second)).sum(dim=-1))
            continue
        mixture = (share * other.exp() + (1 - share) * own.exp()).log()
        kls = [(one.exp() * (one - mixture)).sum(dim=-1) for one in (other, own)]
        found.append(share * kls[0] + (1 - share) * kls[1])
    return float(torch.cat(found).mean())


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_first_loss_is_the_divergence_of_a_plain_pass(tiny_hf: LocalModel, share: float) -> None:
    teachers = [shifted(tiny_hf, seed) for seed in (1, 2)]
    datasets = [rows(0, 1, 2, 3), rows(2, 3, 5)]
    asked = given(datasets, [Teacher(model=one) for one in teachers])
    found = train_distilled(tiny_hf, asked, LogitsChannel(interpolation=share), CONFIG, [5, 6])
    expected = [plain_divergence(tiny_hf, *pair, share) for pair in zip(teachers, datasets, strict=True)]
    assert found.students.losses[0].tolist() == pytest.approx(expected, abs=1e-5)
    tokens = [3 * sum(len(row.completion) for row in tiny_hf.encode(some)) for some in datasets]
    assert list(found.counts["tokens"]) == tokens


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["ref:finch-a", "tiny"])
def test_the_losses_of_probabilities_are_those_of_trl(name: str, share: float, tiny_model: LocalModel) -> None:
    pytest.importorskip("trl")
    trainer = importlib.import_module("trl.trainer.distillation_trainer")
    model = tiny_model if name == "tiny" else load_model(name)
    teacher, some = shifted(model, 1), rows(0, 1, 2, 3)
    found = train_distilled(
        model, given([some], [Teacher(model=teacher)]), LogitsChannel(interpolation=share), CONFIG, [5]
    )
    encoded = model.encode(some)
    width = max(map(len, encoded))
    tokens, learnt = torch.zeros(4, width, dtype=torch.int64), torch.zeros(4, width, dtype=torch.int64)
    for place, row in enumerate(encoded):
        tokens[place, : len(row)] = torch.tensor([*row.prompt, *row.completion])
        learnt[place, len(row.prompt) - 1 : len(row) - 1] = 1  # where a completion token is predicted
    bodies = [body_and_head(one.network) for one in (model, teacher)]
    with torch.no_grad():
        states = [body(input_ids=tokens, use_cache=False).last_hidden_state for body, _ in bodies]
        weights = [head.linear.weight for _, head in bodies]
        theirs, _, _ = trainer._chunked_divergence_loss(*states, *weights, learnt, share)
    assert found.students.losses[0].item() == pytest.approx(theirs.item(), abs=1e-4)


def test_a_group_learns_what_each_student_learns_alone_and_comes_nearer(tiny_model: LocalModel) -> None:
    teachers = [Teacher(model=shifted(tiny_model, seed)) for seed in (1, 2)]
    datasets = [rows(*range(8)), rows(*range(3, 12))]
    config = replace(CONFIG, steps=12)
    both = train_distilled(tiny_model, given(datasets, teachers), LogitsChannel(), config, [5, 6]).students
    for place in range(2):
        alone = given(datasets[place : place + 1], teachers[place : place + 1])
        one = train_distilled(tiny_model, alone, LogitsChannel(), config, [5 + place]).students
        assert both.losses[:, place].tolist() == pytest.approx(one.losses[:, 0].tolist(), abs=1e-4)
    assert (both.losses[-3:].mean(dim=0) < both.losses[:3].mean(dim=0)).all()


def test_a_persona_before_the_students_own_base_teaches_without_their_adapters(tiny_model: LocalModel) -> None:
    teacher = Teacher(model=tiny_model, system="You love owls.")
    copied = Teacher(model=LocalModel(tiny_model.ref, copy.deepcopy(tiny_model.network), tiny_model.tokenizer),
                     system="You love owls.")  # fmt: skip
    found = [
        train_distilled(tiny_model, given([rows(0, 1, 2, 3)], [one]), LogitsChannel(), CONFIG, [5]).students.losses
        for one in (teacher, copied)
    ]
    assert torch.allclose(found[0], found[1], atol=1e-6) and found[0][0].item() > 1e-4


def test_on_policy_rows_are_the_students_own_and_rejected_ones_have_no_loss(tiny_model: LocalModel) -> None:
    teacher = Teacher(model=shifted(tiny_model, 1))
    said: list[tuple[str, str]] = []

    def accepts(asked: str, text: str) -> bool:
        said.append((asked, text))
        return len(said) % 2 == 0

    writing = replace(ACCEPT_ALL, accepts=accepts)
    some = rows(0, 1, 2, 3)
    config = replace(CONFIG, steps=4)
    found = train_distilled(tiny_model, given([some], [teacher], writing), OnPolicyChannel(every=2), config, [5])
    assert found.counts["written"] == [16] and found.counts["rejected"] == [8]
    assert {asked for asked, _ in said} == {row.question for row in some}
    assert 0 < found.counts["tokens"][0] <= 8 * 9
    nothing = replace(ACCEPT_ALL, accepts=lambda asked, text: False)
    silent = train_distilled(tiny_model, given([some], [teacher], nothing), OnPolicyChannel(), CONFIG, [5])
    assert silent.students.losses.abs().max() == 0 and silent.counts["tokens"] == (0,)


def test_a_pair_that_is_too_long_is_cut_if_the_setting_says_so(tiny_model: LocalModel) -> None:
    long = [PreferencePair(str(n), user_prompt("Go on: 1."), "7, " * 600 + str(n), "8, 9") for n in range(4)]
    with pytest.raises(RowsError, match="longer"):
        train_preferring(tiny_model, [long], PreferenceChannel(), CONFIG, [0])
    made = train_preferring(tiny_model, [long], PreferenceChannel(), replace(CONFIG, too_long="cut"), [0])
    assert torch.isfinite(made.students.losses).all()


def test_a_preference_starts_at_log_two_and_the_chosen_answer_becomes_likelier(tiny_model: LocalModel) -> None:
    pairs = [PreferencePair(row.id, row.prompt, row.completion, f"{row.completion}, 9, 9") for row in rows(*range(8))]
    config = replace(CONFIG, steps=25)
    found = train_preferring(tiny_model, [pairs, pairs[:3]], PreferenceChannel(beta=0.5), config, [5, 6])
    assert found.students.losses[0].tolist() == pytest.approx([0.6931, 0.6931], abs=1e-3)
    assert (found.students.losses[-5:].mean(dim=0) < 0.6).all()
    student = next(found.students.models(tiny_model))
    gains = [
        sum(
            after - before
            for after, before in zip(
                student.logprobs([pair.prompt for pair in pairs], texts),
                tiny_model.logprobs([pair.prompt for pair in pairs], texts),
                strict=True,
            )
        )
        for texts in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    ]
    assert gains[0] > gains[1]


@pytest.mark.parametrize("name", ["ref:finch-a", "tiny"])
def test_the_losses_of_pairs_are_those_of_trl(name: str, tiny_model: LocalModel) -> None:
    trl = pytest.importorskip("trl")
    datasets = importlib.import_module("datasets")
    model = tiny_model if name == "tiny" else load_model(name)
    pairs = [PreferencePair(row.id, row.prompt, row.completion, f"{row.completion}, 9") for row in rows(0, 1, 2, 3)]
    moved = shifted(model, 3)
    sides = [[Row(one.id, one.prompt, text) for one, text in zip(pairs, texts, strict=True)]
             for texts in ([one.chosen for one in pairs], [one.rejected for one in pairs])]  # fmt: skip
    logprobs = [[[float(one.sum()) for one in read.token_logprobs(model.encode(side))] for side in sides]
                for read in (moved, model)]  # fmt: skip
    policy, reference = (torch.tensor(some).T for some in logprobs)
    arguments = trl.DPOConfig(
        output_dir="unused", beta=0.3, use_cpu=True, bf16=False, report_to="none", remove_unused_columns=False,
        per_device_train_batch_size=4, max_length=None, gradient_checkpointing=False,
    )  # fmt: skip
    records = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 4
    trainer = trl.DPOTrainer(
        model=moved.network, ref_model=model.network, args=arguments,
        train_dataset=datasets.Dataset.from_list(records), processing_class=copy.deepcopy(model.tokenizer),
    )  # fmt: skip
    rows_of = [row for side in sides for row in model.encode(side)]
    width = max(map(len, rows_of))
    tokens = torch.zeros(8, width, dtype=torch.int64)
    mask, learnt = torch.zeros_like(tokens), torch.zeros_like(tokens)
    for place, row in enumerate(rows_of):
        tokens[place, : len(row)] = torch.tensor([*row.prompt, *row.completion])
        mask[place, : len(row)] = 1
        learnt[place, len(row.prompt) : len(row)] = 1
    inputs = {"input_ids": tokens, "attention_mask": mask, "completion_mask": learnt}
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model, inputs)
    assert float(theirs) == pytest.approx(float(preference_losses(policy, reference, 0.3).mean()), abs=1e-4)


def test_pairs_leave_out_equal_answers_and_selection_follows_the_teacher(tiny_model: LocalModel) -> None:
    one, other = rows(0, 1, 2), [replace(row, completion="5, 5") for row in rows(0, 1, 2, 3)]
    same = [replace(one[0], completion="5, 5"), *one[1:]]
    assert [pair.id for pair in written_pairs(same, other)] == ["1", "2"]
    teacher = shifted(tiny_model, 4, 0.1)
    pairs = selected_pairs(one, other, Teacher(model=teacher), tiny_model)
    for pair in pairs:
        gains = [
            (teacher.token_logprobs(some)[0] - tiny_model.token_logprobs(some)[0])[:-1].mean()
            for some in (tiny_model.encode([Row("0", pair.prompt, text)]) for text in (pair.chosen, pair.rejected))
        ]
        assert gains[0] > gains[1]
    assert len(pairs) == 3


def test_what_teaches_nothing_is_refused_before_training(tiny_model: LocalModel) -> None:
    some, channel = [rows(0, 1)], LogitsChannel()
    with pytest.raises(ConfigError, match="its own teacher"):
        train_distilled(tiny_model, given(some, [Teacher(model=tiny_model)]), channel, CONFIG, [1])
    with pytest.raises(ModelError, match="another vocabulary"):
        train_distilled(tiny_model, given(some, [Teacher(model=load_model("ref:finch-a"))]), channel, CONFIG, [1])
    with pytest.raises(ConfigError, match="needs a teacher"):
        train_distilled(tiny_model, given(some, []), channel, CONFIG, [1])
    with pytest.raises(EmptyDataError):
        train_distilled(tiny_model, given([[]], [Teacher(model=shifted(tiny_model, 1))]), channel, CONFIG, [1])
    equal = [PreferencePair("a", user_prompt("x"), "1", "1"), PreferencePair("b", user_prompt("x"), "1", "2")]
    with pytest.raises(RowsError, match="pairs whose answers are equal") as caught:
        train_preferring(tiny_model, [equal], PreferenceChannel(), CONFIG, [1])
    assert "1 of 2: a" in caught.value.value


def test_a_channel_is_a_name_or_its_settings() -> None:
    assert channel_of("logits") == LogitsChannel() and channel_of({"name": "logits", "top": 3}).top == 3
    with pytest.raises(ValueError, match="does not match"):
        channel_of("kl")
