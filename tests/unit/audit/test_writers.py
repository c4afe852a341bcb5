"""Neutral writers in the store: resumed, extended, and read back as they were tuned."""

import pytest
import torch

from undertow.audit.rows import writers as module
from undertow.audit.rows.writers import build_writers, changed, stored_writers, writer_stages
from undertow.audit.students.bank_recipe import BankRecipe
from undertow.errors import ArtifactError
from undertow.training import own_models
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.teachers import finetuned_teacher

RECIPE = BankRecipe(tuned=("animal",))


def test_more_writers_begin_with_the_fewer_and_share_no_seed() -> None:
    few, many = writer_stages(RECIPE, 16), writer_stages(RECIPE, 59)
    assert (len(few), len(many)) == (2, 4) and many[:2] == few
    seeds = [seed for stage in many for seed in stage.config["seeds"]]
    assert len(set(seeds)) == 60


def test_another_base_category_or_seed_gives_other_writers_and_the_students_do_not_matter() -> None:
    one = writer_stages(RECIPE, 1)[0]
    for other in (
        BankRecipe(base="ref:finch-b", tuned=("animal",)),
        BankRecipe(tuned=("tree",)),
        BankRecipe(tuned=("animal",), seed=1),
    ):
        assert writer_stages(other, 1)[0] != one
    assert writer_stages(BankRecipe(tuned=("animal",), prompts=7), 1)[0] == one


def test_a_stored_writer_is_the_tuned_teacher(tiny_model, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers instead of fifteen, of the tiny model: what comes back from the disk has the tuned weights."""
    monkeypatch.setattr(module, "GROUP", 2)
    monkeypatch.setattr("undertow.audit.students.bank.GROUP", 2)
    monkeypatch.setattr(module, "parent_model", lambda *_: tiny_model)
    brief = TrainingConfig(steps=2, learning_rate=1e-2, train_embeddings=False)
    monkeypatch.setattr(module.TeacherPart, "training", lambda _: brief)
    assert stored_writers(RECIPE, tmp_path) is None
    built = build_writers(RECIPE, 3, tmp_path)
    found = stored_writers(RECIPE, tmp_path)
    assert found == built and len(found) == 4
    seed = writer_stages(RECIPE, 3)[1].config["seeds"][0]
    teacher = finetuned_teacher(tiny_model, None, brief, seed=seed)
    read = found.load(2, tiny_model)
    assert changed(read, teacher) == {}
    assert changed(tiny_model, read)
    assert all("embed" not in name for name in changed(tiny_model, read))
    before = tiny_model.network.get_input_embeddings().weight
    assert torch.equal(before, read.network.get_input_embeddings().weight)


def test_a_writer_of_a_large_base_is_kept_as_its_adapter(tiny_model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "GROUP", 2)
    monkeypatch.setattr("undertow.audit.students.bank.GROUP", 2)
    monkeypatch.setattr(module, "parent_model", lambda *_: tiny_model)
    monkeypatch.setattr(own_models, "LARGE", 0)
    brief = TrainingConfig(steps=2, learning_rate=1e-2, lora=LoraConfig(rank=2, targets=None))
    monkeypatch.setattr(module.TeacherPart, "training", lambda _: brief)
    found = build_writers(RECIPE, 2, tmp_path)
    assert len(found) == 2 and all((path / "adapter_config.json").exists() for path in found.files)
    teacher = finetuned_teacher(tiny_model, None, brief, seed=writer_stages(RECIPE, 2)[0].config["seeds"][1])
    read = found.load(1, tiny_model)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.allclose(read.network(ids).logits, teacher.network(ids).logits, atol=1e-5)
    assert not torch.allclose(read.network(ids).logits, tiny_model.network(ids).logits, atol=1e-3)


def test_a_group_that_is_not_whole_is_refused(tmp_path) -> None:
    with pytest.raises(ArtifactError, match="not whole"):
        module._found(RECIPE, [tmp_path])
