r"""How long a student has to be trained: 1, 2, 4 and 8 times the preset's epochs, scored on dev.

Each length has a schedule of its own, stretched to it; teachers, store and classifier are shared.
Ranking is learned late, at the few item steps that there are, so a training may be long enough for
its perplexity and too short for its items. Not in the paper. Writes `sweep.md`, `sweep.json` and
`sweep.png` beside the runs; the dev scores of all epochs of all lengths, in one figure, come from

    python -m conkd_jax.tables --curves runs/SWEEP --figure=curves.png --json=curves.json

Any other row is swept in the same way. The fine-tuned model has no student; its field is another:

    python -m conkd_jax.train --config=configs/dialogpt.py:mini \
        --config.sweep.field=dialogue_teacher.epochs --config.sweep.over="(8,16,32,64)"

With `:mini` the four students together take fifteen times as long as one with the preset's epochs.

    python -m conkd_jax.train --config=configs/sweeps/epochs.py:mini
    python -m conkd_jax.train --config=configs/sweeps/epochs.py:mini,backbone=kgsf
"""

from configs import dialogpt_hard

LENGTHS = (1, 2, 4, 8)  # times the preset's


def get_config(argument: str = ""):
    config = dialogpt_hard.get_config(argument)
    config.evaluation.split = "dev"  # never choose a setting on the reported split
    config.sweep.field = "student.epochs"
    config.sweep.over = tuple(length * config.student.epochs for length in LENGTHS)
    config.paper_row = ""  # the paper has no sweep
    return config
