"""Benchmarks of hallucination: answers in, scores out. `python -m eval --help`."""
