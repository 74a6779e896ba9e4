"""How we measure ourselves: equality with originals, memory, costs. Run as `python -m tools.NAME`."""
