"""Open-source AI feedback: answers → claims → yes/no questions → scores → preference pairs.

One file for each stage (divide, question, score, pairs, best_of_n), and each stage a function from shards to shards.
`python -m rlaifv_jax.feedback --help` says how to run them.
"""
