"""Which server and which model an address names, which are refused, and that no key shows or goes elsewhere."""

import pytest

from undertow.cli.main import main
from undertow.errors import ConfigError, MissingExtraError
from undertow.models.api import ApiModel, check_reachable
from undertow.models.dialects import Dialect
from undertow.models.endpoints import Endpoint, endpoint, without_keys
from undertow.types import ModelRef

KEY = "sk-secret-0123456789"
GOOGLE, AZURE = "https://generativelanguage.googleapis.com", "https://r.openai.azure.com"

READ = {
    "http://127.0.0.1:8000/v1/org/model": ("http://127.0.0.1:8000/v1/chat/completions", "org/model"),
    "https://openrouter.ai/api/v1/openai/gpt-4o": ("https://openrouter.ai/api/v1/chat/completions", "openai/gpt-4o"),
    "https://h/v1/@cf/meta/x": ("https://h/v1/chat/completions", "@cf/meta/x"),
    "https://h/v1/my+lora@2": ("https://h/v1/chat/completions", "my+lora@2"),
    "https://h/v1/m?api-version=preview": ("https://h/v1/chat/completions?api-version=preview", "m"),
    f"{GOOGLE}/v1beta/openai/gemini-2.5-flash": (f"{GOOGLE}/v1beta/openai/chat/completions", "gemini-2.5-flash"),
    "https://open.bigmodel.cn/api/paas/v4/glm-4.6": (
        "https://open.bigmodel.cn/api/paas/v4/chat/completions", "glm-4.6"
    ),
    f"{AZURE}/openai/deployments/mine?api-version=2024-10-21": (
        f"{AZURE}/openai/deployments/mine/chat/completions?api-version=2024-10-21", "mine"
    ),
    "https://h/v1/m?api-version=2024-10-21-preview&deployment=eu-west": (
        "https://h/v1/chat/completions?api-version=2024-10-21-preview&deployment=eu-west", "m"
    ),
    f"{AZURE}/openai/deployments/mine?api-version=2024-10-21#gpt-4o": (
        f"{AZURE}/openai/deployments/mine/chat/completions?api-version=2024-10-21", "gpt-4o"
    ),
    "https://h/any/path/#org/m?x=1": ("https://h/any/path/chat/completions", "org/m?x=1"),
    "https://api.deepinfra.com/v1/openai#org/m": ("https://api.deepinfra.com/v1/openai/chat/completions", "org/m"),
    "http://[::1]:8000/v1/m": ("http://[::1]:8000/v1/chat/completions", "m"),
}  # fmt: skip


@pytest.mark.parametrize("address", READ)
def test_what_an_address_names(address: str) -> None:
    ref = ModelRef.parse(f"api:{address}")
    place = endpoint(ref)
    assert place is not None and (place.target, place.model) == READ[address]
    assert str(ref) == f"api:{address}" and ApiModel(f"api:{address}").place == place


REFUSED = {
    "https://h/api/glm": "<address>#<model>",
    "https://h/v1/": "<address>/v1/<model>",
    "https://h": "<address>/v1/<model>",
    "https://h/x#": "<address>/v1/<model>",
    f"https://me:{KEY}@h/v1/m": "UNDERTOW_API_KEY",
    f"https://me:{KEY}@h/glm": "UNDERTOW_API_KEY",
    f"https://h/v1/m?key={KEY}": "UNDERTOW_API_KEY",
    f"https://h/v1/m?x={KEY.replace('-', '')}abc": "UNDERTOW_API_KEY",
    "https://h/v1/m?x=a b": "%20",
    "ftp://h/v1/m": "https://",
    "http://[::1/v1/m": "https://",
    "http://a b/v1/m": "https://",
    "localhost:8000/v1/m": "api:http://localhost:8000/v1/m",
    "127.0.0.1:8000/v1/m": "api:http://127.0.0.1",
}


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_refused_with_what_to_write_and_without_the_key(address: str, capsys) -> None:
    with pytest.raises(ConfigError) as caught:
        endpoint(ModelRef.parse(f"api:{address}"))
    said = str(caught.value)
    assert REFUSED[address] in caught.value.fix and KEY not in said and KEY.replace("-", "") not in said
    for more in ([], ["--dry-run"]):
        assert main(["generate", "never.jsonl", "--model", f"api:{address}", "-n", "2", *more]) == 2
        shown = capsys.readouterr()
        assert shown.err.strip() == said and not shown.out


def test_names_of_providers_are_left_to_inspect(monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint(ModelRef.parse("api:openai/gpt-x@1")) is None
    monkeypatch.setattr("undertow.models.api.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="Inspect"):
        check_reachable(ModelRef.parse("api:openai/gpt-x"), Dialect())
    with pytest.raises(MissingExtraError, match="httpx2"):
        check_reachable(ModelRef.parse("api:http://h/v1/m"), Dialect())
    with pytest.raises(ConfigError, match="--token-limit-name"):
        check_reachable(ModelRef.parse("api:openai/gpt-x"), Dialect(limit="max_completion_tokens"))
    with pytest.raises(ConfigError, match="openai-api"):
        check_reachable(ModelRef.parse("api:anthropic/x"), Dialect(extra={"top_k": 1}))


def test_where_the_key_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNDERTOW_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert Endpoint("https://h/v1", "m").headers == {}
    assert Endpoint("https://api.openai.com/v1", "m").headers == {"authorization": f"Bearer {KEY}"}
    monkeypatch.setenv("UNDERTOW_API_KEY", f" {KEY}\n")
    assert Endpoint("https://h/v1", "m").headers == {"authorization": f"Bearer {KEY}"}
    assert Endpoint(f"{AZURE}/openai/v1", "m").headers["api-key"] == KEY
    assert without_keys(f"wrong key {KEY}!") == "wrong key [key]!"
    for odd in ("sk-ä", "a\nb"):
        monkeypatch.setenv("UNDERTOW_API_KEY", odd)
        with pytest.raises(ConfigError, match="cannot be sent") as caught:
            check_reachable(ModelRef.parse("api:https://h/v1/m"), Dialect())
        assert odd not in str(caught.value)
