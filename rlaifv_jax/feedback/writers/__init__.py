"""Language models that turn a prompt into a text: here on the devices, or behind a server."""

from rlaifv_jax.feedback.writers.common import DEVICES_AND_SERVERS, Writer, WriterOptions, Written, make_writer

__all__ = ["DEVICES_AND_SERVERS", "Writer", "WriterOptions", "Written", "make_writer"]
