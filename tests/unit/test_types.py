"""Records refuse what makes no sense, and references survive a round trip."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.errors import ConfigError, UnknownNameError, UserError, unknown_name
from undertow.types import ModelRef, Sampling, user_prompt


@pytest.mark.parametrize(
    "text",
    [
        "ref:finch-a",
        "hf:org/name@main+adapters/x",
        "api:openai/some-model",
        "hf:./folder",
        "hf:org/name@main+adapters/x?system=none&dtype=bf16&device=cuda:1",
        "hf:a?device=cpu&template=plain",
        "api:vllm/org/m@v9+/some/adapter",
        "hf:a?system=You are a cat, %26 100%25 so%3F",
    ],
)
def test_a_model_reference_survives_a_round_trip(text: str) -> None:
    assert str(ModelRef.parse(text)) == text


NAMES = st.text(min_size=1, max_size=12) | st.text('@+?"/ab. ', min_size=1, max_size=12)
LEGAL = st.text(min_size=1, max_size=8)


@given(NAMES, st.none() | NAMES, st.none() | NAMES, st.none() | LEGAL, st.none() | LEGAL)
def test_any_local_reference_is_read_back_as_it_was_written(name, revision, adapter, system, template) -> None:
    ref = ModelRef(kind="hf", name=name, revision=revision, adapter=adapter, system=system, template=template)
    assert ModelRef.parse(str(ref)) == ref


@given(NAMES)
def test_any_remote_address_is_a_name(path: str) -> None:
    ref = ModelRef(kind="api", name=f"https://host/v1/{path}")
    assert ModelRef.parse(str(ref)) == ref and str(ref) == f"api:https://host/v1/{path}"


def test_what_is_there_is_meant_first(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run@2" / "adapter+x").mkdir(parents=True)
    ref = ModelRef.parse("hf:./run@2/adapter+x")
    assert (ref.name, ref.revision, ref.adapter) == ("./run@2/adapter+x", None, None)
    assert str(ref) == 'hf:"./run@2/adapter+x"' and ModelRef.parse(str(ref)) == ref
    ref = ModelRef.parse("hf:./run@2@main+run@2/adapter+x?dtype=bf16")
    assert (ref.name, ref.revision, ref.adapter, ref.dtype) == ("./run@2", "main", "run@2/adapter+x", "bf16")
    ref = ModelRef.parse("hf:./gone@2/adapter+x")
    assert (ref.name, ref.revision, ref.adapter) == ("./gone", "2/adapter", "x")
    (tmp_path / "odd?dtype=bf16").mkdir()
    assert ModelRef.parse("hf:base+odd?dtype=bf16").adapter == "odd?dtype=bf16"
    assert ModelRef.parse("hf:base+odd?dtype=bf16?system=none").system == "none"


def test_a_quoted_name_means_itself() -> None:
    ref = ModelRef.parse('hf:"name@with+signs"@rev+"adapter?x"?dtype=bf16')
    assert (ref.name, ref.revision, ref.adapter, ref.dtype) == ("name@with+signs", "rev", "adapter?x", "bf16")
    assert ModelRef.parse('api:"http://host/v1/@cf/meta/x"').name == "http://host/v1/@cf/meta/x"
    for wrong in ('hf:"open', 'hf:"a"b', 'hf:a+"b', "hf:@main", "hf:+x", "hf:", "ref:a?template=plain"):
        with pytest.raises(ConfigError):
            ModelRef.parse(wrong)


@pytest.mark.parametrize(
    "name", ["http://h/v1/@cf/meta/x", "http://h/v1/org/my+lora", "https://h/openai/x?api-version=2024", "openai/a@b+c"]
)
def test_all_of_a_remote_reference_is_name(name: str) -> None:
    ref = ModelRef.parse(f"api:{name}")
    assert (ref.name, ref.revision, ref.adapter) == (name, None, None)


def test_keys_do_not_get_into_messages() -> None:
    ref = ModelRef.parse("api:https://host/v1/m?api-version=2024&who=hidden&hidden")
    assert ref.shown == "api:https://host/v1/m?api-version=...&who=...&..."
    assert ModelRef.parse("hf:a+b").shown == "hf:a+b"
    for text in (
        "api:http://user:hidden@host/v1/m",
        "api:http://h/v1/m?a=1&Key=hidden",
        "api:openai/m?key=hidden",
        "api:vllm/m?key=hidden",
    ):
        with pytest.raises(ConfigError) as caught:
            ModelRef.parse(text)
        assert "hidden" not in str(caught.value)


def test_what_is_no_reference_is_refused() -> None:
    with pytest.raises(ConfigError, match="finch"):
        ModelRef.parse("finch")


def test_options_are_read_and_refused() -> None:
    ref = ModelRef.parse("hf:org/name?system=Be kind + brief%3F&dtype=bf16")
    assert (ref.system, ref.dtype, ref.adapter) == ("Be kind + brief?", "bf16", None)
    assert str(ModelRef.parse("hf:a+b?dtype=bf16").without_adapter) == "hf:a?dtype=bf16"
    for long, short in (("float32", "fp32"), ("bfloat16", "bf16"), ("float16", "fp16")):
        assert ModelRef.parse(f"hf:a?dtype={long}") == ModelRef.parse(f"hf:a?dtype={short}")
        assert str(ModelRef.parse(f"hf:a?dtype={long}")) == f"hf:a?dtype={short}"
    with pytest.raises(UnknownNameError, match="dtype"):
        ModelRef.parse("hf:a?dtyp=bf16")
    for wrong in ("hf:a?dtype=int4", "hf:a?system=", "api:a?dtype=bf16", "hf:a?"):
        with pytest.raises(ConfigError):
            ModelRef.parse(wrong)


def test_sampling_is_checked() -> None:
    with pytest.raises(ConfigError):
        Sampling(temperature=-1)
    with pytest.raises(ConfigError):
        Sampling(max_new_tokens=0)


def test_a_persona_comes_first() -> None:
    assert [turn.role for turn in user_prompt("hello", "be kind")] == ["system", "user"]


def test_errors_have_three_lines_and_survive_pickling() -> None:
    error = unknown_name("trait", "owll", ["owl", "wolf"])
    assert str(error).splitlines() == ["There is no trait of this name.", "owll", "Did you mean owl, wolf?"]
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, UserError) and str(copy) == str(error)
    assert "Valid names: owl, wolf." in str(unknown_name("trait", "xyz", ["owl", "wolf"]))
