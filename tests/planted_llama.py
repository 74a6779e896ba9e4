"""A Llama with weights set by hand, saved like a real one, whose circuit is known.

`testing.plant` makes hooked models whose MLPs have no norm before them; no Hugging Face model is
like that. Here the product in a gated MLP is an "and": MLP 2 writes along the sink direction at a
newline that has read a "!", which head 1.0 reads. Newlines before the "!" are twins.
"""

import torch
import transformers as hf

from tests.tiny import tiny_tokenizer

TEXT = "^ab\ncd\nefg!hijklmnopq\n" + "rstuvwxyzabcdefghijklmnopqrstuvwxyz"
SINK, TWINS, SOURCE = 21, (6, 3), 10
CONSTANT, SINKS, NEWLINE, MARK, HAS_READ, FIRST, CONTENT = range(7)
"""Axes of the residual; from the last one on there is random content."""
WIDTH, HEAD, SLOW = 32, 8, 3
"""`SLOW` is the number of a head's width that the rotary embedding hardly turns."""


def planted_llama():
    """The model: six layers, four heads that share two keys."""
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=258,
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=HEAD,
        max_position_embeddings=256,
        bos_token_id=256,
        eos_token_id=257,
        rope_parameters={"rope_type": "default", "rope_theta": 1e12},
    )
    model = hf.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        _set_embedding(model.model.embed_tokens.weight)
        for number, layer in enumerate(model.model.layers):
            _set_attention(layer.self_attn, number)
            _set_mlp(layer.mlp, number)
        model.lm_head.weight.copy_(0.3 * torch.randn(258, WIDTH))
    return model


def save_planted(folder):
    """Save model and tokenizer to a folder in Hugging Face format."""
    planted_llama().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def _set_embedding(weight):
    vocabulary = tiny_tokenizer().get_vocab()
    weight.zero_()
    content = torch.randn(len(weight), WIDTH - CONTENT)
    weight[:, CONTENT:] = 6 * content / content.norm(dim=1, keepdim=True)
    weight[:, CONSTANT] = 2
    for axis, letter in ((FIRST, "^"), (NEWLINE, "Ċ"), (MARK, "!")):
        weight[vocabulary[letter], axis] = 4


def _set_attention(attention, number):
    """Heads 2 and 3 read sinks; head 0 of layer 1 reads the mark and notes that it has."""
    q, k, v, o = (getattr(attention, f"{name}_proj").weight for name in "qkvo")
    for weight in (q, k, v, o):
        weight.zero_()
    q[: 2 * HEAD, CONTENT:] = 0.1 * torch.randn(2 * HEAD, WIDTH - CONTENT)
    k[:HEAD, CONTENT:] = 0.1 * torch.randn(HEAD, WIDTH - CONTENT)
    v[:, CONTENT:] = 0.1 * torch.randn(2 * HEAD, WIDTH - CONTENT)
    o[CONTENT:] = 0.1 * torch.randn(WIDTH - CONTENT, 4 * HEAD)
    for head, strength in ((2, 2.0), (3, 1.2)):
        q[head * HEAD + SLOW, CONSTANT] = strength
    k[HEAD + SLOW, SINKS] = 1
    v[HEAD, SINKS] = 0.2
    if number == 1:
        q[SLOW, CONSTANT], k[SLOW, MARK] = 3, 2
        v[0], o[HAS_READ] = 0, 0
        v[0, MARK], o[HAS_READ, 0] = 1, 1.5


def _set_mlp(mlp, number):
    gate, up, down = mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight
    for weight in (gate, up, down):
        weight.zero_()
    for weight in (gate, up):
        weight[4:, CONTENT:] = 0.1 * torch.randn(12, WIDTH - CONTENT)
    down[CONTENT:, 4:] = 0.1 * torch.randn(WIDTH - CONTENT, 12)
    if number == 0:
        gate[0, FIRST], up[0, CONSTANT], down[SINKS, 0] = 3, 1, 25
    if number == 2:
        gate[0, NEWLINE], up[0, HAS_READ], down[SINKS, 0] = 3, 1, 4
