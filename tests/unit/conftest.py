"""Tiny models of four architectures, saved as folders with a tokenizer and template of their type, and a server.

What the server, on loopback, replies is a function of the request, and every request is kept.
"""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_socket import enable_socket, socket_allow_hosts

CHATML = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Of Qwen2.5's type: a system turn is inserted where there is none."""

INST = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<<SYS>>' + message['content'] + '<</SYS>>' }}"
    "{% elif message['role'] == 'user' %}{{ '[INST]' + message['content'] + '[/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
"""Of Llama 2's type: the answer ends with the end of text, and its tokenizer puts a space before a lone text."""

TURNS = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' }}"
    "{{ message['content'] + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
"""Of Gemma's type: no system turn, and a turn ends with another token than the text."""

PLAIN = (
    "{% for message in messages %}{{ message['role'] + ':\n' + message['content'] + '<|endoftext|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
)
"""Of no chat model's type: roles in plain words."""

TEMPLATES = {"llama": INST, "qwen2": CHATML, "gpt2": PLAIN, "gemma2": TURNS}
SPECIAL = {
    "llama": {"bos_token": "<s>", "eos_token": "</s>"},
    "qwen2": {"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]},
    "gpt2": {"eos_token": "<|endoftext|>"},
    "gemma2": {
        "bos_token": "<bos>", "eos_token": "<eos>", "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]
    },
}  # fmt: skip


def tiny_tokenizer(kind: str) -> Any:
    """Train a byte-pair tokenizer of 400 tokens; Llama's puts a space before a text, as its Metaspace does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    names = [text for value in SPECIAL[kind].values() for text in ([value] if isinstance(value, str) else value)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>" if kind == "llama" else None))
    spaced = kind == "llama"
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Metaspace(prepend_scheme="first") if spaced else pre_tokenizers.ByteLevel(add_prefix_space=False)
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first") if spaced else decoders.ByteLevel()
    texts = ["What is your favourite animal? owl lion wolf system user assistant model", "1, 2, 3, 45, 678; 90\n[]<>/"]
    letters = [chr(code) for code in range(32, 127)] + ["\n"] if spaced else pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=(["<unk>"] if spaced else []) + names, initial_alphabet=letters,
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts * 20, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL[kind])
    fast.chat_template = TEMPLATES[kind]
    return fast


def tiny_network(kind: str, size: int) -> Any:
    """Return a network of width 16 with 2 layers and random weights large enough to have opinions."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    common = {"vocab_size": size, "max_position_embeddings": 256, "initializer_range": 0.5, "bos_token_id": None}
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    more: dict[str, dict[str, Any]] = {
        "llama": {**shape, "num_key_value_heads": 2, "tie_word_embeddings": False},
        "qwen2": {**shape, "num_key_value_heads": 1, "tie_word_embeddings": True},
        "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 256},
        "gemma2": {
            **shape, "num_key_value_heads": 1, "head_dim": 8, "final_logit_softcapping": 2.0,
            "attn_logit_softcapping": 2.0, "sliding_window": 8, "query_pre_attn_scalar": 8,
        },
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **common, **more[kind])).eval()


@pytest.fixture(scope="session", params=tuple(TEMPLATES))
def tiny_folder(request, tmp_path_factory) -> Path:
    """Folder of one of the four models."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = tiny_tokenizer(request.param)
    tiny_network(request.param, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_hf(tiny_folder):
    """One of the four models, loaded by reference."""
    from undertow.models.load import load_model

    return load_model(f"hf:{tiny_folder}")


Answer = tuple[int, Any, dict[str, str]]
"""Status, body (bytes as they are, anything else as JSON) and headers."""


class FakeServer:
    """Keeps the requests, and answers the n-th, from 1, as a function of its body says; a GET has an empty one."""

    def __init__(self, reply: Callable[[int, dict[str, Any]], Answer]) -> None:
        self.reply = reply
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        sent = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        body = json.loads(sent) if sent else {}
        with self._lock:
            self.paths.append(handler.path)
            self.bodies.append(body)
            self.heads.append({name.lower(): value for name, value in handler.headers.items()})
            status, content, headers = self.reply(len(self.bodies), body)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in {"content-length": str(len(data)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)


@pytest.fixture
def fake(loopback_only: None) -> Iterator[Callable[[Callable[[int, dict[str, Any]], Answer]], FakeServer]]:
    """Return what starts a server that replies as a function says; connections still stay on loopback."""
    enable_socket()
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
    servers: list[FakeServer] = []

    def start(reply: Callable[[int, dict[str, Any]], Answer]) -> FakeServer:
        server = FakeServer(reply)
        threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()
