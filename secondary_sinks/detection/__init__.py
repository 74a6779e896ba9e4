"""`Trace` -> `SinkTable`: primary sinks, secondary sinks, sink levels. Pure."""

from secondary_sinks.detection.criteria import Tests, is_attended, joint_tests
from secondary_sinks.detection.detect import detect
from secondary_sinks.detection.levels import cluster

__all__ = ["Tests", "cluster", "detect", "is_attended", "joint_tests"]
