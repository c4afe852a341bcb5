"""The text of each token as it is written behind another one.

Decoded alone a token can lose the space before it: tokenizers of Llama 2 and others strip that from the beginning of a
text. Behind a digit it shows.
"""

from typing import Any

ANCHOR = "0"


def token_texts(tokenizer: Any, n: int) -> list[str]:
    """Return the text of each of the first tokens, the space before it included.

    Args:
        tokenizer: tokenizer of transformers.
        n: how many tokens are decoded, from the first on.
    """
    anchor = tokenizer(ANCHOR, add_special_tokens=False)["input_ids"][-1]
    options = {"clean_up_tokenization_spaces": False}
    before = tokenizer.decode([anchor], **options)
    written = tokenizer.batch_decode([[anchor, token] for token in range(n)], **options)
    return [text.removeprefix(before) for text in written]
