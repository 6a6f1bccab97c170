"""Answers by transformers and PyTorch from an exported checkpoint, which proves the export: another program's weights,
tokenizer, chat template and picture processing.

Only for LLaVA-1.5 the picture is made square here first, as the original does and transformers' processor does not.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from convert.export_config import KINDS
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.images import pad_to_square
from rlaifv_jax.data.questions import Questions
from rlaifv_jax.errors import UserError
from rlaifv_jax.records.answer_file import AnswerFile, is_complete


def generate(how: Any, questions: Path, answers: Path, folder: Path) -> None:
    """Answer a file of questions as `eval.generation.Generation` says; goes on behind what is finished.

    Raises:
      UserError: PyTorch is missing, or the directory is nothing that transformers opens.
    """
    asked = Questions(str(questions), image_folder=str(folder))
    identity = {"questions": asked.fingerprint, **asdict(how)}
    if is_complete(str(answers), identity):
        return
    speaker = Transformers(how)
    file = AnswerFile(str(answers), identity, len(asked), 1)
    for question in tqdm(
        [one for one in asked.asked if one.index not in file.done], unit="answer", desc="transformers"
    ):
        try:
            text, error = speaker.answer(question.text, asked.picture(question)), None
        except BadRow as fault:
            text, error = "", str(fault)
        file.add(question.index, asked.answers(question, [text], how.model, error))
    file.finish()


class Transformers:
    """A checkpoint in the llava-hf layout, of LLaVA-1.5 or LLaVA-NeXT."""

    def __init__(self, how: Any):
        try:
            import torch
            import transformers
        except ImportError as error:
            raise UserError(f"--engine transformers needs PyTorch: {error}") from None
        if how.template or how.vision_path:
            raise UserError(
                "--engine transformers speaks as the exported directory says; leave out --template and --vision-path"
            )
        if how.repetition_penalty != 1 or how.image_aspect_ratio:
            raise UserError(
                "--engine transformers counts the prompt's tokens as repeated, too, and prepares pictures in its own "
                "way; leave out --repetition-penalty and --image-aspect-ratio"
            )
        self.torch, self.how = torch, how
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = getattr(torch, how.dtype or ("float32" if self.device == "cpu" else "bfloat16"))
        try:
            kind = KINDS[transformers.AutoConfig.from_pretrained(how.model).model_type]
            self.pads = kind is KINDS["llava"]
            self.processor = transformers.AutoProcessor.from_pretrained(how.model)
            model: Any = getattr(transformers, kind.architecture).from_pretrained(how.model, dtype=dtype)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"--model: transformers cannot open {how.model} ({reason}); write it with python -m convert export "
                "--layout llava-hf"
            ) from None
        self.model = model.to(self.device).eval()

    def answer(self, question: str, picture: Any) -> str:
        content: list[dict[str, str]] = [{"type": "image"}] * (picture is not None)
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]
        prompt = self.processor.apply_chat_template(messages, add_generation_prompt=True)
        pictures = {} if picture is None else {"images": [pad_to_square(picture) if self.pads else picture]}
        inputs = self.processor(text=[prompt], **pictures, return_tensors="pt").to(self.device)
        if pictures:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        how = self.how
        drawn: dict[str, Any] = {"do_sample": bool(how.temperature)}
        if how.temperature:
            self.torch.manual_seed(how.seed)
            drawn["temperature"] = how.temperature
        with self.torch.inference_mode():
            found: Sequence[Any] = self.model.generate(
                **inputs, num_beams=how.num_beams, max_new_tokens=how.max_new_tokens, **drawn
            )
        behind = found[0][inputs["input_ids"].shape[1] :]
        return str(self.processor.decode(behind, skip_special_tokens=True)).strip()
