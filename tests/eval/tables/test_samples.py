"""Samples side by side: the same histories, readable, whatever people typed."""

import pytest
from rich.console import Console

from conkd_jax.data.mentions import tokens
from conkd_jax.eval.predictions import ContextTurn, ItemStep, Prediction
from conkd_jax.eval.tables.samples import (
    samples_as_latex,
    samples_for_terminal,
    samples_page,
    samples_side_by_side,
)

TITLES = {5: "Gladiator (2000)", 7: "Se7en (1995)", 8: "M*A*S*H (1970) [remastered]"}


def prediction(turn=1, dialogue="1", generated="Try @5", **changes) -> Prediction:
    fields = {
        "conversation_id": dialogue,
        "turn": turn,
        "turn_type": "rec",
        "predicted_turn_type": "rec",
        "context": (ContextTurn("seeker", "I *like* | @8\nand <b>_@99_</b>"),),
        "mentioned_items": (8,),
        "reference": "Have you seen @7?",
        "reference_items": (7,),
        "reference_items_out_of_vocabulary": (),
        "generated": generated,
        "generated_tokens": tuple(tokens(generated)),
        "generated_items": (5,),
        "item_steps": (ItemStep(1, 5, (5, 7, 8)),),
        "recommender_top": (8, 5),
        "token_nll": (1.0, 2.0),
        "token_is_item": (False, True),
    }
    return Prediction(**(fields | changes))


def test_samples_show_titles_systems_and_hits():
    ours = [prediction(dialogue=str(i)) for i in range(5)]
    others = [prediction(dialogue=str(i), generated="Hello", item_steps=()) for i in range(5)]
    text = samples_page({"student": ours, "vanilla | x": others}, TITLES, num_samples=2)
    assert text.count("\n## ") == 2
    assert "## 1. Conversation 0, turn 1" in text
    assert "| reference | rec | Have you seen *Se7en (1995)*? |" in text
    assert (
        "| student | rec | Try *Gladiator (2000)* | *Gladiator (2000)*, *Se7en (1995)* ✓, "
        r"*M\*A\*S\*H (1970) \[remastered\]* |"
    ) in text
    assert r"| vanilla \| x | rec | Hello |" in text
    assert "| recommender alone |" in text


def test_samples_escape_what_people_typed():
    text = samples_page({"student": [prediction()]}, TITLES)
    line = next(line for line in text.splitlines() if "Seeker" in line)
    assert r"I \*like\* \|" in line
    assert r"and \<b\>\_@99\_\</b\>" in line  # no title: the id stays
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.replace(r"\|", "").count("|") for line in table} == {5}


def test_an_id_of_thousands_of_digits_stays_text():
    text = samples_page({"s": [prediction(generated="@" + "7" * 5000)]}, TITLES)
    assert "@" + "7" * 5000 in text


def test_samples_survive_half_a_surrogate_pair(tmp_path):
    text = samples_page({"s": [prediction(generated="\ud83d ok\x00")]}, TITLES)
    (tmp_path / "samples.md").write_text(text, encoding="utf-8")
    assert " ok |" in text


def test_samples_are_spread_over_what_all_systems_answered():
    ours = [prediction(dialogue=str(i)) for i in range(100)]
    theirs = [prediction(dialogue=str(i)) for i in range(50, 100)]
    text = samples_page({"a": ours, "b": theirs}, TITLES, num_samples=5)
    heads = [line.split()[3] for line in text.splitlines() if line.startswith("## ")]
    assert heads == ["50,", "60,", "70,", "80,", "90,"]
    with pytest.raises(ValueError, match="answered, got none"):
        samples_page({"a": ours[:5], "b": theirs}, TITLES)
    with pytest.raises(ValueError, match="at least one system"):
        samples_page({}, TITLES)


def test_only_histories_whose_reference_names_an_item():
    ours = [prediction(dialogue=str(i), reference_items=(7,) if i % 2 else ()) for i in range(6)]
    chosen, total = samples_side_by_side({"a": ours}, num_samples=2, with_items=True)
    assert [sample.conversation_id for sample in chosen] == ["1", "3"]
    assert total == 3


def test_a_system_that_says_little_has_its_line():
    bare = prediction(item_steps=None, recommender_top=None, predicted_turn_type=None, context=())
    text = samples_page({"theirs": [bare]}, TITLES)
    assert "| theirs | – | Try *Gladiator (2000)* |  |" in text
    assert "recommender alone" not in text


def test_the_terminal_shows_titles_and_hits(capsys):
    chosen, _ = samples_side_by_side({"student": [prediction()]}, num_samples=1)
    Console(width=140).print(samples_for_terminal(chosen, TITLES))
    shown = capsys.readouterr().out
    assert "Seeker: I *like* | M*A*S*H (1970) [remastered] and <b>_@99_</b>" in shown
    assert "Try Gladiator (2000)" in shown
    assert "Se7en (1995) ✓" in shown


def test_latex_is_escaped():
    chosen, _ = samples_side_by_side({"a_b": [prediction(generated="100 % @5")]}, num_samples=1)
    text = samples_as_latex(chosen, TITLES)
    assert r"a\_b & 100 \% \emph{Gladiator (2000)} & " in text
    assert r"\emph{Se7en (1995)} $\ast$" in text
    assert text.count(r"\begin{table*}") == 1
    assert "✓" not in text
