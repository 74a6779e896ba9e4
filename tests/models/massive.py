"""Tiny Qwen2 models whose first token becomes massive in one layer and loses it in another."""

import torch
import transformers as hf

from secondary_sinks.models.proof.expected import PROBE_LENGTH, original_states, probe_tokens
from secondary_sinks.testing.families import SMALL

ARISES, GOES = 1, 4
MARK, MASSIVE = 0, 1
"""Residual dimensions: the mark of the first token's id, and where its norm grows."""
SHAPE = SMALL | {"num_hidden_layers": 6}
PROBE = probe_tokens(SMALL["vocab_size"], PROBE_LENGTH)


def massive(norm, *, bias=0.1, **changes):
    """A Qwen2 whose first token has this norm from layer 1 to 3; `bias` is the size of biases."""
    rope = {"rope_type": "default", "rope_theta": 1e4}
    config = hf.Qwen2Config(**SHAPE | {"rope_parameters": rope} | changes)
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            size = bias if name.endswith("bias") else 0.15
            parameter.normal_(0, size) if parameter.ndim > 1 or size == bias else None
            parameter.uniform_(0.5, 1.5) if name.endswith("norm.weight") else None
        _keep_free(model)
        _write(model, ARISES, MARK, lambda residual: norm)
        _write(model, GOES, MASSIVE, lambda residual: -residual[0, MASSIVE])
    model.config.architectures = [type(model).__name__]
    return model


def _keep_free(model):
    """Nobody else writes to the two dimensions, and only the first token has the mark."""
    embed = model.model.embed_tokens.weight
    embed[:, [MARK, MASSIVE]] = 0
    embed[PROBE[0, 0], MARK] = 1
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[[MARK, MASSIVE]] = 0
        layer.mlp.down_proj.weight[[MARK, MASSIVE]] = 0


def _write(model, index, reads, wanted):
    """Neuron 0 of a layer reads one dimension and writes what is `wanted` to the massive one."""
    mlp, found = model.model.layers[index].mlp, {}
    for part in (mlp.gate_proj, mlp.up_proj):
        part.weight[0] = 0
        part.weight[0, reads] = 1
    mlp.down_proj.weight[:, 0] = 0
    hook = mlp.down_proj.register_forward_pre_hook(lambda part, args: found.update(x=args[0][0]))
    states = original_states(model, PROBE)
    hook.remove()
    residual = states[f"blocks.{index}.hook_resid_pre"]
    mlp.down_proj.weight[MASSIVE, 0] = wanted(residual) / found["x"][0, 0]
