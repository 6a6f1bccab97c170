"""Every key a run can have, with its default. Experiments import this and change what they need.

    from configs import base
    def get_config():
        config = base.get_config()
        config.train.steps = 100
        return config.lock()

A key that is not here cannot be set: a misspelt override stops the command before it starts.
Where a default equals the published recipe of RLAIF-V (script/train/llava15_train.sh), nothing is said.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.output_dir = "out/run"  # checkpoints, metrics and caches of the run; a local path or gs://…

    # What to start from: a Hugging Face directory, a hub id, or a directory that this project wrote.
    # vision_path supplies the image tower where a LLaVA checkpoint ships without one; empty: the tower it names.
    config.model = ConfigDict({"path": "", "vision_path": ""})

    config.data = ConfigDict()
    config.data.path = ""  # parquet file, directory, glob, JSONL, or hub id
    config.data.eval_path = ""  # held-out pairs in the same forms
    config.data.eval_fraction = 0.0  # or this share of data.path, chosen by the seed
    config.data.bad_rows = "skip"  # 'skip' reports and counts them, 'fatal' stops before training
    config.data.template = ""  # conversation template; empty: the checkpoint's or its family's
    config.data.max_length = 0  # tokens of prompt + image + one answer; the tail is cut; 0: 2048, of LLaVA-NeXT 4096
    config.data.image_aspect_ratio = ""  # 'crop', 'pad', 'squash', 'anyres', 'slices'; empty: as the original trains
    # 'muffin': random crops, flips and RandAugment as RLHF-V trained. Its views are the 'same' for reference and policy
    # at every step, or 'fresh' ones for each step of training, which then compares log-probs of different pictures.
    config.data.augment = ""
    config.data.augment_views = "same"
    config.data.workers = 8  # processes that decode images; 0 reads in the training process

    config.train = ConfigDict()
    config.train.objective = "dpo"  # or 'sft'
    config.train.steps = 0  # optimizer steps; 0: as many as train.epochs take
    config.train.epochs = 4.0
    config.train.batch_pairs = 8  # pairs in an optimizer step, over all devices and micro-steps
    config.train.accumulate = 1  # micro-steps in an optimizer step
    config.train.row_length = 0  # tokens in a row; 0: what fills best, longest_row at most if no pair is longer
    config.train.longest_row = 2048
    config.train.pairs_per_row = 0  # most pairs in a row; 0: as many as pay, 1: no packing
    config.train.vision = False  # also train the image tower (the original's receives no gradient)
    config.train.projector = True  # False: projector or resampler stay as they are
    # What the backward pass keeps of each layer: 'full' recomputation keeps only its input, 'attention' also the output
    # of attention (so it runs once; not with 'dense'), 'dots' also all products with weights, 'none' everything.
    config.train.remat = "attention"
    config.train.vocab_block = 4096  # most columns of the vocabulary to hold logits of at once
    config.train.log_every = 1  # steps between lines of metrics.jsonl
    config.train.eval_every = 0  # steps between evaluations; 0: at checkpoints

    # Low-rank adapters (arXiv 2106.09685) beside the decoder's linear maps, instead of training the decoder itself.
    config.lora = ConfigDict()
    config.lora.rank = 0  # 0: no adapters
    config.lora.alpha = 16.0  # what adapters add is multiplied by alpha / rank
    config.lora.dropout = 0.05  # of what goes into adapters, in training
    config.lora.targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    config.lora.base = ""  # the decoder's own weights: in precision.compute, or 'int8', which halves them

    config.optim = ConfigDict()
    config.optim.lr = 5e-7
    config.optim.weight_decay = 0.01
    config.optim.warmup_ratio = 0.05
    config.optim.beta1 = 0.9
    config.optim.beta2 = 0.999
    config.optim.eps = 1e-8
    config.optim.grad_clip = 0.0  # bound on the global norm; 0: none, as the original effectively has
    config.optim.first_moment = "float32"  # 'bfloat16' saves 2 bytes a parameter

    config.dpo = ConfigDict()
    config.dpo.beta = 0.1
    config.dpo.average = False  # mean instead of sum over the tokens of an answer (weighted, where they have weights)
    config.dpo.sft_weight = 0.0  # adds -sft_weight · log π(chosen)
    config.dpo.loss = "sigmoid"  # or 'ipo' (arXiv 2310.12036)
    config.dpo.label_smoothing = 0.0  # how often labels are taken to be wrong: conservative DPO
    config.dpo.reference_free = False  # no reference model: nothing is computed before training
    # Dense DPO (RLHF-V): what a token weighs in which the two answers of a pair differ. Tokens are compared in the
    # answers alone ('answers'), or as the original does it: 'difflib_autojunk', 'padded_batch' (docs/data.md).
    config.dpo.token_weight = 1.0
    config.dpo.difference = "answers"

    # Log-probs of the reference model, computed once before training.
    config.reference = ConfigDict()
    config.reference.path = ""  # where they are kept; empty: OUTPUT_DIR/reference
    config.reference.trust = False  # use what is there without checking that it belongs to this model and data
    config.reference.shard_rows = 1000  # rows in a parquet file, and the most that a kill can lose
    config.reference.bfloat16 = False  # round the sums as the original does by accident

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 0.25  # epochs (below 1) or steps (1 and more) between checkpoints
    config.checkpoint.keep = 2  # newest checkpoints kept in full; of the others only bfloat16 weights
    config.resume = ConfigDict({"allow_changed": False})  # go on although the config differs from the run's

    config.guard = ConfigDict()
    # A loss or gradient that is not finite: 'stop' ends the run, 'skip' leaves the parameters and goes on with the next
    # step, up to this many times in a row.
    config.guard.nonfinite = "stop"
    config.guard.nonfinite_steps = 10
    config.guard.hang_seconds = (
        1800.0  # without a finished step, after which stacks are told and the run ends; 0: never
    )

    config.profile = ConfigDict({"steps": ""})  # '10:13' traces these steps into OUTPUT_DIR/profile, for xprof
    config.compile_cache = "auto"  # where compiled programs are kept; 'auto': OUTPUT_DIR/cache/xla, empty: nowhere

    # Devices: data × fsdp × tensor; -1 takes the rest.
    config.mesh = ConfigDict({"data": 1, "fsdp": -1, "tensor": 1})
    config.precision = ConfigDict({"compute": "bfloat16", "params": "float32"})

    # 'auto': Pallas kernels on TPUs and GPUs ('flash_tpu', 'flash_gpu'), 'blocked' on CPUs. Or 'dense', the reference.
    # The image tower can have another ('cudnn' too, on GPUs); empty: the same.
    config.attention = ConfigDict({"backend": "auto", "tower": ""})

    # Optional Weights & Biases: the project's name; empty: off.
    config.wandb = ConfigDict({"project": "", "name": ""})
    return config.lock()
