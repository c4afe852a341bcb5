"""A guess which language a text is in, by its script and by its frequent small words; only to orient a reader."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

_LISTS = {
    "English": "the and of to is in that it you for with are this on be as was not have or",
    "German": "der die das und ist nicht ein eine zu den mit sie ich auf für von es sich auch dem",
    "French": "le la les et des est une un que dans pour vous pas qui sur je du au ce avec",
    "Spanish": "el la los las y de que en es un una por con para no se del su lo como",
    "Italian": "il lo la gli e di che è un una per con non si del della sono in ma come",
    "Portuguese": "o a os as e de que em é um uma para com não se do da no na por",
    "Dutch": "de het een en van is dat niet in op te zijn voor met die je ik aan er maar",
}
SMALL_WORDS: Mapping[str, frozenset[str]] = {name: frozenset(words.split()) for name, words in _LISTS.items()}
"""Frequent small words of languages in Latin letters; a language of another script is named by its script."""

NO_WORDS = "no words"

LEAST = 0.1
"""Least share of a text's words that must be small words of a language for the language to be named."""

_WORDS = re.compile(r"[^\W\d_]+")
_SAMPLED = 400
"""Number of first characters of a text that are looked at."""


def language(text: str) -> str:
    """Return the language that a text may be in: one of `SMALL_WORDS`, or a script such as "Cyrillic" or "Latin"."""
    words = _WORDS.findall(text[:_SAMPLED].lower())
    if not words:
        return NO_WORDS
    scripts = Counter(_script(letter) for word in words for letter in word)
    script = scripts.most_common(1)[0][0]
    if script != "Latin":
        return script
    share, best = max((sum(word in small for word in words) / len(words), name) for name, small in SMALL_WORDS.items())
    return best if share >= LEAST else "Latin"


def languages(texts: Iterable[str]) -> dict[str, int]:
    """Count texts by language, the most frequent first."""
    return dict(Counter(map(language, texts)).most_common())


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """Return the script of a letter: the first word of its Unicode name, such as "Latin" or "CJK"."""
    first = unicodedata.name(letter, "unknown").partition(" ")[0]
    return "CJK" if first == "CJK" else first.capitalize()
