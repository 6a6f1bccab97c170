"""A tiny Muffin with random weights, composed of torchscale's, PyTorch's and transformers' classes, and its files."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from tests.convert.llavas import Tensors, write_weights
from tests.convert.omnilmms import write_tokenizer
from tests.convert.torchscale_beit3 import Beit3

ADDED = ("[PAD]", "<im_patch>", "<im_start>", "<im_end>")
# Before training, and so from checkpoints.
DELETED = tuple(f"model.vision_tower.beit3.{name}" for name in ("text_embed.weight", "vision_embed.mask_token"))


def write_muffin_tokenizer(folder: Path, plain: Path) -> Path:
    """A LLaMA tokenizer with Muffin's tokens behind its own."""
    return write_tokenizer(folder, plain, chat=None, added=ADDED)


class TinyMuffin:
    """Two BEiT-3 layers (9 patches), five queries, two decoder layers."""

    def __init__(self, vocab: int = 99, seed: int = 0, gain: float = 1):
        torch.manual_seed(seed)
        self.sizes = {"encoder_embed_dim": 32, "encoder_ffn_embed_dim": 64, "encoder_layers": 2}
        self.vision = Beit3(
            5, img_size=48, patch_size=16, encoder_attention_heads=4, max_source_positions=40, **self.sizes
        )
        self.config = LlamaConfig(
            vocab_size=vocab,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            rms_norm_eps=1e-6,
            attn_implementation="eager",
        )
        self.vision.eval()
        self.projector = nn.Linear(32, 48)
        self.decoder = LlamaForCausalLM(self.config).eval()
        self.tensors: Tensors = {}
        self.deleted: Tensors = {}  # by their names in files that still have them
        with torch.no_grad():
            for name, tensor in self.parameters().items():
                if tensor.ndim == 1:  # norms and biases start at 1 and 0, which hides mistakes
                    scale = ("norm" in name or "_ln" in name) and name.endswith("weight")
                    tensor.normal_(float(scale), 0.1)
                else:
                    tensor.normal_(0, 0.15 * gain)
                (self.deleted if name in DELETED else self.tensors)[name] = tensor.detach().clone()

    def parameters(self) -> dict[str, nn.Parameter]:
        """By the names they have in files."""
        vision = {name if name == "query" else f"vision_tower.{name}": p for name, p in self.vision.named_parameters()}
        projector = {f"mm_projector.{name}": p for name, p in self.projector.named_parameters()}
        return {f"model.{name}": p for name, p in (vision | projector).items()} | dict(self.decoder.named_parameters())

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [N, 3, height, width] → [N, Q, D]."""
        return self.projector(self.vision(pixels))

    def embeddings(self, ids: torch.Tensor, image: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """ids [N, T]; image [N, T]: which feature of the row's picture stands there, -1 for text."""
        x, found = self.decoder.model.embed_tokens(ids), self.features(pixels)
        rows = torch.arange(len(ids))[:, None]
        return torch.where((image >= 0)[..., None], found[rows, image.clamp(min=0)], x)

    def logits(self, ids: torch.Tensor, image: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        x = self.embeddings(ids, image, pixels)
        return self.decoder(inputs_embeds=x, attention_mask=torch.ones_like(ids)).logits

    def json(self) -> dict[str, Any]:
        """config.json as the original writes it, with the tower's sizes, which its name does not tell."""
        text = json.loads(self.config.to_json_string(use_diff=False))
        text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
        return text | {
            "architectures": ["Beit3LlavaLlamaForCausalLM"],
            "model_type": "beit3_llava",
            "num_query": 5,
            "max_sequence_length": 2048,
            "mm_use_im_start_end": True,
            "mm_vision_tower": "a_tiny_tower",
            "vision_config": {
                "model_type": "beit3",
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "image_size": 48,
                "patch_size": 16,
                "layer_norm_eps": 1e-5,
                "max_source_positions": 40,
            },
        }

    def write(
        self,
        folder: Path,
        form: str = "safetensors",
        tokenizer: Path | None = None,
        more: Tensors | None = None,
        **config: Any,
    ) -> Path:
        """A checkpoint directory. more: tensors beside those of the model."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.json() | config))
        write_weights(folder, self.tensors | (more or {}), form)
        if tokenizer is not None:
            for file in tokenizer.iterdir():
                shutil.copy(file, folder)
        return folder
