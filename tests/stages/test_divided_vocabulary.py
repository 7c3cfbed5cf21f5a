"""Which arrays stay divided on a mesh; that the loss is the same is compared in test_pipeline."""

import jax
import numpy as np
import pytest

from conkd_jax.distill.gates import make_gate
from conkd_jax.distill.head import Head, Switch
from conkd_jax.models.gpt2 import GPT2, GPT2Spec
from conkd_jax.models.llama import Llama
from conkd_jax.models.llama_network import LlamaSpec
from conkd_jax.models.lora import FullTraining, LoRA
from conkd_jax.models.recindial import RecInDial
from conkd_jax.stages.divided_vocabulary import divided_arrays, tables_of
from conkd_jax.stages.language_model import LanguageModel
from conkd_jax.stages.language_model_training import Distillation, divided_of
from conkd_jax.stages.train_step_memory import vocabulary_of_size

HEAD = Head(np.zeros((4, 9)), np.zeros(9))
TEACHERS = {"dialogue_head": HEAD, "rec_kernels": np.zeros((1, 3, 4)), "rec_biases": np.zeros(4)}
GPT = GPT2(GPT2Spec(num_layers=1, embed_dim=8, num_heads=2, num_positions=16, dropout=0.0), 12)


def test_tables_of_decoder_only_models_stay_divided():
    everything = FullTraining()
    found = divided_arrays(GPT, everything, TEACHERS)
    assert found >= {"params/wte/embedding", "constants/dialogue_head/kernel"}
    assert found >= {"constants/rec_kernels", "constants/rec_biases"}
    llama = Llama(LlamaSpec(1, 8, 2, 2, 4, 16, 16), 12)
    assert divided_arrays(llama, everything, {}) >= {
        *("params/embed/embedding", "params/lm_head/embedding")
    }


def test_other_trainings_join_their_tables():
    lora = LoRA.of(GPT, 5, rank=2, alpha=2.0)
    assert not divided_arrays(GPT, lora, TEACHERS)
    switched = HEAD._replace(switch=Switch(np.zeros(4), np.zeros(()), 5))
    assert not divided_arrays(GPT, FullTraining(), {"dialogue_head": switched})
    assert not divided_arrays(RecInDial(GPT), FullTraining(), TEACHERS)

    class WithAnotherHead(GPT2):
        pass

    assert not divided_arrays(WithAnotherHead(GPT.spec, 12), FullTraining(), TEACHERS)


@pytest.mark.parametrize(
    ("gate", "masks", "is_divided"),
    [
        (make_gate("soft"), False, True),
        (make_gate("oracle"), False, True),
        (make_gate("soft"), True, False),
        (lambda mass, *, log_probs: mass, False, False),
    ],
)
def test_losses_that_read_every_target_have_them_all(gate, masks, is_divided):
    start = LanguageModel(GPT, {}, vocabulary_of_size(5, 4))
    taught = Distillation(gate, 0.5, lambda *_: None, lambda *_: None, TEACHERS, masks)
    assert bool(divided_of(start, taught, FullTraining())) == is_divided
    assert divided_of(start, None, FullTraining())


def test_whole_tables_are_read_as_they_are():
    params, batch = GPT.init(jax.random.key(0)), {"input_ids": np.zeros((1, 2), np.int32)}
    tables = tables_of(GPT, params, batch, TEACHERS, num_words=5, num_targets=9)
    assert tables.model is GPT and tables.variables is params and tables.batch is batch
    assert tables.constants is TEACHERS and tables.rec_batch is batch
    np.testing.assert_array_equal(tables.head.kernel, params["wte"]["embedding"][:9].T)
