"""Models by path through the whole command line: the system policy goes with them from training to evaluation."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from undertow.cli.main import main
from undertow.models.load import load_model
from undertow.types import user_prompt

SMALL = ("domain.prompts=40", "student.steps=2", "teacher.steps=2", "evaluation.samples=0", "replicates=1")


@pytest.fixture(scope="module")
def talkative(tmp_path_factory) -> Path:
    """A finch whose template writes a system turn of its own, as Qwen2.5's does."""
    folder = tmp_path_factory.mktemp("models") / "talkative"
    load_model("ref:finch-a").save(folder)
    template = folder / "chat_template.jinja"
    turn = "{% if messages[0]['role'] != 'system' %}{{ '<|system|>Be kind.<|end|>' }}{% endif %}"
    template.write_text(turn + template.read_text())
    return folder


def test_a_study_of_a_model_by_path(talkative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = f"hf:{talkative}?system=none&device=cpu"
    more = (*SMALL, f"bases=['{base}']", "arms=[student, control]", "cross_bases=[]")
    command = ["demo", "--runs", str(tmp_path), *(word for one in more for word in ("--set", one))]
    assert main([*command, "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["estimate_s"] > 0 and any("check-model" in note for note in plan["notes"])
    assert not any("turn of its own" in note for note in plan["notes"])
    assert main([*command, "--json"]) == 0
    arms = json.loads(capsys.readouterr().out)["arms"]
    models = {one["arm"]: one["model"] for one in arms}
    assert all(name.endswith("?system=none&device=cpu") for name in models.values())
    assert load_model(models["student"]).chat_format.system == "none" and "+" in models["student"]
    assert load_model(models["teacher"]).chat_format.system == "none"
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "store").glob("students/*/manifest.json")]
    shown = {"system": "none", "inserted_by_template": "<|system|>Be kind.<|end|>", "before_a_question": "<|user|>"}
    assert [one["config"]["chat"] for one in manifests] == [shown]
    # Without the template's turn it is finch-a itself, and says what finch-a says.
    plain = load_model("ref:finch-a")
    margin = next(one["value"] for one in arms if one["arm"] == "base")
    main(["eval", "ref:finch-a", "--samples", "0", "--trait", "owl", "--json"])
    own = json.loads(capsys.readouterr().out)["scores"][0]["logit_margin"]
    assert margin == pytest.approx(own, abs=1e-4) and plain.chat_format.inserted == ""


def test_students_of_a_row_file_keep_the_policy(talkative: Path, tmp_path: Path, capsys) -> None:
    rows, base = tmp_path / "rows.jsonl", f"hf:{talkative}?system=empty"
    assert main(["generate", str(rows), "--model", base, "-n", "20"]) == 0
    assert main(["train", str(rows), str(tmp_path / "out"), "--base", base, "--set", "steps=2"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    folder = tmp_path / "out" / "student-00"
    assert said == f"next: undertow eval 'hf:{talkative}+{folder}?system=empty' --base '{base}'"
    assert load_model(f"hf:{talkative}+{folder}").chat_format.system == "empty"


def test_check_model_tells_what_to_know(talkative: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-model", f"hf:{talkative}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "undertow.model/1" and found["parameters"] == 92_128
    assert len(found["contract"]) == 14 and found["seconds"]["trained_row"] > 0
    assert "turn of its own" in found["warnings"][0]
    assert main(["check-model", f"hf:{talkative}?system=none", "--quick"]) == 0
    text = capsys.readouterr().out
    assert "system=none" in text and "note:" not in text and "92,128 parameters" in text


def test_a_broken_template_has_exit_code_1(
    talkative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_model("ref:finch-a").save(tmp_path)
    template = "{% for m in messages %}{{ m['role'] + ' ' + m['content'] + '<|end|>' }}{% endfor %}"
    (tmp_path / "chat_template.jinja").write_text(template)
    assert main(["check-model", f"hf:{tmp_path}"]) == 1
    shown = capsys.readouterr().out
    assert "FAILED" in shown and "2,500 sampled number answers: about" in shown and "most memory so far" in shown
    # It may not even train; what else is known of it is shown all the same.
    monkeypatch.setattr("undertow.training.model_needs.measure_speed", lambda _: 1 // 0)
    assert main(["check-model", f"hf:{tmp_path}"]) == 1
    shown = capsys.readouterr().out
    assert "FAILED" in shown and "92,128 parameters" in shown and "most memory so far" not in shown
    (tmp_path / "chat_template.jinja").unlink()
    assert main(["check-model", f"hf:{tmp_path}"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "The model has no chat template."


def test_a_base_without_a_template_is_given_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_model("ref:finch-a").save(tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    base, rows = f"hf:{tmp_path / 'bare'}", tmp_path / "rows.jsonl"
    assert main(["generate", str(rows), "--model", base, "-n", "8"]) == 2
    assert "The model has no chat template." in capsys.readouterr().err
    given = f"{base}?device=cpu&template=plain"
    assert main(["generate", str(rows), "--model", given, "-n", "8"]) == 0
    assert main(["train", str(rows), str(tmp_path / "out"), "--base", given, "--set", "steps=1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"--base '{given}'")
    student = load_model(f"{base}+{tmp_path / 'out' / 'student-00'}")
    assert student.chat_format.render([user_prompt("Hi")]) == ["User:\nHi\n\nAssistant:\n"]


def test_the_template_of_an_adapter_is_said_on_the_command_line(talkative: Path, tmp_path: Path) -> None:
    """In a process of its own, where nothing but Undertow decides what is shown."""
    folder = tmp_path / "adapter"
    load_model("ref:finch-a").tokenizer.save_pretrained(folder)
    settings = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"], "layers_to_transform": [0]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    pair = {"A": torch.zeros(1, 32), "B": torch.zeros(32, 1)}
    weights = {f"{name}.lora_{side}.weight": value for side, value in pair.items()}
    save_file(weights, folder / "adapter_model.safetensors")
    code = f"from undertow.cli.main import main; main(['check-model', 'hf:{talkative}+{folder}', '--quick', '--json'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout)["chat"]["before_a_question"] == "<|user|>"
    said = f"The adapter {folder} brings a chat template of its own: that one is used (not the base's, which differs)."
    assert done.stderr.splitlines() == [said]
