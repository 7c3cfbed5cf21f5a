"""Records a session of a user simulator with a server, message by message.

    conkd-serve --workdir=RUN --port=8000
    python benchmarks/simulator_session.py --url=http://127.0.0.1:8000/ --out=session.json

The simulated user follows an agenda, as those of UserSimCRS do: it greets, names movies that it
likes, asks for something else twice, and leaves. It talks through the same protocol as UserSimCRS'
wrapper for the systems of iEvaLM (class iEvaLMAgent in crs_agent_wrapper/ievalm_agent.py of
github.com/iai-group/UserSimCRS): each message is one POST whose JSON has the texts of the dialogue
so far, without the agent's greeting and with the message at its end, and the message again; the
body of the response is the agent's text.
"""

import argparse
import json
import urllib.request
from pathlib import Path

AGENDA = (
    "Hello, I am looking for a movie to watch tonight.",
    "I really liked {} and {}.",
    "I have already seen that one. Can you suggest something else?",
    "What about a comedy?",
    "Sounds great, thank you! Bye.",
)
GREETING = "Hello! How can I help you?"  # the wrapper's own, which it never sends


def exchange(url, history, message):
    """Sends a message as the wrapper does; returns what was sent and what came back."""
    history = [*history, ("user", message)]
    context = [text for _, text in history]
    if history[0][0] == "agent":
        context = context[1:]
    body = {"context": context, "message": message}
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        text = response.read().decode()
        received = {
            "status": response.status,
            "content_type": response.headers["Content-Type"],
            "text": text,
        }
    return [*history, ("agent", text)], {"request": body, "response": received}


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000/")
    parser.add_argument("--likes", nargs=2, default=["Titanic", "The Matrix"])
    parser.add_argument("--out", type=Path, help="write the session to this file, as JSON")
    arguments = parser.parse_args()
    history, exchanges = [("agent", GREETING)], []
    for line in AGENDA:
        history, exchanged = exchange(arguments.url, history, line.format(*arguments.likes))
        exchanges.append(exchanged)
    for who, text in history:
        print(f"{who}: {text}")
    if arguments.out:
        session = {
            "command": "python benchmarks/simulator_session.py --url=URL --likes "
            + " ".join(json.dumps(title) for title in arguments.likes),
            "protocol": "POST JSON, as iEvaLMAgent of UserSimCRS sends it",
            "exchanges": exchanges,
        }
        text = json.dumps(session, indent=2, ensure_ascii=False)
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
