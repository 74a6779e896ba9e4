"""Sweeps over models, texts and edits: planned, computed, resumed, merged."""

from secondary_sinks.sweeps.config import SweepConfig
from secondary_sinks.sweeps.merge import merge
from secondary_sinks.sweeps.run import run
from secondary_sinks.sweeps.status import sweep_status
from secondary_sinks.sweeps.sweep import Summary, sweep
from secondary_sinks.sweeps.tasks import ModelSpec
from secondary_sinks.sweeps.verify import verify

__all__ = ["ModelSpec", "Summary", "SweepConfig", "merge", "run", "sweep", "sweep_status", "verify"]
