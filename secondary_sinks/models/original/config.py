"""The config.json of a folder, and whether its model is supported.

Models that are not causal language models, need code of their own, or are quantised without an
exact dense form are refused here, before their weights are downloaded or read.
"""

import warnings
from pathlib import Path
from typing import Any

import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from secondary_sinks.errors import (
    DamagedModelError,
    ModelError,
    SinkWarning,
    UnsupportedModelError,
    reason,
)
from secondary_sinks.foreign import load_config
from secondary_sinks.models import limits
from secondary_sinks.models.original.checkpoint import read_json

CAUSAL = ("ForCausalLM", "LMHeadModel")
OTHER_KINDS = (
    ("ForMaskedLM", "an encoder"),
    ("ForPreTraining", "an encoder"),
    ("ForSequenceClassification", "a classifier"),
    ("ForTokenClassification", "a classifier of tokens"),
    ("ForQuestionAnswering", "an extractor of answers"),
    ("ForImageClassification", "a classifier of images"),
    ("ForObjectDetection", "a detector of objects"),
    ("ForCTC", "a model of speech"),
    ("ForSpeechSeq2Seq", "a model of speech"),
    ("Model", "a model without a language-model head"),
)
ROPES_ELSEWHERE = {
    "su": "an old name of 'longrope': write that instead, with its short_factor and long_factor",
    "ntk": "a rope whose base was raised: write 'default' and the raised base as rope_theta",
}
"""Rope types of older versions and of other libraries, and what they are."""
DENSE = ("mxfp4", "fp8")
"""Quantisations that transformers dequantises without extra packages."""


def read_config(folder: Path, name: str, *, trust_remote_code: bool = False) -> Any:
    """The Hugging Face config of a folder that holds a causal language model.

    `name` is the name of the model in errors. Raises `DamagedModelError` for a config that cannot
    be read, and `UnsupportedModelError` for a model that is not supported.
    """
    raw = read_json(folder / "config.json")
    _refuse_impossible_sizes(raw, name)
    remote = needs_remote_code(raw, name)
    if remote and not trust_remote_code:
        raise UnsupportedModelError(
            f"model {name!r} asks to run code of its own ({remote}), which transformers does not "
            "have",
            "read that code, and if you trust it load with trust_remote_code=True or "
            "--trust-remote-code",
        )
    try:
        config = load_config(folder, trusted=bool(remote))
    except ModelError:
        raise
    except Exception as error:  # values of a wrong type, missing code: many kinds
        raise DamagedModelError(
            f"the config.json of {name!r} cannot be used: {reason(error)}",
            "expected the one that the model was saved with",
        ) from error
    _refuse_not_causal(config, raw, name, bool(remote))
    if is_native(config):
        _refuse_contradicting_types(config, raw, name)
        _refuse_unknown_rope(config, name)
    return config


def needs_remote_code(raw: dict[str, Any], name: str) -> str:
    """Class of the model's own code that it needs to be built; empty for a known model type."""
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise DamagedModelError(
            f"the config.json of {name!r} has no 'model_type'",
            'expected a model in Hugging Face format, which says there what it is ("llama", say)',
        )
    known = model_type in transformers.CONFIG_MAPPING
    if (
        known
        and transformers.CONFIG_MAPPING[model_type] in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    ):
        return ""
    classes = raw.get("auto_map")
    needed = "AutoModelForCausalLM" if known else "AutoConfig"
    if isinstance(classes, dict) and needed in classes:
        return str(classes.get("AutoModelForCausalLM", classes[needed]))
    if known:
        return ""
    raise UnsupportedModelError(
        f"model {name!r} is of type {model_type!r}, which transformers {transformers.__version__} "
        "does not know; update transformers, or correct the 'model_type' in its config.json"
    )


def is_native(config: Any) -> bool:
    """Whether the config belongs to a model class of transformers, not to a model's own code."""
    return type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING


def request_dense_weights(config: Any, name: str) -> bool:
    """Set a quantised config so that its weights are dequantised while they are read.

    Returns whether they are quantised, and warns if so. Raises `UnsupportedModelError` for a
    quantisation that needs further packages.
    """
    declared = getattr(config, "quantization_config", None)
    if not declared:
        return False
    fields = declared if isinstance(declared, dict) else declared.to_dict()
    method = str(fields.get("quant_method") or "bitsandbytes")
    if method not in DENSE:
        raise UnsupportedModelError(
            f"model {name!r} is quantised ({method}), and transformers cannot give its dense "
            "weights alone",
            "use the unquantised repository, or dequantise it once where its package is installed, "
            "for bitsandbytes with from_pretrained(...).dequantize() and save_pretrained",
        )
    config.quantization_config = fields | {"dequantize": True}
    warnings.warn(
        f"model {name!r} is quantised ({method}); its weights are dequantised while they are read, "
        "and what is measured is that dense model",
        SinkWarning,
        stacklevel=2,
    )
    return True


def _refuse_impossible_sizes(raw: dict[str, Any], name: str) -> None:
    """Refuse sizes that no model has, before transformers builds lists of that length."""
    parts = [raw, *(part for part in raw.values() if isinstance(part, dict))]
    wrong = next(filter(None, map(limits.impossible_size, parts)), "")
    if wrong:
        raise DamagedModelError(
            f"the config.json of {name!r} cannot be used: {wrong}",
            "take the one that the model was saved with",
        )


def _refuse_not_causal(config: Any, raw: dict[str, Any], name: str, remote: bool) -> None:
    other_kind = _kind_if_not_causal(config, raw, remote)
    if other_kind:
        raise UnsupportedModelError(
            f"model {name!r} is {other_kind}, not a causal language model",
            "expected a decoder "
            "whose config names a ...ForCausalLM architecture, as Llama or Qwen do",
        )


def _refuse_contradicting_types(config: Any, raw: dict[str, Any], name: str) -> None:
    """Refuse a config whose `architectures` and `model_type` name different models.

    A Mistral with `model_type` llama would be read without its sliding window.
    """
    expected = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__name__
    named = raw.get("architectures") or [expected]
    if not isinstance(named, list):
        raise DamagedModelError(
            f"the config.json of {name!r} says architectures {named!r:.60}",
            "expected a list of names",
        )
    if expected.lower() != str(named[0]).lower():
        raise DamagedModelError(
            f"the config.json of {name!r} says both {named[0]!r} (architectures) and "
            f"{raw['model_type']!r} (model_type), which is {expected!r}; correct the wrong one"
        )


def _refuse_unknown_rope(config: Any, name: str) -> None:
    """Refuse a rope type that transformers lacks, with its name there if it has another one."""
    rope = getattr(config, "rope_parameters", None) or {}
    by_layer = [part for part in rope.values() if isinstance(part, dict)]
    known = {"default", *ROPE_INIT_FUNCTIONS}
    for part in by_layer or [rope]:
        rope_type = part.get("rope_type", "default")
        if not isinstance(rope_type, str) or rope_type not in known:
            meaning = ROPES_ELSEWHERE.get(rope_type) if isinstance(rope_type, str) else None
            hint = f"; {rope_type!r} is {meaning}" if meaning else ""
            raise UnsupportedModelError(
                f"the config.json of {name!r} names the rope type {rope_type!r} (rope_scaling or "
                f"rope_parameters), which transformers {transformers.__version__} does not have; "
                f"expected one of {', '.join(sorted(known))}{hint}"
            )


def _kind_if_not_causal(config: Any, raw: dict[str, Any], remote: bool) -> str:
    """Kind of a model that is not a causal language model, in words; empty for one that is."""
    named = raw.get("architectures") or []
    architecture = str(named[0]) if isinstance(named, list) and named else ""
    shown = architecture or type(config).__name__
    if getattr(config, "is_encoder_decoder", False):
        return f"an encoder-decoder ({shown})"
    if architecture and not architecture.endswith(CAUSAL):
        if hasattr(config, "vision_config"):
            return f"a model of images and text ({shown})"
        kinds = (kind for ending, kind in OTHER_KINDS if architecture.endswith(ending))
        return f"{next(kinds, 'another kind of model')} ({shown})"
    masked = type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING
    if masked and getattr(config, "is_decoder", None) is False:
        return f"an encoder ({shown})"
    return "" if remote or is_native(config) else f"another kind of model ({type(config).__name__})"
