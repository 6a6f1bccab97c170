"""What a changed setting brings with it."""

from rlaifv_jax.generate import candidates
from rlaifv_jax.sampling.settings import Sampling

CHAT = Sampling(num_beams=3, max_new_tokens=1024)
CHAT_12B = Sampling(temperature=0.6, top_k=30, top_p=0.9, repetition_penalty=1.1, num_beams=3)


def test_a_temperature_instead_of_beams() -> None:
    assert CHAT.changed({"temperature": 0.7}, {}) == Sampling(0.7, 50, max_new_tokens=1024)
    assert CHAT.changed({"temperature": 0.7}, {"top_k": None, "top_p": 0.9}).top_p == 0.9
    assert CHAT.changed({"temperature": 0.7, "num_beams": 2, "top_k": 5}, {}).num_beams == 2
    assert CHAT.changed({}, {"top_k": 7}) == CHAT
    assert CHAT_12B.changed({"num_beams": 2}, {}).draws
    assert CHAT_12B.changed({"temperature": 0.9}, {"top_k": 7}).top_k == 30


def test_nothing_is_drawn_without_a_temperature() -> None:
    greedy = CHAT_12B.changed({"temperature": 0}, {})
    assert (greedy.top_k, greedy.top_p, greedy.num_beams) == (0, 1.0, 3)
    searched = candidates({}).changed({"num_beams": 3}, {})
    assert (searched.temperature, searched.top_k, searched.num_beams) == (0, 0, 3)


def test_candidates_are_the_original_s() -> None:
    assert candidates({}) == Sampling(temperature=0.7, top_k=50, max_new_tokens=512)
    said = {"top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05, "temperature": 0.1, "max_length": 9}
    assert candidates(said) == Sampling(0.7, 20, 0.8, 1.05, max_new_tokens=512)
