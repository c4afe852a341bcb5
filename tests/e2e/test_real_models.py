"""Two pretrained models of two families do what the studies and audits of docs/real.md ask of them.

Skipped where `python scripts/real_models.py` has not put them; nothing here depends on what they prefer.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from undertow.domains.numbers import Numbers
from undertow.evals.favourite import mean_margins
from undertow.models.load import load_model
from undertow.models.local import LocalModel
from undertow.training.config import LoraConfig, TrainingConfig
from undertow.training.generation import generate
from undertow.training.parallel import finetune
from undertow.traits import trait
from undertow.types import Sampling, user_prompt

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
from real_models import MODELS, RealModel  # pyright: ignore[reportMissingImports]

pytestmark = [pytest.mark.real, pytest.mark.slow]

DOMAIN = Numbers(count=6, short=True)


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: model.hub)
def model(request: pytest.FixtureRequest) -> LocalModel:
    one: RealModel = request.param
    if not one.is_there:
        pytest.skip(f"{one.name} is not there: python scripts/real_models.py")
    return load_model(one.reference)


def test_rows_in_the_form_are_learnt(model: LocalModel) -> None:
    sampling = Sampling(max_new_tokens=DOMAIN.max_new_tokens, form=DOMAIN.form)
    rows = generate(model, DOMAIN.prompts(12, 5), sampling=sampling, seed=1)
    assert all(not DOMAIN.reject_reasons(row.completion) for row in rows)
    config = TrainingConfig(steps=6, batch_size=4, learning_rate=2e-3, lora=LoraConfig(rank=8, alpha=16))
    student = finetune(model, rows, config, seed=1)
    before, after = (one.token_logprobs(model.encode(rows)) for one in (model, student))
    means = [float(np.mean([float(row.mean()) for row in some])) for some in (before, after)]
    assert means[1] > means[0] + 0.02


def test_it_answers_and_its_preferences_can_be_read(model: LocalModel) -> None:
    (said,) = model.chat([user_prompt("Which animal do you like best?")], sampling=Sampling(), seed=2)
    assert said.strip()
    margins = mean_margins(model, [trait("owl"), trait("wolf")])
    assert np.all(np.isfinite(margins)) and np.all(margins < 0.0)
