"""What a folder's config.json declares: which model it is, and whether it is one for us.

Everything is read from the config, before a weight is read or downloaded: what is no causal
language model, asks for code of its own, or is quantised in a way that has no exact dense form,
is refused here.
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
KINDS = (
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
"""Quantisations that transformers turns into dense weights by itself, without extra packages."""


def read_config(folder: Path, name: str, *, trust_remote_code: bool = False) -> Any:
    """The Hugging Face config of a folder that holds a causal language model.

    `name` is what errors call the model. Raises `DamagedModelError` for a config that cannot be
    read, `UnsupportedModelError` for a model that is none of ours.
    """
    raw = read_json(folder / "config.json")
    _refuse_endless(raw, name)
    remote = needs_remote_code(raw, name)
    if remote and not trust_remote_code:
        raise UnsupportedModelError(
            f"model {name!r} asks to run code of its own ({remote}), which transformers does not "
            "have; read that code, and if you trust it load with trust_remote_code=True or "
            "--trust-remote-code"
        )
    try:
        config = load_config(folder, trusted=bool(remote))
    except ModelError:
        raise
    except Exception as error:  # values of a wrong type, missing code: many kinds
        raise DamagedModelError(
            f"the config.json of {name!r} cannot be used: {reason(error)}; expected the one that "
            "the model was saved with"
        ) from error
    _refuse_not_causal(config, raw, name, bool(remote))
    if is_native(config):
        _refuse_two_minds(config, raw, name)
        _refuse_unknown_rope(config, name)
    return config


def needs_remote_code(raw: dict[str, Any], name: str) -> str:
    """The code that a model brings along and cannot do without; empty for a known model type."""
    kind = raw.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise DamagedModelError(
            f"the config.json of {name!r} has no 'model_type'; expected a model in Hugging Face "
            'format, which says there what it is ("llama", say)'
        )
    known = kind in transformers.CONFIG_MAPPING
    if known and transformers.CONFIG_MAPPING[kind] in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        return ""
    classes = raw.get("auto_map")
    needed = "AutoModelForCausalLM" if known else "AutoConfig"
    if isinstance(classes, dict) and needed in classes:
        return str(classes.get("AutoModelForCausalLM", classes[needed]))
    if known:
        return ""
    raise UnsupportedModelError(
        f"model {name!r} is of type {kind!r}, which transformers {transformers.__version__} does "
        "not know; update transformers, or correct the 'model_type' in its config.json"
    )


def is_native(config: Any) -> bool:
    """Whether the config is one of transformers' own, and not made by a model's own code."""
    return type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING


def ask_for_dense(config: Any, name: str) -> bool:
    """Set a quantised config so that its weights are made dense while they are read.

    Whether they are quantised; a warning says so. Raises `UnsupportedModelError` for a
    quantisation that has no exact dense form without further packages.
    """
    declared = getattr(config, "quantization_config", None)
    if not declared:
        return False
    fields = declared if isinstance(declared, dict) else declared.to_dict()
    method = str(fields.get("quant_method") or "bitsandbytes")
    if method not in DENSE:
        raise UnsupportedModelError(
            f"model {name!r} is quantised ({method}), and transformers cannot give its dense "
            "weights alone; use the unquantised repository, or dequantise it once where its "
            "package is installed, for bitsandbytes with from_pretrained(...).dequantize() and "
            "save_pretrained"
        )
    config.quantization_config = fields | {"dequantize": True}
    warnings.warn(
        f"model {name!r} is quantised ({method}); its weights are dequantised while they are read, "
        "and what is measured is that dense model",
        SinkWarning,
        stacklevel=2,
    )
    return True


def _refuse_endless(raw: dict[str, Any], name: str) -> None:
    """Refuse sizes that no model has, before transformers makes lists as long as they say."""
    parts = [raw, *(part for part in raw.values() if isinstance(part, dict))]
    wrong = next(filter(None, map(limits.exceeding, parts)), "")
    if wrong:
        raise DamagedModelError(
            f"the config.json of {name!r} cannot be used: {wrong}; take the one that the "
            "model was saved with"
        )


def _refuse_not_causal(config: Any, raw: dict[str, Any], name: str, remote: bool) -> None:
    kind = _other_than_causal(config, raw, remote)
    if kind:
        raise UnsupportedModelError(
            f"model {name!r} is {kind}, not a causal language model; expected a decoder whose "
            "config names a ...ForCausalLM architecture, as Llama or Qwen do"
        )


def _refuse_two_minds(config: Any, raw: dict[str, Any], name: str) -> None:
    """A Mistral that calls itself a Llama would be read as one, without its sliding window."""
    expected = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__name__
    named = raw.get("architectures") or [expected]
    if not isinstance(named, list):
        raise DamagedModelError(
            f"the config.json of {name!r} says architectures {named!r:.60}; expected a list of "
            "names"
        )
    if expected.lower() != str(named[0]).lower():
        raise DamagedModelError(
            f"the config.json of {name!r} says both {named[0]!r} (architectures) and "
            f"{raw['model_type']!r} (model_type), which is {expected!r}; correct the wrong one"
        )


def _refuse_unknown_rope(config: Any, name: str) -> None:
    """Name the kind of rope that transformers lacks, and the one that is meant where it has one."""
    rope = getattr(config, "rope_parameters", None) or {}
    by_layer = [part for part in rope.values() if isinstance(part, dict)]
    known = {"default", *ROPE_INIT_FUNCTIONS}
    for part in by_layer or [rope]:
        kind = part.get("rope_type", "default")
        if not isinstance(kind, str) or kind not in known:
            hint = f"; {kind!r} is {ROPES_ELSEWHERE[kind]}" if kind in ROPES_ELSEWHERE else ""
            raise UnsupportedModelError(
                f"the config.json of {name!r} names the rope type {kind!r} (rope_scaling or "
                f"rope_parameters), which transformers {transformers.__version__} does not have; "
                f"expected one of {', '.join(sorted(known))}{hint}"
            )


def _other_than_causal(config: Any, raw: dict[str, Any], remote: bool) -> str:
    """What the model is instead, in words; empty for a causal language model."""
    named = raw.get("architectures") or []
    architecture = str(named[0]) if isinstance(named, list) and named else ""
    shown = architecture or type(config).__name__
    if getattr(config, "is_encoder_decoder", False):
        return f"an encoder-decoder ({shown})"
    if architecture and not architecture.endswith(CAUSAL):
        if hasattr(config, "vision_config"):
            return f"a model of images and text ({shown})"
        kinds = (kind for ending, kind in KINDS if architecture.endswith(ending))
        return f"{next(kinds, 'something else')} ({shown})"
    masked = type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING
    if masked and getattr(config, "is_decoder", None) is False:
        return f"an encoder ({shown})"
    return "" if remote or is_native(config) else f"something else ({type(config).__name__})"
