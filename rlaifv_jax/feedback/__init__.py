"""Open-source AI feedback: answers → claims → yes/no questions → scores → preference pairs.

A file for each stage: divide, question, score, pairs, best_of_n. chain.py puts them together for a config, and stage.py
is what they have in common: shards in, shards out.
`python -m rlaifv_jax.feedback --help` says how to run them.
"""
