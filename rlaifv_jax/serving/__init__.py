"""An OpenAI-compatible server of one model: what `rlaifv_jax.serve` runs.

app.py          HTTP: routes, limits, errors in OpenAI's form
protocol.py     what a request may say
pictures.py     the bytes behind an image URL; remote.py fetches those of the web
prompts.py      a request → what the model takes
seating.py      the thread that owns the devices: answers join free seats and leave them
slots.py        what the devices hold; seats.py is the state that is compiled, prefixes.py what is kept of prompts
beams.py        the thread of requests for beams
replies.py      answers → choices, chunks and log-probabilities of the protocol
"""
