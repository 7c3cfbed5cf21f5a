"""The hashes of a config, which say which runs differ in seeds alone."""

from conkd_jax import config as conkd
from conkd_jax import run_document


def test_the_hash_leaves_out_what_changes_no_number():
    first = conkd.frozen(conkd.base())
    same = {"paper_row": "KGSF", "runs_dir": "elsewhere", "corpus.raw_dir": "elsewhere"}
    assert run_document.config_sha256(first) == run_document.config_sha256(first.replace(same))
    assert run_document.config_sha256(first) != run_document.config_sha256(
        first.replace({"seed": 1})
    )


def test_options_that_earlier_versions_lack_change_no_hash_at_their_default():
    config = conkd.frozen(conkd.base())
    # of the version without decode.item_offset
    assert run_document.config_sha256(config).startswith("51d304e0e636ec66")
    for field, value in (
        ("decode.item_offset", 1.0),
        ("dialogue_teacher.use_inferred_order", True),
        ("distill.mask_mentioned", True),
        ("student.item_init", "recommender"),
        ("vocabulary.max_picks", 12),
    ):
        moved = config.replace({field: value})
        assert run_document.config_sha256(config) != run_document.config_sha256(moved), field


def test_seeds_have_one_hash_of_settings():
    first = conkd.Config()
    hashes = {
        run_document.config_sha256(config, without=run_document.SEEDS)
        for config in (first, first.replace({"seed": 1, "teacher_seed": 2}))
    }
    assert len(hashes) == 1
    other = first.replace({"distill.gamma": 0.2})
    assert run_document.config_sha256(other, without=run_document.SEEDS) not in hashes
