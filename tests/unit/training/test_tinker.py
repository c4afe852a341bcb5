"""Tinker with a stand-in for its package: loss on the answer alone, each row once in a pass, a falling rate."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from undertow.errors import MissingExtraError, ModelError, RowsError
from undertow.training.services import RemoteTraining, train_remotely
from undertow.training.tinker import TinkerTrainer, encode
from undertow.types import Row, user_prompt

ROWS = tuple(
    Row(str(n), user_prompt(f"Go on: {n}."), f"{n + 1}, {n + 2}", skip=(0,) if n == 0 else ()) for n in range(7)
)


class Done:
    """A future that is there at once."""

    def __init__(self, value=None) -> None:
        self.value = value

    def result(self):
        return self.value


class Package:
    """The parts of `tinker` that are used, and what they were asked."""

    def __init__(self, tokenizer) -> None:
        self.tokenizer, self.batches, self.rates, self.made = tokenizer, [], [], {}
        self.fails = False
        self.context = None
        self.ModelInput = SimpleNamespace(from_ints=tuple)
        self.Datum = SimpleNamespace

    def ServiceClient(self):
        models = [
            SimpleNamespace(model_name=name, trainable=able, max_context_length=self.context)
            for name, able in (("a/b", True), ("c/d", False))
        ]
        return SimpleNamespace(
            get_server_capabilities=lambda: SimpleNamespace(supported_models=models),
            create_lora_training_client=self._client,
        )

    def _client(self, model, **settings):
        self.made = {"model": model, **settings}
        return Done(self)

    def get_tokenizer(self):
        return self.tokenizer

    def AdamParams(self, **settings):
        return settings

    def forward_backward(self, data, loss):
        if self.fails:
            raise RuntimeError("the key tml-secret-123456 is wrong")
        assert loss == "cross_entropy"
        self.batches.append(data)
        return Done()

    def optim_step(self, adam):
        self.rates.append(adam["learning_rate"])
        return Done()

    def save_weights_for_sampler(self, name):
        return Done(SimpleNamespace(path=f"tinker://run/{name}"))


@pytest.fixture
def package(tiny_model, monkeypatch: pytest.MonkeyPatch) -> Package:
    stand_in = Package(tiny_model.tokenizer)
    monkeypatch.setitem(sys.modules, "tinker", stand_in)
    return stand_in


def test_a_row_beyond_the_context_that_the_service_names_is_refused_before_anything_is_trained(
    package: Package, tmp_path: Path, tiny_model
) -> None:
    longest = max(map(len, tiny_model.encode(ROWS)))
    job = (ROWS, RemoteTraining(epochs=1, batch_size=3))
    package.context = longest - 1
    with pytest.raises(RowsError, match=rf"has {longest} tokens; .*; the model takes {longest - 1}\n"):
        train_remotely(TinkerTrainer(model="a/b"), *job, tmp_path / "long.json")
    with pytest.raises(RowsError, match=r"row '0' \(number 1\) skips the place 99"):
        rows = (replace(ROWS[0], skip=(99,)), *ROWS[1:])
        train_remotely(TinkerTrainer(model="a/b"), rows, job[1], tmp_path / "skip.json")
    assert package.batches == []
    package.context = longest
    assert train_remotely(TinkerTrainer(model="a/b"), *job, tmp_path / "fits.json").trained


def test_a_student_is_trained_on_answers_alone(package: Package, tmp_path: Path) -> None:
    told = []
    training = RemoteTraining(epochs=2, batch_size=3, learning_rate=0.5, rank=4, seed=9)
    record = train_remotely(
        TinkerTrainer(model="a/b"), ROWS, training, tmp_path / "job.json", advance=lambda *step: told.append(step)
    )
    assert record.trained == "tinker://run/undertow-9"
    assert package.made == {"model": "a/b", "rank": 4, "seed": 9, "train_unembed": False}
    assert package.rates == pytest.approx([0.5 * (1 - step / 6) for step in range(6)]) and told[-1] == (6, 6)
    for start in (0, 3):
        inputs = [one.model_input for batch in package.batches[start : start + 3] for one in batch]
        assert len(inputs) == len(set(inputs)) == len(ROWS), "every row in every pass"
    for one in (one for batch in package.batches for one in batch):
        targets, weights = one.loss_fn_inputs["target_tokens"], one.loss_fn_inputs["weights"]
        assert len(targets) == len(weights) == len(one.model_input)
        assert list(one.model_input[1:]) == targets[:-1]


def test_tokens_are_those_of_the_local_trainers(tiny_model) -> None:
    assert encode(tiny_model.tokenizer, ROWS) == tiny_model.encode(ROWS)


def test_skipped_places_and_prompts_have_no_weight(package: Package, tmp_path: Path, tiny_model) -> None:
    train_remotely(TinkerTrainer(model="a/b"), ROWS[:1], RemoteTraining(epochs=1), tmp_path / "job.json")
    ((one,),) = package.batches
    (row,) = tiny_model.encode(ROWS[:1])
    inputs = one.loss_fn_inputs
    learnt = [token for token, weight in zip(inputs["target_tokens"], inputs["weights"], strict=True) if weight]
    assert learnt == list(row.completion[1:])


@pytest.mark.parametrize("model", ["c/d", "e/f"])
def test_a_model_that_is_not_trained_there_is_refused(package: Package, tmp_path: Path, model: str) -> None:
    with pytest.raises(ModelError, match="a/b"):
        train_remotely(TinkerTrainer(model=model), ROWS, RemoteTraining(), tmp_path / "job.json")
    assert not (tmp_path / "job.json").exists()


def test_a_failure_is_told_without_the_key(package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINKER_API_KEY", "tml-secret-123456")
    package.fails = True
    with pytest.raises(ModelError, match="Tinker failed") as caught:
        train_remotely(TinkerTrainer(model="a/b"), ROWS, RemoteTraining(), tmp_path / "job.json")
    assert "tml-secret" not in str(caught.value)
    package.fails = False
    assert train_remotely(TinkerTrainer(model="a/b"), ROWS, RemoteTraining(), tmp_path / "job.json").trained


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tinker", None)
    with pytest.raises(MissingExtraError, match=r"undertow\[tinker\]"):
        TinkerTrainer(model="a/b").check()
