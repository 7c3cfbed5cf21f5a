// The conversation, which only this page holds: the server is told all of it with every question.
//
// A message is {role: "seeker", text, corrections, links, denied}, an answer {role: "recommender",
// answers, chosen, state, problem, round}: one answer or two, each {system, text, response}, of
// which the chosen one is continued from. Its state is "pending", "done", "stopped" or "failed".

const talk = { systems: [], arena: false, keeps: false, turns: [], before: null, shown: null, work: null, id: null };

const wayOf = () => document.querySelector("input[name=way]:checked").value;
const titleOf = (name) => talk.systems.find((system) => system.name === name)?.title ?? name;
const isMessage = (turn) => turn.role === "seeker";
const newMessage = (text) => ({ role: "seeker", text, corrections: {}, links: null, denied: {} });
const newAnswer = () => ({ role: "recommender", answers: [], chosen: 0, state: "pending", problem: "" });
const chosenOf = (turn) => turn.answers[turn.chosen];

// What a server is told: what was said, without answers that weren't completed.
function historyOf(turns) {
  return turns.filter((turn) => isMessage(turn) || turn.state === "done").map((turn) => {
    if (!isMessage(turn)) return { role: turn.role, text: textForModels(chosenOf(turn)) };
    const { role, text, corrections } = turn;
    return Object.keys(corrections).length ? { role, text, corrections } : { role, text };
  });
}

// The text of an answer as models read it, with items as "@123".
const textForModels = (answer) => (answer.response ?? answer).turn.text;

// The options of an answer; every message has its own random numbers.
function optionsOf(turns) {
  const options = {};
  if (byId("drawn").checked) {
    options.seed = Number(byId("seed").value) + turns.length;
    for (const name of ["temperature", "top_p"]) {
      if (byId(name).value) options[name] = Number(byId(name).value);
    }
  }
  if (talk.keeps && byId("keep").checked) {
    options.keep = true;
    if (talk.id) options.conversation = talk.id;
  }
  return options;
}

// Puts what was understood into a message. A link that was denied is still shown, so that it can
// be corrected once more.
function understood(message, reading) {
  const denied = Object.values(message.denied);
  message.links = [...reading.links, ...denied].sort((a, b) => a.start - b.start);
}

// Corrects one link of a message: to another item, or to no item (null).
function correct(message, link, item) {
  message.corrections[link.start] = item && item.movie_id;
  if (item) delete message.denied[link.start];
  else message.denied[link.start] = { ...link, denied: true };
}

// Takes the last message and its answer back; returns the message, or undefined.
function takeBack() {
  const place = talk.turns.findLastIndex(isMessage);
  return place < 0 ? undefined : talk.turns.splice(place)[0];
}
