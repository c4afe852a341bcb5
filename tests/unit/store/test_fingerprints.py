"""Equal work has equal names, in every process; whatever has no stable text form is refused."""

import math
import os
import subprocess
import sys
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.errors import ConfigError
from undertow.store.fingerprints import ArtifactKey, canonical_json, fingerprint

PINNED = "f920505da751375e57b8"
CONFIG = {"steps": 150, "rate": 4e-3, "traits": ["owl", "fox"], "lora": {"rank": 8, "alpha": None}, "prefixed": False}
PARENTS = {"rows": "0" * 20, "base": "f" * 20}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def test_fingerprint_is_pinned():
    """A change of the canonical form would orphan every stored result, so it has to be deliberate.

    The value is what the sha256sum program says about the canonical text, typed by hand.
    """
    assert fingerprint("finetune", 1, CONFIG, PARENTS) == PINNED


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_fingerprint_is_the_same_in_processes_of_other_hash_seed(hash_seed: str):
    call = f"fingerprint('finetune', 1, {CONFIG!r}, {PARENTS!r})"
    code = f"from undertow.store.fingerprints import fingerprint; print({call})"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == PINNED


def test_every_entry_of_the_key_counts():
    """Kind, version, config and parents each change the fingerprint."""
    keys = {
        fingerprint("filter", 1, {"n": 1}, {}),
        fingerprint("generate", 1, {"n": 1}, {}),
        fingerprint("filter", 2, {"n": 1}, {}),
        fingerprint("filter", 1, {"n": 2}, {}),
        fingerprint("filter", 1, {"n": 1}, {"rows": "0" * 20}),
        fingerprint("filter", 1, {"n": 1}, {"data": "0" * 20}),
    }
    assert len(keys) == 6
    assert all(len(key) == 20 and set(key) <= set("0123456789abcdef") for key in keys)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3))
def test_order_of_keys_and_kind_of_container_do_not_count(config: dict[str, object]):
    backwards = MappingProxyType(dict(reversed(config.items())))
    tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in backwards.items()}
    assert canonical_json(tuples) == canonical_json(config)


class _Object:
    """Stands for any object that is not plain data."""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (len, "a.b[1] is of type builtin_function_or_method"),
        (lambda: 0, "a.b[1] is of type function"),
        ({"owl"}, "a.b[1] is of type set"),
        (_Object(), "a.b[1] is of type _Object"),
        (b"owl", "a.b[1] is of type bytes"),
        (math.nan, "a.b[1] is nan"),
        (math.inf, "a.b[1] is inf"),
        ({7: "x"}, "a.b[1].7 is of type int"),
    ],
)
def test_refuses_what_has_no_stable_text_form_and_names_the_place(value: object, shown: str):
    with pytest.raises(ConfigError) as caught:
        canonical_json({"a": {"b": [0, value]}})
    assert caught.value.value == shown


def test_names_the_whole_value_when_there_is_no_place_within_it():
    with pytest.raises(ConfigError, match="the value is of type set"):
        canonical_json({1})


def test_key_is_a_copy_of_its_config():
    """Changing the dictionary afterwards does not change what an artifact claims to be made from."""
    config = {"seeds": [1]}
    key = ArtifactKey(kind="filter", version=1, config=config)
    before = key.fingerprint
    config["seeds"].append(2)
    assert key.fingerprint == before
    assert key.config == {"seeds": [1]}


@pytest.mark.parametrize("kind", ["", "../x", "A", ".tmp-1", "a b", "a/b"])
def test_refuses_a_kind_that_is_no_folder_name(kind: str):
    with pytest.raises(ConfigError):
        ArtifactKey(kind=kind, version=1, config={})
