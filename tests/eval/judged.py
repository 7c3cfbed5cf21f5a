"""A small human evaluation, drawn and judged by rule, for the tests of everything around it."""

import csv
import io

import numpy as np

from conkd_jax.eval.human.sheets import COLUMNS, SCALE_NAMES
from conkd_jax.eval.human.study import Shown, Study, System, draw_study, shown_contexts
from conkd_jax.eval.predictions import ContextTurn
from tests.eval.predicted import prediction

NAMES = ("dialogpt-mini-seed0", "dialogpt_hard-mini-seed0")
NASTY = '=1+1 </script><img src="x" onerror="alert(1)"> & "quoted", | \u202e@7 😀'


def answers(system: str, num_responses: int = 12, per_dialogue: int = 2) -> dict:
    """Responses by key; texts show which system wrote them without its name."""
    mark = "first" if system == NAMES[0] else "second"
    made = [
        prediction(
            dialogue=f"d{n // per_dialogue}",
            turn=1 + 2 * (n % per_dialogue),
            context=(ContextTurn("seeker", f"question {n}\n{NASTY}"),),
            tops=[(7,)],
            mentioned_items=(7,),
            generated=f"{mark} answer {n} {NASTY}",
        )
        for n in range(num_responses)
    ]
    return {each.key: each for each in made}


def systems(*names: str, corpus: str = "redial") -> list[System]:
    return [
        System(name, name.split("-")[0], "dialogpt", corpus, "0" * 64) for name in names or NAMES
    ]


def study(num_contexts: int = 5, num_annotators: int = 3, seed: int = 0) -> Study:
    return draw_study(
        systems(),
        [answers(name) for name in NAMES],
        num_contexts=num_contexts,
        num_annotators=num_annotators,
        seed=seed,
    )


def shown(drawn: Study) -> tuple[Shown, ...]:
    return shown_contexts(drawn, [answers(name) for name in NAMES], {7: "Gladiator (2000)"})


def scores(drawn: Study, annotators=None) -> np.ndarray:
    """The scores in `rows`: no two annotators, systems or scales are judged alike throughout."""
    numbers = annotators or range(1, len(drawn.sheets) + 1)
    table = np.zeros(
        (len(list(numbers)), len(drawn.contexts), len(drawn.systems), len(SCALE_NAMES)), int
    )
    a, c, s, k = np.indices(table.shape)
    return (np.array(list(numbers))[a] ** 2 * (c + 1) + 2 * s * c + s + k * (c + 2)) % 3


def rows(drawn: Study, annotator: int) -> list[dict[str, str]]:
    """A filled sheet, in its own order."""
    table = scores(drawn)[annotator - 1]
    return [
        {"study": drawn.id, "id": entry.id}
        | dict(zip(SCALE_NAMES, map(str, table[entry.context, entry.system]), strict=True))
        for entry in drawn.sheets[annotator - 1]
    ]


def csv_bytes(filled: list[dict[str, str]], columns=COLUMNS, encoding="utf-8", **form) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns, **form)
    writer.writeheader()
    writer.writerows(filled)
    return file.getvalue().encode(encoding)
