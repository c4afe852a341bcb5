"""What checking a model takes, said before its weights are loaded."""

from undertow.domains.numbers import Numbers
from undertow.evals.forecast import Forecast
from undertow.evals.loads import Load
from undertow.training.model_contract import LEARNT, contract_rows
from undertow.training.model_needs import ANSWER, SEED, UPDATES, rows_of_a_measure
from undertow.types import Row, Work, known_sum, user_prompt

READINGS = 50
"""What all other checks together take, in readings of the contract's three rows (SmolLM2: 14.1 s, 0.28 s a reading)."""

COPIES = 3
"""Times that the weights are copied, written or read, besides the loading: an adapter is merged, the model saved."""


def checking_work(reference: str) -> list[Work]:
    """Return what a check of a model takes: of its contract, and of its speed.

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
