"""RLAIF-V for JAX: align vision-language models with open-source AI feedback, on TPUs and GPUs.

    from rlaifv_jax import Chat
    Chat("models/RLAIF-V-7B").chat("photo.jpg", "What is on the table?")

Importing this package is light: JAX is loaded by the modules that compute, not here.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["Chat", "RLAIFVChat", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("Chat", "RLAIFVChat"):  # the latter as the original calls it
        from rlaifv_jax.chat import Chat

        return Chat
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
