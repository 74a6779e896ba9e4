"""One module per question of the paper; each runs with `python -m experiments.NAME`."""
