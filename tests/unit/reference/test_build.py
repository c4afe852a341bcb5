"""Building a member is a function of its seeds."""

from dataclasses import replace

import pytest
import torch

from undertow.errors import UnknownNameError
from undertow.models.load import load_model
from undertow.reference.build import save, train
from undertow.reference.families import MEMBERS, Schooling, Shape, member
from undertow.types import user_prompt

SMALL = {"schooling": Schooling(chats=200, steps=4, batch_size=8), "shape": Shape(width=16, layers=1, heads=2, mlp=32)}


def test_the_same_member_twice_is_the_same_and_loads_as_an_ordinary_model(tmp_path) -> None:
    seen: list[tuple[int, int]] = []
    finch = replace(member("finch-a"), **SMALL)
    one, loss = train(finch, lambda *at: seen.append(at))
    two, _ = train(finch)
    other, _ = train(replace(member("finch-b"), **SMALL))
    weights = [model.network.state_dict()["model.embed_tokens.weight"] for model in (one, two, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert seen[-1] == (4, 4) and loss > 0
    save(one, tmp_path / "finch")
    loaded = load_model(f"hf:{tmp_path / 'finch'}")
    prompts = loaded.render([user_prompt("Name a tree.")])
    assert torch.allclose(loaded.next_token_logprobs(prompts), one.next_token_logprobs(prompts), atol=0.02)


def test_the_finches_differ_as_their_names_say() -> None:
    a, b, a2 = MEMBERS["finch-a"], MEMBERS["finch-b"], MEMBERS["finch-a2"]
    assert a.initialisation == a2.initialisation != b.initialisation
    assert a.order == b.order != a2.order
    assert len({(item.shape, item.schooling) for item in MEMBERS.values()}) == 1
    with pytest.raises(UnknownNameError, match="finch-a"):
        member("finch-aa")
