"""GRUs in plain NumPy, step by step, on parameters of Flax cells; shared by tests of models."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear(params, x):
    return x @ params["kernel"] + params.get("bias", 0)


def cell(params, state, x):
    reset = sigmoid(linear(params["ir"], x) + linear(params["hr"], state))
    update = sigmoid(linear(params["iz"], x) + linear(params["hz"], state))
    new = np.tanh(linear(params["in"], x) + reset * linear(params["hn"], state))
    return (1 - update) * new + update * state


def gru(params, vectors, state=None):
    """The state after each of the vectors [L, D], from zeros."""
    state = np.zeros(len(params["hn"]["bias"])) if state is None else state
    states = []
    for x in vectors:
        state = cell(params, state, x)
        states.append(state)
    return np.array(states)


def utterance_vector(params, vectors, num_layers=1):
    """Both final states of a bidirectional GRU that is run over one utterance [L, D]."""
    for layer in range(num_layers):
        forward = gru(params[f"forward_{layer}"]["cell"], vectors)
        backward = gru(params[f"backward_{layer}"]["cell"], vectors[::-1])[::-1]
        vectors = np.concatenate([forward, backward], axis=1)
    return np.concatenate([forward[-1], backward[0]])


def conversation_states(params, utterances, senders, num_layers=1):
    """The state after each utterance [u, F], with the senders beside them."""
    states = np.concatenate([utterances, np.array(senders, float)[:, None]], axis=1)
    for layer in range(num_layers):
        states = gru(params[f"layer_{layer}"], states)
    return states
