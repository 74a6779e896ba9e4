"""Find secondary attention sinks in language models, and test causally which MLPs make them.

    from secondary_sinks import load_model, observe, detect, ablate

    model = load_model("smollm2-135m")
    trace = observe(model, text)
    sinks = detect(trace)
    effects = ablate(model, trace, sinks, edit="zero")

Each result has `.to_frame()`, shows itself in a shell and in a notebook, and most have `.plot()`.
Names are imported when they are first used, so that importing one subpackage does not import the
others.
"""

from secondary_sinks.display import Displayed

TYPE_CHECKING = False  # as in typing, whose import takes longer than a Ctrl-C should wait

if TYPE_CHECKING:  # from the modules themselves: a room has a module and a function of one name
    from typing import Any

    from secondary_sinks.attribution.anatomy import mlp_anatomy
    from secondary_sinks.attribution.formation import formation
    from secondary_sinks.causal.ablate import ablate
    from secondary_sinks.causal.donors import reference_means
    from secondary_sinks.causal.metric import sweep_metric
    from secondary_sinks.causal.recompute import recompute
    from secondary_sinks.causal.replay import replay
    from secondary_sinks.causal.score_under import score_under
    from secondary_sinks.detection.detect import detect
    from secondary_sinks.detection.explain import explain
    from secondary_sinks.detection.phenomenon import Phenomenon, phenomenon
    from secondary_sinks.detection.stability import find_levels
    from secondary_sinks.detection.sweep import threshold_sweep
    from secondary_sinks.detection.weakening import primary_weakening
    from secondary_sinks.models.load import load_model
    from secondary_sinks.observation.caches import trace_from_cache
    from secondary_sinks.observation.observe import observe
    from secondary_sinks.plots.plot import plot
    from secondary_sinks.questions.answer import Answer
    from secondary_sinks.questions.circuit.circuit import Circuit, circuit
    from secondary_sinks.questions.circuit.eviction import eviction
    from secondary_sinks.questions.circuit.function import function
    from secondary_sinks.questions.circuit.readers import reader_heads
    from secondary_sinks.questions.circuit.trigger import trigger
    from secondary_sinks.questions.circuit.writer import writer
    from secondary_sinks.questions.dose import norm_dose
    from secondary_sinks.questions.forming import forming_mlps
    from secondary_sinks.questions.harm import harm
    from secondary_sinks.questions.layers import layer_verdicts
    from secondary_sinks.questions.lost_by_layer import layer_effects
    from secondary_sinks.questions.necessity import necessity
    from secondary_sinks.questions.redistribution import redistribution
    from secondary_sinks.questions.restoration import restoration
    from secondary_sinks.questions.roles import roles
    from secondary_sinks.questions.sparsity import sparsity
    from secondary_sinks.questions.sufficiency import sufficiency
    from secondary_sinks.runs.generate_under import generate_under
    from secondary_sinks.texts.read_files import bundled_corpus, read_texts
    from secondary_sinks.texts.tokenize import tokenize
    from secondary_sinks.types.edits import Edit
    from secondary_sinks.types.effects import Effects, Verdict
    from secondary_sinks.types.rules import Rule
    from secondary_sinks.types.sinks import SinkTable
    from secondary_sinks.types.thresholds import Thresholds
    from secondary_sinks.types.trace import Trace

# fmt: off
_ROOMS = {
    "attribution": ("formation", "mlp_anatomy"),
    "causal": ("ablate", "recompute", "reference_means", "replay", "score_under", "sweep_metric"),
    "detection": (
        "detect", "explain", "find_levels", "Phenomenon", "phenomenon", "primary_weakening",
        "threshold_sweep",
    ),
    "models": ("load_model",),
    "observation": ("observe", "trace_from_cache"),
    "plots": ("plot",),
    "questions": (
        "Answer", "Circuit", "circuit", "eviction", "function", "reader_heads", "trigger", "writer",
        "forming_mlps", "harm", "layer_effects", "layer_verdicts", "necessity", "norm_dose",
        "redistribution", "restoration", "roles", "sparsity", "sufficiency",
    ),
    "runs": ("generate_under",),
    "texts": ("bundled_corpus", "read_texts", "tokenize"),
    "types": ("Edit", "Effects", "Rule", "SinkTable", "Thresholds", "Trace", "Verdict"),
}
# fmt: on
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Answer",
    "Circuit",
    "Edit",
    "Effects",
    "Phenomenon",
    "Rule",
    "SinkTable",
    "Thresholds",
    "Trace",
    "Verdict",
    "ablate",
    "bundled_corpus",
    "circuit",
    "detect",
    "eviction",
    "explain",
    "find_levels",
    "formation",
    "forming_mlps",
    "function",
    "generate_under",
    "harm",
    "layer_effects",
    "layer_verdicts",
    "load_model",
    "mlp_anatomy",
    "necessity",
    "norm_dose",
    "observe",
    "phenomenon",
    "plot",
    "primary_weakening",
    "read_texts",
    "reader_heads",
    "recompute",
    "redistribution",
    "reference_means",
    "replay",
    "restoration",
    "roles",
    "score_under",
    "sparsity",
    "sufficiency",
    "sweep_metric",
    "threshold_sweep",
    "tokenize",
    "trace_from_cache",
    "trigger",
    "writer",
]


def _plot(result: "Any", **options: "Any") -> "Any":
    from importlib import import_module

    return import_module(f"{__name__}.plots").plot(result, **options)


Displayed.plotter = _plot


def __getattr__(name: str) -> "Any":
    from importlib import import_module, metadata

    if name == "__version__":
        return metadata.version("secondary-sinks")
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
