"""Records of experiments, as verdict.json has them."""

from experiments.written import without_nan


def record_of(name, outcome="supported", value=0.8125, why="because | of *this*"):
    verdict = {
        "claim": "a claim",
        "outcome": outcome,
        "why": why,
        "statistic": "share of sinks",
        "value": value,
        "low": value - 0.125,
        "high": value + 0.125,
        "confidence": 0.95,
        "controls": "twins",
        "n_sinks": 12,
        "n_texts": 4,
    }
    made = {"asked": {"model": "m", "texts": None}, "options": {}}
    whole = {"name": name, "question": "q", "verdict": verdict, "further": [], "provenance": made}
    return without_nan(whole | {"captions": {"figure": "shows *this*"}})
