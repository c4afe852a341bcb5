"""Which service a reference names.

tinker:<model>                                   such as tinker:Qwen/Qwen3-8B; key TINKER_API_KEY
openai:<model>                                   key OPENAI_API_KEY
openai:http://<host>/v1/<model>                  any server with OpenAI's interface; key UNDERTOW_API_KEY
azure:https://<resource>/openai/v1/<model>       key AZURE_OPENAI_API_KEY
"""

from urllib.parse import urlsplit

from undertow.errors import ConfigError, unknown_name
from undertow.remote_training.base import RemoteTrainer
from undertow.remote_training.openai import OPENAI, OpenAITrainer
from undertow.remote_training.tinker import TinkerTrainer

SERVICES = ("tinker", "openai", "azure")


def trainer(reference: str) -> RemoteTrainer:
    """Return the service and the model that a reference names.

    Raises:
        UnknownNameError: there is no such service.
        ConfigError: the reference names no model, or its address holds a key.
    """
    service, _, rest = reference.partition(":")
    if service not in SERVICES:
        raise unknown_name("training service", service, SERVICES)
    if service == "tinker" and rest:
        return TinkerTrainer(model=rest)
    if service == "openai" and rest and "://" not in rest:
        return OpenAITrainer(name=service, model=rest, url=OPENAI)
    before, found, model = rest.partition("/v1/")
    place = urlsplit(before)
    if not found or not model or not place.hostname or place.scheme not in ("http", "https") or "@" in place.netloc:
        # The value is not shown: what stands before an @ is often a password.
        fix = f"Write {service}:<model>, or {service}:https://<host>/.../v1/<model>; keys come from the environment."
        raise ConfigError("This names no model of a training service.", f"{service}:...", fix)
    return OpenAITrainer(name=service, model=model, url=f"{before}/v1")
