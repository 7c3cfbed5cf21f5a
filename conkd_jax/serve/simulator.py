"""The route that user simulators speak, so that those which exist can talk to our systems.

UserSimCRS drives the systems of iEvaLM through a wrapper. For each message of the simulated user it
sends POST {"context": [text, …], "message": text} to one address, and takes the body of the
response, plain text, as the system's next message. `context` has the texts so far, without those of
the system before the user's first one; as the wrapper builds it, its last text is `message` itself.
iEvaLM's own server appends `message` to `context`. Both are understood here: a message that ends
the context is not read twice. Texts alternate between the speakers.

Sources: `crs_agent_wrapper/ievalm_agent.py` of github.com/iai-group/UserSimCRS (class iEvaLMAgent),
and `script/serve_model.py` of github.com/NoB0/iEvaLM-CRS (class CRSFlaskServer).
"""

from __future__ import annotations

from conkd_jax.serve.problems import RequestError
from conkd_jax.serve.schema import Message, SimulatorRequest


def spoken(request: SimulatorRequest) -> list[Message]:
    """The messages of a simulator's request, the seeker's last.

    >>> request = SimulatorRequest(["Hi", "Hello", "A comedy?"], "A comedy?")
    >>> [(message.role, message.text) for message in spoken(request)]
    [('seeker', 'Hi'), ('recommender', 'Hello'), ('seeker', 'A comedy?')]

    Raises:
      RequestError: it has no message.
    """
    texts = list(request.context)
    if not texts or texts[-1] != request.message:
        texts.append(request.message)
    if not request.message.strip():
        raise RequestError(422, "not_valid", "message: expected what the user said, got nothing")
    return [
        Message(role="recommender" if (len(texts) - place) % 2 == 0 else "seeker", text=text)
        for place, text in enumerate(texts)
    ]
