"""Find secondary attention sinks in language models, and test causally which MLPs make them.

    from secondary_sinks import load_model, observe, detect, ablate

    model = load_model("smollm2-135m")
    trace = observe(model, model.to_tokens(text))
    sinks = detect(trace)
    effects = ablate(model, trace, sinks, edit="zero")

Each result has `.to_frame()`. Names are imported when they are first used, so that importing
one room does not import the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secondary_sinks.attribution import formation, mlp_anatomy
    from secondary_sinks.causal import (
        ablate,
        recompute,
        reference_means,
        replay,
    )
    from secondary_sinks.detection import (
        detect,
        explain,
        find_levels,
        primary_weakening,
        threshold_sweep,
    )
    from secondary_sinks.models import load_model
    from secondary_sinks.observation import observe, trace_from_cache
    from secondary_sinks.questions import (
        Answer,
        forming_mlps,
        harm,
        layer_effects,
        layer_verdicts,
        necessity,
        norm_dose,
        redistribution,
        restoration,
        roles,
        sparsity,
        sufficiency,
    )
    from secondary_sinks.texts import bundled_corpus, read_texts
    from secondary_sinks.texts.tokenize import tokenize
    from secondary_sinks.types import Edit, Effects, SinkTable, Thresholds, Trace, Verdict

_ROOMS = {
    "formation": "attribution",
    "mlp_anatomy": "attribution",
    "ablate": "causal",
    "recompute": "causal",
    "reference_means": "causal",
    "replay": "causal",
    "detect": "detection",
    "explain": "detection",
    "find_levels": "detection",
    "primary_weakening": "detection",
    "threshold_sweep": "detection",
    "load_model": "models",
    "observe": "observation",
    "trace_from_cache": "observation",
    "Answer": "questions",
    "forming_mlps": "questions",
    "harm": "questions",
    "layer_effects": "questions",
    "layer_verdicts": "questions",
    "necessity": "questions",
    "norm_dose": "questions",
    "redistribution": "questions",
    "restoration": "questions",
    "roles": "questions",
    "sparsity": "questions",
    "sufficiency": "questions",
    "bundled_corpus": "texts",
    "read_texts": "texts",
    "tokenize": "texts",
    "Edit": "types",
    "Effects": "types",
    "SinkTable": "types",
    "Thresholds": "types",
    "Trace": "types",
    "Verdict": "types",
}

__all__ = [
    "Answer",
    "Edit",
    "Effects",
    "SinkTable",
    "Thresholds",
    "Trace",
    "Verdict",
    "ablate",
    "bundled_corpus",
    "detect",
    "explain",
    "find_levels",
    "formation",
    "forming_mlps",
    "harm",
    "layer_effects",
    "layer_verdicts",
    "load_model",
    "mlp_anatomy",
    "necessity",
    "norm_dose",
    "observe",
    "primary_weakening",
    "read_texts",
    "recompute",
    "redistribution",
    "reference_means",
    "replay",
    "restoration",
    "roles",
    "sparsity",
    "sufficiency",
    "threshold_sweep",
    "tokenize",
    "trace_from_cache",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
