"""`Trace` -> `SinkTable`: primary sinks, secondary sinks, sink levels, primary weakening. Pure."""

from secondary_sinks.detection.authors import Released, read_released, relabel, write_released
from secondary_sinks.detection.compare import compare
from secondary_sinks.detection.criteria import Tests, is_attended, joint_tests, lasting_sinks, lasts
from secondary_sinks.detection.detect import across_texts, detect
from secondary_sinks.detection.explain import criteria_frame, explain
from secondary_sinks.detection.levels import LEAST_TEXTS, cluster, counts_for_levels
from secondary_sinks.detection.paper import PaperTests, clip, paper_label, paper_tests
from secondary_sinks.detection.phenomenon import (
    Phenomenon,
    compare_with_paper,
    middle_layers,
    phenomenon,
)
from secondary_sinks.detection.prefixes import first_texts, n_alike, prefix_key, shared_lengths
from secondary_sinks.detection.stability import find_levels
from secondary_sinks.detection.sweep import threshold_sweep
from secondary_sinks.detection.weakening import WINDOW as WEAKENING_WINDOW
from secondary_sinks.detection.weakening import primary_weakening

__all__ = [
    "LEAST_TEXTS",
    "WEAKENING_WINDOW",
    "PaperTests",
    "Phenomenon",
    "Released",
    "Tests",
    "across_texts",
    "clip",
    "cluster",
    "compare",
    "compare_with_paper",
    "counts_for_levels",
    "criteria_frame",
    "detect",
    "explain",
    "find_levels",
    "first_texts",
    "is_attended",
    "joint_tests",
    "lasting_sinks",
    "lasts",
    "middle_layers",
    "n_alike",
    "paper_label",
    "paper_tests",
    "phenomenon",
    "prefix_key",
    "primary_weakening",
    "read_released",
    "relabel",
    "shared_lengths",
    "threshold_sweep",
    "write_released",
]
