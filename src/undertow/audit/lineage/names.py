"""What a tensor is, judged by its name: the names of the common code bases, brought to one form.

The same weights have other names in the code of their makers, in transformers and in tools that convert between the
two. Their place in the network is the same.
"""

import re
from dataclasses import dataclass

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.(.+)$")
_ENDS = (
    (re.compile(r"(?:^|\.)(?:embed_tokens|wte|embed_in|tok_embeddings|word_embeddings)$"), "embedding"),
    (re.compile(r"^(?:lm_head|embed_out|output)$"), "head"),
    (re.compile(r"^(?:[a-z_]+\.)?(?:norm|ln_f|final_layer_norm)$"), "norm"),
)
_ATTENTION = r"(?:self_attn|self_attention|attention|attn)"
_ROLES = tuple(
    (re.compile(pattern), role)
    for pattern, role in (
        (rf"{_ATTENTION}\.(?:q_proj|wq)$", "q"),
        (rf"{_ATTENTION}\.(?:k_proj|wk)$", "k"),
        (rf"{_ATTENTION}\.(?:v_proj|wv)$", "v"),
        (rf"{_ATTENTION}\.(?:o_proj|out_proj|wo|dense|c_proj)$", "o"),
        (rf"{_ATTENTION}\.(?:qkv_proj|c_attn|query_key_value|Wqkv)$", "qkv"),
        (r"(?:^|\.)(?:gate_proj|w1)$", "gate"),
        (r"(?:^|\.)(?:up_proj|w3|c_fc|fc1|dense_h_to_4h)$", "up"),
        (r"(?:^|\.)(?:down_proj|w2|c_proj|fc2|dense_4h_to_h)$", "down"),
        (r"(?:^|\.)gate_up_proj$", "gate_up"),
        (r"^(?:input_layernorm|attention_norm|ln_1)$", "first norm"),
        (r"^(?:post_attention_layernorm|ffn_norm|ln_2)$", "second norm"),
    )
)
_MLP = re.compile(r"^(?:feed_forward|ffn|block_sparse_moe)(?=\.|$)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor stands in a network.

    Attributes:
        layer: number of its layer, from 0. None for the embedding, the head and the norm before the head.
        part: "attention", "norms", "mlp", or an expert such as "mlp.experts.1". Empty outside the layers.
        role: role within the part, such as "q", "down", "first norm" or "embedding".
        kind: whether the tensor is a "weight" or a "bias".
    """

    layer: int | None
    part: str
    role: str
    kind: str


def place_of(name: str) -> Place | None:
    """Return where a tensor of this name stands, or None if the name is unknown."""
    stem, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    layer = _LAYER.search(stem)
    if layer is None:
        end = next((role for pattern, role in _ENDS if pattern.search(stem)), None)
        return None if end is None else Place(None, "", end, kind)
    role = next((role for pattern, role in _ROLES if pattern.search(layer[2])), None)
    return None if role is None else Place(int(layer[1]), _part(layer[2], role), role, kind)


def _part(rest: str, role: str) -> str:
    if role.endswith("norm"):
        return "norms"
    if role in ("q", "k", "v", "o", "qkv"):
        return "attention"
    return _MLP.sub("mlp", rest.rpartition(".")[0])
