"""What can be wrong with what a user gave: the errors that are told as one message.

An error that is not listed here is taken for a defect of the program and keeps its traceback.
"""

from conkd_jax.config import ConfigError
from conkd_jax.data.bpe import VocabularyError
from conkd_jax.data.corpus import CorpusError
from conkd_jax.data.records import RecordError
from conkd_jax.data.teacher_records import StoreError
from conkd_jax.eval.predictions import PredictionError
from conkd_jax.stages.manifests import ArtifactError
from data_prep.sources import MissingDataError

USER_ERRORS = (
    ConfigError,
    MissingDataError,
    CorpusError,
    RecordError,
    VocabularyError,
    StoreError,
    PredictionError,
    ArtifactError,
    FloatingPointError,  # a training that went astray, by its step and rows (conkd_jax.watch)
)
