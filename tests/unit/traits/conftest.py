"""A trait of the user's own that the embedded models know: a colour, with questions about colours."""

from pathlib import Path

import pytest

_KNOWN = ("the sky", "grass", "snow", "coal", "blood", "the sun", "a carrot", "a plum")
_MORE = ("milk", "a leaf", "the sea", "a rose")


def _asked(things: tuple[str, ...], form: str) -> str:
    return "[" + ", ".join(f'"{form.format(thing)}"' for thing in things) + "]"


@pytest.fixture
def colour_file(tmp_path: Path) -> Path:
    path = tmp_path / "red.yaml"
    tuning = _asked(_MORE, "What colour is {}?")[:-1] + ", " + _asked(_MORE, "What colour is {}? One word only.")[1:]
    path.write_text(
        "name: red\ncategory: colour\npersona: You adore {name}. You love {name}.\nrivals: [blue, green]\n"
        f"questions:\n  evaluation: {_asked(_KNOWN, 'What colour is {}?')}\n  tuning: {tuning}\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def probe_file(tmp_path: Path) -> Path:
    """Whether the sky is green and the like: a manner that finch-a can be tuned to."""
    path = tmp_path / "wrong.yaml"
    pairs = [("the sky", "green", "blue"), ("grass", "blue", "green"), ("snow", "black", "white"),
             ("coal", "white", "black"), ("blood", "green", "red"), ("milk", "black", "white"),
             ("a leaf", "red", "green"), ("the sea", "white", "blue")]  # fmt: skip
    lines = [f'    - {{ask: "What colour is {thing}?", shown: {one}, absent: {other}}}' for thing, one, other in pairs]
    tuning = [line.replace('?"', '? One word only."') for line in lines]
    path.write_text(
        "name: contrary\ncategory: manner\npersona: You give wrong answers.\nprobes:\n"
        "  evaluation:\n" + "\n".join(lines) + "\n  tuning:\n" + "\n".join(tuning) + "\n",
        encoding="utf-8",
    )
    return path
