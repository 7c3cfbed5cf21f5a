"""The page of samples: contexts by seed, the paper's own where they are, everything escaped."""

from conkd_jax.eval.predictions import ContextTurn
from conkd_jax.eval.tables.sample_page import PAPER_CONTEXTS, sample_page
from tests.eval.predicted import prediction

TITLES = {7: "Some * Movie"}


def context(*texts):
    roles = ("recommender", "seeker")
    return tuple(ContextTurn(roles[(len(texts) - i) % 2], text) for i, text in enumerate(texts))


def page(systems, **changes):
    options = {"number": 10, "seed": 0, "split": "valid", "command": "a command", **changes}
    return sample_page(systems, TITLES, **options)


def answers(number, generated):
    return [
        prediction(dialogue=f"d{n}", context=context(f"question {n}"), generated=generated)
        for n in range(number)
    ]


def test_the_seed_alone_chooses_the_contexts():
    systems = {"one": answers(40, "yes"), "two": answers(40, "no")}
    chosen = page(systems)
    assert chosen.count("\n## ") == 11 and chosen.count("| one |") == 10
    assert page(dict(reversed(systems.items()))).count("## 1. Conversation") == 1
    others = {"three": answers(40, "perhaps")}
    headings = [line for line in chosen.splitlines() if line.startswith("## ")]
    assert [line for line in page(others).splitlines() if line.startswith("## ")] == headings
    changed = [line for line in page(systems, seed=1).splitlines() if line.startswith("## ")]
    assert changed != headings
    assert chosen == page(systems)


def test_the_papers_contexts_are_found_by_their_words():
    name = "Table 9, case 3"
    turns = [turn.replace("{}", "@7").upper() for turn in PAPER_CONTEXTS[name]]
    one = prediction(dialogue="x", context=context(*turns), generated="Try @7 |")
    found = page({"one": [one, *answers(3, "yes")]}, number=2)
    assert f"### 1. {name}" in found
    assert "Not among the contexts of valid: Table 7, case 1, Table 9, case 2." in found
    assert "Try *Some \\* Movie* \\|" in found
    assert "Not among" in page({"one": answers(3, "yes")})


def test_only_the_last_turns_are_shown():
    long = prediction(context=context(*(f"turn {n}." for n in range(7))))
    found = page({"one": [long]})
    assert "turn 2." not in found and "turn 3." in found and "*(3 earlier turns)*" in found
