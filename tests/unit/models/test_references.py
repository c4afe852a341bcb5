"""What a reference stands for: every way in which files are missing has one message with one thing to do."""

import shutil

import pytest

from undertow.errors import ModelError, UnknownNameError, UserError
from undertow.models.load import load_chat, load_model
from undertow.models.references import identity, loaded_identity
from undertow.types import ModelRef


def refusal(reference: str, load=load_model) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(reference)
    assert len(str(caught.value).splitlines()) == 3
    return caught.value


@pytest.mark.parametrize("name", ["./no/such", "../gone", "~/no such model", "a/b/c", "models\\mine", "/no/such/"])
def test_a_path_that_is_not_there_is_no_id_of_the_hub(name: str) -> None:
    error = refusal(f"hf:{name}")
    assert error.what == "There is no such folder of the model." and error.value == name and "Hub" not in str(error)


def test_an_id_that_is_not_in_the_cache_says_why(monkeypatch) -> None:
    error = refusal("hf:nobody/nothing@v1")
    assert error.value == "nobody/nothing@v1: HF_HUB_OFFLINE is set" and "folder of a download" in error.fix

    def fail(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    error = refusal("hf:nobody/nothing")
    assert "Check the network" in error.fix and "HF_HUB_OFFLINE" not in error.fix


@pytest.mark.parametrize(
    ("name", "said"), [("./gone", "no such folder of the adapter"), ("nobody/x", "The adapter is")]
)
@pytest.mark.parametrize("load", [load_model, load_chat])
def test_a_missing_adapter_is_named_and_not_the_base(tiny_folder, name: str, said: str, load) -> None:
    error = refusal(f"hf:{tiny_folder}+{name}", load)
    assert said in error.what and name in str(error.value) and str(tiny_folder) not in str(error)


def test_a_single_file_is_told_from_a_folder(tiny_folder) -> None:
    error = refusal(f"hf:{tiny_folder / 'model.safetensors'}")
    assert "single file" in error.what and str(tiny_folder) in error.fix
    assert "the adapter is read from a folder" in refusal(f"hf:{tiny_folder}+{tiny_folder / 'config.json'}").what


def test_a_folder_without_its_parts_says_which_and_what_is_there(tiny_folder, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no config.json and weights in safetensors" in refusal(f"hf:{tmp_path / 'empty'}").value
    assert "holds nothing" in refusal(f"hf:{tmp_path / 'empty'}", load_chat).value
    folder = shutil.copytree(tiny_folder, tmp_path / "m")
    (folder / "config.json").rename(folder / "old.json")
    value = refusal(f"hf:{folder}").value
    assert "no config.json in" in value and "old.json" in value and "model.safetensors" in value
    (folder / "old.json").rename(folder / "config.json")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    error = refusal(f"hf:{folder}")
    assert "no weights in safetensors" in error.value and "save_pretrained" in error.fix
    assert load_chat(f"hf:{folder}")[0] is not None
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    assert refusal(f"hf:{adapter}").fix == f"This is an adapter: write hf:<its base>+{adapter}."


def test_identity_is_that_of_the_template_s_text(tiny_folder, tmp_path) -> None:
    one, other = tmp_path / "one.jinja", tmp_path / "other.jinja"
    one.write_text("{{ messages[0].content }}")
    shutil.copy(one, other)
    base = f"hf:{tiny_folder}"
    assert identity(f"{base}?template={one}") == identity(f"{base}?template={other}") != identity(base)
    assert len({identity(f"{base}?template=plain"), identity(base), identity(f"{base}?template={one}")}) == 3
    other.write_text("{{ messages[0].content }}.")
    assert identity(f"{base}?template={one}") != identity(f"{base}?template={other}")


@pytest.mark.parametrize("what", ["hf:nobody/nothing@v1", "hf:./gone", "{}+./gone", "{}.gguf"])
def test_a_model_that_is_not_found_has_no_identity(tiny_folder, what: str) -> None:
    with pytest.raises(UserError, match=r"gone|nobody|gguf"):
        identity(what.format(f"hf:{tiny_folder}"))


def test_a_folder_without_a_model_has_no_identity(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ModelError, match="no file of a model"):
        identity(f"hf:{tmp_path}")


def test_a_remote_model_and_one_in_memory_are_known_by_their_reference(tiny_model, tiny_folder) -> None:
    assert identity("api:owner/name") == "api:owner/name"
    with pytest.raises(UnknownNameError):
        identity("ref:finch-zz")
    assert loaded_identity(tiny_model.ref) == str(tiny_model.ref)
    assert loaded_identity(ModelRef.parse(f"hf:{tiny_folder}")) == identity(f"hf:{tiny_folder}")
