"""RLAIF-V for JAX: align vision-language models with open-source AI feedback, on TPUs and GPUs.

Importing this package is light: JAX is loaded by the modules that compute, not here.
"""

__version__ = "0.1.0"
