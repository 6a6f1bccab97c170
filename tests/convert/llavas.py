"""A tiny LLaVA with random weights, written to disk in every form that exists in the wild."""

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

Tensors = dict[str, torch.Tensor]
FORMATS = ("safetensors", "safetensors-shards", "bin", "bin-shards")

# Prefixes in transformers 5's own state dict → those of each layout, longest first.
PREFIXES = {
    "original": (
        ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
        ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
        ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
        ("model.language_model.", "model."),
    ),
    "llava-hf": (
        ("model.vision_tower.", "vision_tower.vision_model."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
        ("model.image_newline", "image_newline"),
    ),
    "transformers-5": (),
    "transformers-5-new": (
        ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
        ("model.image_newline", "image_newline"),
    ),
    "transformers-4.52": (("model.vision_tower.", "model.vision_tower.vision_model."),),
}


class TinyLlava:
    """Three tower layers, two decoder layers, four patches an image."""

    image_size = 28
    # What the original's config.json says of pictures.
    pictures: ClassVar[dict[str, Any]] = {"image_aspect_ratio": "pad"}

    def __init__(self, kv_heads: int, vocab: int = 99, theta: float = 500.0, seed: int = 0):
        torch.manual_seed(seed)
        tower = CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=self.image_size,
            patch_size=14,
        )
        text = LlamaConfig(
            vocab_size=vocab,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=kv_heads,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_theta": theta, "rope_type": "default"},
        )
        options = {"image_token_index": vocab - 1, "attn_implementation": "eager"}
        self.torch = self.make(vision_config=tower, text_config=text, **options).eval()
        self.config = self.torch.config
        with torch.no_grad():
            for name, tensor in self.torch.named_parameters():
                if tensor.ndim == 1:  # norms and biases start at 1 and 0, which hides mistakes
                    tensor.normal_(float("norm" in name and name.endswith("weight")), 0.1)
                else:
                    tensor.normal_(0, 0.15)
        self.tensors: Tensors = {name: tensor.clone() for name, tensor in self.torch.state_dict().items()}

    @staticmethod
    def make(**config: Any) -> Any:
        """transformers' model."""
        return LlavaForConditionalGeneration(LlavaConfig(**config))

    def named(self, layout: str) -> Tensors:
        """The tensors under the names of a layout."""

        def rename(name: str) -> str:
            for old, new in PREFIXES[layout]:
                if name.startswith(old):
                    return new + name.removeprefix(old)
            return name

        return {rename(name): tensor for name, tensor in self.tensors.items()}

    def json(self, layout: str) -> dict[str, Any]:
        """config.json as the tool that writes this layout writes it."""
        values = json.loads(self.config.to_json_string(use_diff=False))
        text, tower = values["text_config"], values["vision_config"]
        rope = text.pop("rope_parameters")
        if layout.startswith("transformers-5"):
            text["rope_parameters"] = rope
            return values
        text |= {"rope_theta": rope["rope_theta"], "rope_scaling": None}
        if layout != "original":
            return values
        names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        names += ("num_key_value_heads", "rms_norm_eps", "rope_theta", "rope_scaling", "hidden_act")
        return {
            "architectures": ["LlavaLlamaForCausalLM"],
            "model_type": "llava_llama",
            **{name: text[name] for name in names},
            "mm_projector_type": "mlp2x_gelu",
            "mm_vision_select_layer": -2,
            "mm_vision_select_feature": "patch",
            "mm_vision_tower": "openai/clip-vit-large-patch14-336",
            "mm_use_im_start_end": False,
            "mm_use_im_patch_token": False,
            **self.pictures,
            "torch_dtype": "float32",
            "vision_config": tower,
        }

    def write(
        self,
        folder: Path,
        layout: str = "original",
        form: str = "safetensors",
        tensors: Tensors | None = None,
        tokenizer: Path | None = None,
        **config: Any,
    ) -> Path:
        """A checkpoint directory."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.json(layout) | config))
        write_weights(folder, self.named(layout) if tensors is None else tensors, form)
        if tokenizer is not None:
            for file in tokenizer.iterdir():
                shutil.copy(file, folder)
        return folder


def write_weights(folder: Path, tensors: Tensors, form: str = "safetensors", stem: str = "") -> None:
    """Weights in one file or two, by the libraries people use."""
    suffix = "safetensors" if form.startswith("safetensors") else "bin"
    stem = stem or ("model" if suffix == "safetensors" else "pytorch_model")

    def save(part: Tensors, name: str) -> None:
        part = {key: tensor.contiguous() for key, tensor in part.items()}
        if suffix == "safetensors":
            save_file(part, folder / name, metadata={"format": "pt"})
        else:
            torch.save(part, folder / name)

    if not form.endswith("shards"):
        save(tensors, f"{stem}.{suffix}")
        return
    names = list(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"{stem}-{number:05d}-of-00002.{suffix}"
        save({name: tensors[name] for name in part}, file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
