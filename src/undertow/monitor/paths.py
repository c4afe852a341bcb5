"""The part of a request's path that is stored: words of known interfaces, and nothing that could be a secret.

Some gateways take a key, a token or a customer's name as a part of the path.
"""

import re
from urllib.parse import unquote_to_bytes


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


HIDDEN = "*"
"""Sign that replaces every part of a path that is not among `WORDS`."""

WORDS = _words("""
    abort adapters admin anthropic api apply_template assistants async audio batch batches beta bulk cancel chat
    checkpoints classify clear_cache collections compatible-mode completion completions containers content
    conversations copy count_tokens create delete deployments detokenize docs edits embed embeddings engines evals
    events extensions feedback files fine-tuning fine_tune fine_tunes fine_tuning flush_cache generate
    generate_stream generation generations get_model_info health healthz history images infer infill info
    input_items inputs invocations invoke invoke-with-response-stream is_sleeping jobs judgements key keys
    languages live load load_lora_adapter lora-adapters me message messages metrics model models moderations
    openai openai.json openapi.json openrouter organization org permissions ping pooling predict projects props ps
    pull push queue ready realtime rerank reset_prefix_cache responses root run runs score scores search server
    server_info sessions show similarity slots sleep speech start_profile status steps stop_profile stream submit
    tags threads tokenize tokenizer transcriptions translations unload_lora_adapter update_weights uploads usage
    users v variations vector_stores version videos voices wake_up ws
""")
_VERSION = re.compile(r"v\d{1,3}(\.\d{1,3})?(alpha|beta)?\d{0,2}")


def plain_path(path: bytes) -> bytes:
    """Return a path as an upstream may read it: escapes are decoded, and slashes are not repeated.

    It is in lower case, and decoded twice, since an upstream may do so.
    """
    return re.sub(rb"/+", b"/", unquote_to_bytes(unquote_to_bytes(path))).lower().rstrip(b"/") or b"/"


def stored_path(path: bytes) -> str:
    """Return the path with every part hidden that is neither a word of a known interface nor a version."""
    parts = plain_path(path).decode("ascii", "replace").split("/")
    shown = [one if not one or one in WORDS or _VERSION.fullmatch(one) else HIDDEN for one in parts]
    return "/".join(shown)[:300]
