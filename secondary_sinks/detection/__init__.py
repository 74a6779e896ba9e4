"""`Trace` -> `SinkTable`: primary sinks, secondary sinks, sink levels. Pure."""

from secondary_sinks.detection.criteria import Tests, is_attended, joint_tests
from secondary_sinks.detection.detect import detect
from secondary_sinks.detection.explain import criteria_frame, explain
from secondary_sinks.detection.levels import cluster
from secondary_sinks.detection.paper import PaperTests, clip, paper_label, paper_tests
from secondary_sinks.detection.sweep import threshold_sweep

__all__ = [
    "PaperTests",
    "Tests",
    "clip",
    "cluster",
    "criteria_frame",
    "detect",
    "explain",
    "is_attended",
    "joint_tests",
    "paper_label",
    "paper_tests",
    "threshold_sweep",
]
