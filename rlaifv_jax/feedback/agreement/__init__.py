"""Several labelers on the same claims: `python -m rlaifv_jax.feedback agreement`.

claims.py     records of the score stage → who says what of every claim
measures.py   agreement of two, calibration of one, on arrays
report.py     tables, JSON, Markdown
chart.py      the reliability diagram
command.py    the command
"""
