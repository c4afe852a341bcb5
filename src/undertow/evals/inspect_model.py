# Inspect is an extra: where it is missing, its names are unknown to the type checker.
# pyright: reportMissingImports=false, reportUntypedFunctionDecorator=false, reportUntypedBaseClass=false
"""Local models as an Inspect provider: `inspect eval undertow/favourite --model undertow/ref:finch-a`, offline.

What follows `undertow/` is a model reference, `ref:` or `hf:`, with adapter and options.
"""

import asyncio
from typing import Any

from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput, ModelUsage, modelapi
from inspect_ai.tool import ToolChoice, ToolInfo

from undertow.errors import ModelError
from undertow.seeds import derive
from undertow.types import Message, Sampling

LONGEST = 512


class UndertowAPI(ModelAPI):
    """A local model, one call after another; a call's seed is drawn from Inspect's seed and the call's place."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        **_: Any,
    ) -> None:
        from undertow.models.load import load_model

        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        self.model, self.calls, self.lock = load_model(model_name), 0, asyncio.Lock()

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Answer a conversation.

        Raises:
            ModelError: tools are offered.
        """
        if tools:
            raise ModelError("These models use no tools.", self.model_name, "Choose a task without tools.")
        prompt: Any = tuple(Message(turn.role, turn.text) for turn in input)
        temperature = 1.0 if config.temperature is None else config.temperature
        sampling = Sampling(temperature=temperature, max_new_tokens=config.max_tokens or LONGEST)
        async with self.lock:
            self.calls += 1
            seed = derive(config.seed or 0, "inspect", self.calls)
            text = (await asyncio.to_thread(self.model.chat, [prompt], sampling=sampling, seed=seed))[0]
        output = ModelOutput.from_content(self.model_name, text)
        # With usage Inspect need not count tokens itself, for which it would fetch a tokenizer.
        sent, drawn = len(self.model.render([prompt])[0]), len(self.model.tokenise([text])[0])
        output.usage = ModelUsage(input_tokens=sent, output_tokens=drawn, total_tokens=sent + drawn)
        return output

    def max_connections(self) -> int:
        """One: calls wait for each other."""
        return 1


@modelapi(name="undertow")
def undertow() -> type[ModelAPI]:
    """Return the provider."""
    return UndertowAPI
