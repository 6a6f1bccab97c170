"""A question about a picture, as OpenAI-compatible servers take it."""

import base64
import io
from typing import Any

from PIL import Image

from rlaifv_jax.chat_server import Message
from rlaifv_jax.data import images
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.templates import IMAGE_TAG
from rlaifv_jax.data.texts import check_text

KINDS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp"}  # that every server reads


def vision_message(question: str, url: str | None) -> Message:
    """The picture first, as here; tags that stand for it in the question are left out.

    url: of `data_url`; None for a question without a picture. Raises `BadRow` for a text that is none, or too long.
    """
    check_text(question)
    while IMAGE_TAG in question:
        question = question.replace(IMAGE_TAG, "").strip()
    if url is None:
        if not question.strip():
            raise BadRow("empty_question", "there is neither an image nor a question")
        return {"role": "user", "content": question}
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    return {"role": "user", "content": parts if question else parts[:1]}


def data_url(data: bytes) -> str:
    """An encoded picture in base64. Files of KINDS are sent as they are, others as PNG. Raises `BadRow` for one that
    cannot be decoded."""
    picture = images.decode(data)
    with Image.open(io.BytesIO(data)) as file:
        kind = KINDS.get(file.format or "")
    if kind is None:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        kind, data = "png", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
