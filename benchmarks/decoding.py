"""Times greedy decoding against other programs that run the same GPT-2.

    python benchmarks/decoding.py                    # the model of the mini preset, batch 1
    python benchmarks/decoding.py --batch_size=64    # many responses at once
    python benchmarks/decoding.py --size=small       # GPT-2 small: 124 M parameters, Y = 57,216
    python benchmarks/decoding.py --out=result.json

Every contender reads the checkpoint of one random GPT-2: this project's loop
(`conkd_jax.eval.latency`, which `python -m conkd_jax.latency` times too), Hugging Face's `generate`
in PyTorch with its defaults (eager, key-value cache), and CTranslate2 if it is installed
(`pip install ctranslate2`; this project doesn't need it). All generate the same number of tokens,
the end token is ignored, and all but int8 have to generate the same tokens, or the program stops.

The contenders take turns (A B C A B C …) and the best round of each counts, so that a busy machine
slows all of them down alike: read the ratios, not the times. The time per token is that of all
tokens after the first, divided by their number; the first token belongs to the prefill.
"""

import argparse
import importlib.util
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models

from conkd_jax.eval.latency import TimedDecoder
from conkd_jax.files import write_json
from conkd_jax.models.gpt2 import GPT2, load_pretrained

NUM_ITEMS = 6924
SIZES = {  # layers, width, heads, positions, words
    "mini": (2, 192, 4, 512, 4224),
    "small": (12, 768, 12, 1024, 50292),
}
OURS, HUGGING_FACE = "conkd_jax", "Hugging Face generate"
CTRANSLATE2 = {"CTranslate2 fp32": "float32", "CTranslate2 int8": "int8"}
UNCHECKED = "CTranslate2 int8"  # with rounded weights another token may be the most probable
MEASURES = ("prefill ms", "ms per token", "whole response ms", "responses per s")


def write_checkpoint(folder, size, seed=0):
    """Writes a random GPT-2, and a tokenizer of ids as words, which CTranslate2 requires."""
    num_layers, width, heads, positions, num_words = SIZES[size]
    num_targets = num_words + NUM_ITEMS
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=num_targets,
        n_layer=num_layers,
        n_embd=width,
        n_head=heads,
        n_positions=positions,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    model.generation_config.update(eos_token_id=None, bos_token_id=0, pad_token_id=0)
    model.save_pretrained(folder)
    words = {str(token): token for token in range(num_targets)}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="0")),
        bos_token="0",
        eos_token="0",
        unk_token="0",
    ).save_pretrained(folder)
    return model


def ours(folder, prompts, num_tokens, num_words):
    """Returns two functions: one generates the first tokens, the other whole responses."""
    spec, params = load_pretrained(folder)
    num_targets = num_words + NUM_ITEMS
    model = GPT2(spec, num_targets)
    decoder = TimedDecoder(model, params, model.head(params, num_targets), num_words, num_tokens)
    inputs = {"input_ids": prompts, "attention_mask": np.ones(prompts.shape, bool)}

    def first():
        return jax.block_until_ready(decoder.read(inputs))

    def whole():
        token, cache = decoder.read(inputs)
        rest, _ = jax.block_until_ready(decoder.write(token, cache))
        return np.concatenate([np.asarray(token)[:, None], np.asarray(rest)], axis=1).tolist()

    return first, whole


def hugging_face(model, prompts, num_tokens):
    """Returns the same two functions for PyTorch's model."""
    ids = torch.from_numpy(prompts.astype(np.int64))

    @torch.inference_mode()
    def generate(count):
        mask = torch.ones_like(ids)
        out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=count)
        return out[:, prompts.shape[1] :].tolist()

    return (lambda: generate(1)), (lambda: generate(num_tokens))


def ctranslate2(folder, kind, prompts, num_tokens):
    """Returns the same two functions for a converted model."""
    import ctranslate2 as peer

    converted = str(Path(folder) / kind)
    peer.converters.TransformersConverter(folder).convert(converted, quantization=kind)
    cores = len(os.sched_getaffinity(0))
    generator = peer.Generator(converted, compute_type=kind, intra_threads=cores)
    words = [[str(token) for token in prompt] for prompt in prompts.tolist()]

    def generate(count):
        results = generator.generate_batch(
            words,
            max_length=count,
            min_length=count,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return [result.sequences_ids[0] for result in results]

    return (lambda: generate(1)), (lambda: generate(num_tokens))


def make_contenders(folder, size, shape, num_tokens, seed=0):
    """Returns the functions (first token, whole response) of each contender, by its name."""
    num_words = SIZES[size][4]
    prompts = np.random.default_rng(seed).integers(1, num_words, shape, dtype=np.int32)
    peer = write_checkpoint(folder, size, seed)
    contenders = {
        OURS: ours(folder, prompts, num_tokens, num_words),
        HUGGING_FACE: hugging_face(peer, prompts, num_tokens),
    }
    if importlib.util.find_spec("ctranslate2"):
        for name, kind in CTRANSLATE2.items():
            contenders[name] = ctranslate2(folder, kind, prompts, num_tokens)
    return contenders


def check_agreement(contenders, num_tokens):
    """Runs all contenders once, which also compiles and warms up, and compares their tokens."""
    written = {name: (first(), whole())[1] for name, (first, whole) in contenders.items()}
    for name, tokens in written.items():
        lengths = {len(row) for row in tokens}
        if lengths != {num_tokens} or (name != UNCHECKED and tokens != written[OURS]):
            raise SystemExit(
                f"{name}: expected {num_tokens} tokens, {written[OURS][0][:8]} …; got {lengths}, "
                f"{tokens[0][:8]} …. Times of different work can't be compared."
            )


def measure(contenders, num_tokens, rounds, batch_size):
    """Returns the `MEASURES` of each contender: the best of interleaved rounds."""
    best = {name: [float("inf")] * 2 for name in contenders}
    for _ in range(rounds):
        for name, runs in contenders.items():
            for part, run in enumerate(runs):
                start = time.perf_counter()
                run()
                best[name][part] = min(best[name][part], 1e3 * (time.perf_counter() - start))
    return {
        name: dict(
            zip(
                MEASURES,
                (first, (whole - first) / (num_tokens - 1), whole, 1e3 * batch_size / whole),
                strict=True,
            )
        )
        for name, (first, whole) in best.items()
    }


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="mini")
    parser.add_argument("--prompt_length", type=int, default=64)
    parser.add_argument("--num_tokens", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the result to this file, as JSON")
    arguments = parser.parse_args()
    prompt_length, num_tokens = arguments.prompt_length, arguments.num_tokens
    shape = arguments.batch_size, prompt_length
    with tempfile.TemporaryDirectory() as folder:
        contenders = make_contenders(folder, arguments.size, shape, num_tokens)
        check_agreement(contenders, num_tokens)
        values = measure(contenders, num_tokens, arguments.rounds, arguments.batch_size)
    ratios = {
        f"{OURS} / {name}": {
            measure: values[OURS][measure] / of_name[measure] for measure in MEASURES
        }
        for name, of_name in values.items()
        if name != OURS
    }
    print(
        f"{arguments.size}: {arguments.batch_size} prompts of {prompt_length} tokens, {num_tokens} "
        "new ones for each"
    )
    print(f"{'':37s}" + "".join(f"{measure:>20s}" for measure in MEASURES))
    for name, row in (values | ratios).items():
        digits = 2 if name in values else 3
        print(f"{name:37s}" + "".join(f"{row[measure]:20.{digits}f}" for measure in MEASURES))
    if arguments.out:
        peers = ["jax", "torch", "transformers"]
        peers += ["ctranslate2"] if len(contenders) > 2 else []
        result = {
            "command": " ".join(["python", "benchmarks/decoding.py", *sys.argv[1:]]),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.default_backend()}",
            "versions": {name: version(name) for name in peers},
            "size": dict(
                zip(
                    ("layers", "width", "heads", "positions", "words"),
                    SIZES[arguments.size],
                    strict=True,
                )
            )
            | {"items": NUM_ITEMS},
            "prompt_length": prompt_length,
            "num_tokens": num_tokens,
            "batch_size": arguments.batch_size,
            "rounds": arguments.rounds,
            "values": values,
            "ratios": ratios,
        }
        write_json(arguments.out, result, indent=2)


if __name__ == "__main__":
    main()
