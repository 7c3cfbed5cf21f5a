"""Ways to decode, and the table and figure of what they give."""

from conkd_jax.eval.tables.tradeoff import draw_tradeoff, tradeoff_document, tradeoff_table, ways
from tests.eval.drawn_figures import assert_is_picture


def test_every_value_is_varied_by_itself(tmp_path):
    chosen = ways([1.0, 0.5, 0.5], [0.9], [4], seed=3)
    assert [way.label for way in chosen] == [
        *("greedy", "temperature 0.5", "temperature 1", "top-p 0.9", "beams 4"),
    ]
    cold, nucleus, beams = chosen[1].search, chosen[3].search, chosen[4].search
    assert (cold.strategy, cold.temperature, cold.top_p, cold.seed) == ("sample", 0.5, 1.0, 3)
    assert (nucleus.temperature, nucleus.top_p) == (1.0, 0.9)
    assert (beams.strategy, beams.beam_width, beams.seed) == ("beam", 4, 0)
    metrics = {"judge_ppl": 9.0, "judge_ppl_word": 8.0, "dist-2": 0.1, "f1@10": 0.05}
    references = {"judge_ppl": 60.0, "judge_ppl_word": 40.0, "dist-2": 0.4}
    document = tradeoff_document(
        dict.fromkeys(chosen, metrics),
        references,
        facts={"run": "dialogpt", "split": "dev", "n_responses": 10},
        command="a command",
        machine="a machine",
    )
    assert [point["label"] for point in document["points"]] == [way.label for way in chosen]
    table = tradeoff_table(document)
    (ours, (last,)) = table.groups
    assert len(ours) == 5 and last.label == "references" and last.cells[0].value == 60.0
    draw_tradeoff(document, tmp_path / "tradeoff.png")
    assert_is_picture(tmp_path / "tradeoff.png")
