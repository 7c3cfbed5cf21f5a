"""What a data report says about a corpus of any kind of item."""

import re

from data_prep.report import content_warnings


def test_warnings_of_any_corpus_name_no_file_of_another():
    report = {
        "splits": {"train": {"item_mentions": 0, "unknown_movie_ids": 3}},
        "graph": {"items": 4, "items_linked": 0, "concepts": 0, "concept_edges": 0}
        | {"concept_edges_kept": 0},
        "linking": {},
    }
    unknown, unlinked, _ = content_warnings(report)
    assert "items of the list 0 times" in unknown and "list of items belongs" in unknown
    assert "none of the 4 items is linked" in unlinked
    assert not re.search(r"movie|\.pkl", unknown + unlinked)
    redials = content_warnings(report, item_list="movie list", link_files="id2entity.pkl")
    assert "the movie list belongs" in redials[0]
    assert "Check that id2entity.pkl belong to the movie list." in redials[1]
