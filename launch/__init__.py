"""What a compiled step will do on a chip that is not here: memory, operations, traffic and a bound of its speed.

`python -m launch.compile` compiles for a TPU slice on any host and prints the report. The parts below it are
pure functions over the compiler's text: hlo (its structure), collectives, traffic, bound and chips.
"""
