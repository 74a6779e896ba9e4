"""The circuit of a sink: what triggers it, what writes it, who reads it, what it is for.

Each part is a question of the table: its answer has one row per edge (`Edge`) in `cells`, their
means by level (`by_level`) in `effects`, and verdicts over texts.
"""

from secondary_sinks.questions.circuit.edges import Edge, by_level, edges_frame

__all__ = ["Edge", "by_level", "edges_frame"]
