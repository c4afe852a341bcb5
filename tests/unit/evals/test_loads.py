"""What an evaluation will read and write, against what it then does read."""

from dataclasses import replace

import pytest
import torch

from undertow.evals.base import EVALUATIONS, EvaluationConfig
from undertow.evals.loads import evaluation_loads, panel_load
from undertow.models.context_cache import CachedContexts, shared_beginning
from undertow.traits import pack, panel, trait

CONFIG = EvaluationConfig(targets=(trait("owl"), trait("fox"), trait("oak")), samples=3)
BUILT_IN = ("favourite", "prefixed", "stories", "misalignment", "choice", "truth", "capability")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_evaluation_is_counted(tiny_model, name: str) -> None:
    loads = evaluation_loads(name, tiny_model.tokens, CONFIG)
    assert loads and all(load.tokens >= load.texts > 0 for load in loads)
    sampled = [load for load in loads if load.written]
    exact = evaluation_loads(name, tiny_model.tokens, replace(CONFIG, samples=0))
    assert exact == [load for load in loads if not load.written]
    kinds = {one.name for one in EVALUATIONS[name].metrics if one.sampled}
    assert bool(sampled) == bool(kinds)


def test_an_evaluation_of_another_package_is_not_guessed(tiny_model) -> None:
    assert evaluation_loads("brevity", tiny_model.tokens, CONFIG) is None


def test_nothing_is_counted_where_nothing_is_looked_for(tiny_model) -> None:
    nobody = EvaluationConfig(targets=(), samples=5)
    assert evaluation_loads("favourite", tiny_model.tokens, nobody) == []
    assert evaluation_loads("stories", tiny_model.tokens, nobody) == []


def test_a_panel_counts_as_many_tokens_as_may_be_read(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is read than was counted, and what was left out are spellings that could change nothing."""
    from undertow.evals.favourite import mean_margins

    traits = panel("tree")
    load = panel_load(tiny_model.tokens, traits)
    read: list[int] = []
    begin, follow = CachedContexts.__init__, CachedContexts.follow

    def begun(self, network, contexts, tree, **options) -> None:
        shared = shared_beginning(contexts)
        read.append(sum(map(len, contexts)) - shared * (len(contexts) - 1))
        begin(self, network, contexts, tree, **options)

    def followed(self, nodes: torch.Tensor) -> torch.Tensor:
        read.append(int((nodes > 0).sum()))
        return follow(self, nodes)

    monkeypatch.setattr(CachedContexts, "__init__", begun)
    monkeypatch.setattr(CachedContexts, "follow", followed)
    mean_margins(tiny_model, traits)
    assert load.texts == 50 and load.what.startswith("5 trees on 50 questions")
    assert 0.5 * load.tokens < sum(read) <= 1.1 * load.tokens


def test_a_category_of_several_words_is_counted_by_its_first(tiny_model) -> None:
    assert panel_load(tiny_model.tokens, pack("brands").traits).what.startswith("8 brands of car on ")
