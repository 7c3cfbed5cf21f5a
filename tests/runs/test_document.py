"""The hashes of a config, which say which runs differ in seeds alone."""

from conkd_jax import config as conkd
from conkd_jax.runs.document import SEEDS, config_sha256


def test_the_hash_leaves_out_what_changes_no_number():
    first = conkd.frozen(conkd.base())
    same = {"paper_row": "KGSF", "runs_dir": "elsewhere", "corpus.raw_dir": "elsewhere"}
    assert config_sha256(first) == config_sha256(first.replace(same))
    assert config_sha256(first) != config_sha256(first.replace({"seed": 1}))


def test_options_that_earlier_versions_lack_change_no_hash_at_their_default():
    config = conkd.frozen(conkd.base())
    # of the version without decode.item_offset
    assert config_sha256(config).startswith("51d304e0e636ec66")
    for field, value in (
        ("decode.item_offset", 1.0),
        ("dialogue_teacher.use_inferred_order", True),
        ("distill.mask_mentioned", True),
        ("student.item_init", "recommender"),
        ("vocabulary.max_picks", 12),
    ):
        moved = config.replace({field: value})
        assert config_sha256(config) != config_sha256(moved), field


def test_seeds_have_one_hash_of_settings():
    first = conkd.Config()
    hashes = {
        config_sha256(config, without=SEEDS)
        for config in (first, first.replace({"seed": 1, "teacher_seed": 2}))
    }
    assert len(hashes) == 1
    other = first.replace({"distill.gamma": 0.2})
    assert config_sha256(other, without=SEEDS) not in hashes
