"""Estimates of how long checking a model takes, made before its weights are loaded."""

from undertow.domains.numbers import Numbers
from undertow.evals.forecast import Forecast
from undertow.evals.loads import Load
from undertow.training.model_contract import LEARNT, contract_rows
from undertow.training.model_needs import ANSWER, SEED, UPDATES, rows_of_a_measure
from undertow.types import Row, Work, known_sum, user_prompt

READINGS = 50
"""Cost of all checks but training, as a multiple of one forward pass over the contract's three rows. Measured with
SmolLM2-135M on one core: 14.1 s in all, at 0.28 s for each such pass."""

COPIES = 3
"""How often the weights are copied, written or read besides the first loading: an adapter is merged, the model
saved."""


def checking_work(reference: str) -> list[Work]:
    """Estimate what checking a model takes: the checks of its contract, and the measurement of its speed.

    Args:
        reference: the model as the user names it, such as `ref:...` or `hf:...`.

    Raises:
        UserError: there is no such model.
    """
    base = Forecast(reference)
    return [_contract(base, reference), _speed(base)]


def _contract(base: Forecast, reference: str) -> Work:
    rows = contract_rows()
    row, (updates, size) = base.row_tokens(rows), LEARNT
    trained = updates * size
    read = Load(what="", tokens=round(READINGS * len(rows) * row), texts=0)
    known = [base.training(trained, trained * row), base.seconds(read)]
    what = f"{reference}: what every engine relies on, and an adapter trained in {updates} updates"
    return Work(what, known_sum([*known, (1 + COPIES) * base.loading]))


def _speed(base: Forecast) -> Work:
    n = rows_of_a_measure(base.parameters or 0)
    rows = [Row(str(at), user_prompt(text), ANSWER) for at, text in enumerate(Numbers().prompts(n, SEED))]
    tokens = n * base.row_tokens(rows)
    written, read = (Load(what="", tokens=round(tokens), texts=n, written=kind) for kind in (True, False))
    known = [base.training(UPDATES * n, UPDATES * tokens), base.seconds(written), base.seconds(read)]
    return Work(f"{n} rows learnt {UPDATES} times, written and read, for its speed", known_sum(known))
