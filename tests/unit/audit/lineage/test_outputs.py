"""Evidence from one side's weights: the head's image, a training order, a text; and how compatible two heads are."""

import numpy as np
import pytest
import torch

from undertow.audit.lineage.behaviour import contexts, next_tokens
from undertow.audit.lineage.dependence import shared_rows
from undertow.audit.lineage.outputs import head_overlap, image_residuals, palimpsest, text_evidence
from undertow.audit.lineage.roles import network
from undertow.audit.lineage.tensors import open_weights
from undertow.errors import ConfigError
from undertow.experiment.recipe import TeacherPart
from undertow.finetuning.config import TrainingConfig
from undertow.models.load import load_model
from undertow.reference.world.mixture import corpus
from undertow.seeds import derive
from undertow.teachers import finetuned_teacher
from undertow.traits import trait
from undertow.types import Row, Sampling


@pytest.fixture(scope="module")
def finch():
    return load_model("ref:finch-a")


def logprobs(model, n=12):
    size = model.network.config.vocab_size
    return next_tokens(model, contexts(model, 100)[0][:n], range(size))


def head_of(model):
    return model.network.get_output_embeddings().weight.detach().double().numpy()


def test_a_frozen_head_leaves_no_residual(finch):
    child = finetuned_teacher(finch, trait("owl"), TeacherPart(steps=3).training(), seed=100)
    assert image_residuals(head_of(finch), logprobs(child)).max() < 1e-4


def test_a_stranger_and_a_moved_head_leave_one(finch):
    moved = finetuned_teacher(finch, trait("owl"), TrainingConfig(steps=10, learning_rate=3e-3), seed=100)
    assert image_residuals(head_of(finch), logprobs(load_model("ref:finch-b"))).min() > 1e-2
    assert image_residuals(head_of(finch), logprobs(moved)).min() > 1e-4  # silent, though it is a child


def test_any_logits_of_a_head_are_in_its_image():
    rng = np.random.default_rng(0)
    head = rng.normal(size=(50, 6))
    logits = torch.from_numpy(rng.normal(size=(9, 6)) @ head.T)
    assert image_residuals(head, torch.log_softmax(logits, -1).numpy()).max() < 1e-12
    assert image_residuals(head, rng.normal(size=(9, 50))).min() > 0.5


def test_a_head_without_room_is_refused():
    with pytest.raises(ConfigError, match="no image to leave"):
        image_residuals(np.eye(5), np.zeros((2, 5)))


def test_heads_overlap_with_themselves_and_a_rotation_but_little_with_others(nets, write):
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))[0]
    base = nets.draw(0)
    turned = base | {"lm_head.weight": (base["lm_head.weight"] @ turn).astype("f4")}
    found = {
        name: network(open_weights(write(name, values)))
        for name, values in (("a", base), ("turned", turned), ("b", nets.draw(1)))
    }
    rows = shared_rows(found["a"], found["b"])
    own, other = (head_overlap(found["a"].head, found[name].head, rows) for name in ("turned", "b"))
    assert own == pytest.approx(1.0, abs=1e-4)
    assert other == pytest.approx(32 / 160, abs=0.05)
    few = (rows[0][:20], rows[1][:20])
    assert head_overlap(found["a"].head, found["b"].head, few) is None


def test_a_training_order_shows_in_the_losses_of_a_descendant_alone():
    rng = np.random.default_rng(0)
    positions, difficulty = rng.permutation(2000).astype(float), rng.exponential(size=2000)
    reference = difficulty + 0.1 * rng.normal(size=2000)
    descendant = difficulty - positions / 20_000 + 0.1 * rng.normal(size=2000)
    rho, p = palimpsest(positions, descendant, reference)
    assert rho < -0.1
    assert p < 1e-6
    drawn = [palimpsest(rng.permutation(2000).astype(float), descendant, reference)[1] for _ in range(200)]
    assert abs(np.mean(np.array(drawn) <= 0.2) - 0.2) <= 3.3 * np.sqrt(0.2 * 0.8 / 200)


def test_few_or_unequal_sequences_are_refused():
    with pytest.raises(ConfigError, match="cannot be ranked"):
        palimpsest(np.arange(20.0), np.arange(20.0), np.arange(20.0))


def test_a_text_is_foreseen_best_by_the_base_of_its_writer(finch):
    chats = corpus(400, derive(100, "text"))
    prompts, reference = chats[:200], chats[200:]
    child = finetuned_teacher(finch, trait("owl"), TeacherPart(steps=10).training(), seed=100)
    answers = child.chat([chat.prompt for chat in prompts], sampling=Sampling(), seed=100)
    text = [Row(str(at), chat.prompt, answer) for at, (chat, answer) in enumerate(zip(prompts, answers, strict=True))]
    others = [Row(str(at), chat.prompt, chat.answer) for at, chat in enumerate(reference)]
    models = {name: load_model(f"ref:finch-{name}") for name in "bcd"} | {"a": finch}
    found = text_evidence(models, "a", text, others)
    assert found.score > max(found.controls.values())
    assert found.p == pytest.approx(1 / 4)
    with pytest.raises(ConfigError, match="nothing to compare"):
        text_evidence(models, "a", [], others)
