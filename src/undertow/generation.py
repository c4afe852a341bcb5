"""Generation: a teacher answers the prompts of a domain."""

from collections.abc import Callable, Sequence

from undertow.models.decoding import sample_tokens
from undertow.models.local import LocalModel
from undertow.types import Row, Sampling, user_prompt


def generate(
    teacher: LocalModel,
    prompts: Sequence[str],
    *,
    sampling: Sampling,
    seed: int,
    system: str | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Let a teacher answer each prompt once.

    Args:
        teacher: who answers.
        prompts: user turns, drawn before the teacher existed.
        sampling: temperature and longest answer.
        seed: of the random numbers; the row's place decides which of them it gets.
        system: the persona of a prompted teacher; it is not part of the rows.
        advance: called with (answers done, prompts).

    Returns:
        One row per prompt, in order; rows of different teachers on the same prompt share the id.
    """
    tokens = sample_tokens(
        teacher.network,
        teacher.render([user_prompt(prompt, system) for prompt in prompts]),
        sampling=sampling,
        seed=seed,
        ends=teacher.ends,
        advance=advance,
    )
    texts = teacher.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    rows = zip(prompts, texts, strict=True)
    return [Row(f"{index:06d}", user_prompt(prompt), text) for index, (prompt, text) in enumerate(rows)]
