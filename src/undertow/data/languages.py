"""Which language a text may be in, by its script and by its small words: a guess that orients a reader, no more."""

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
"""Words that are frequent in a language written in Latin letters; a language of another script goes by its script."""

NO_WORDS = "no words"

LEAST = 0.1
"""Share of a text's words that have to be small words of a language."""

_WORDS = re.compile(r"[^\W\d_]+")
_SAMPLED = 400
"""Characters of a text that are looked at."""


def language(text: str) -> str:
    """Return the language that a text may be in: of `SMALL_WORDS`, or a script such as "Cyrillic" or "Latin"."""
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
    """Count the languages of texts, the most frequent first."""
    return dict(Counter(map(language, texts)).most_common())


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """Return the first word of a letter's name in Unicode, which is that of its script but for "CJK"."""
    first = unicodedata.name(letter, "unknown").partition(" ")[0]
    return "CJK" if first == "CJK" else first.capitalize()
