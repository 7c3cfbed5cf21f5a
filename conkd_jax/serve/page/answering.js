// Asking: one system's answer as it is decoded, or the answers of two.

const WAYS = { one: streamOne, pair: askBoth, blind: askBlind };

async function say(text) {
  if (talk.work || !text.trim()) return;
  if (!talk.systems.length) await start();  // it failed when the page was opened
  if (!talk.systems.length) return;
  if (byId("settings").querySelector(":invalid")) {
    showProblem("The seed, the temperature or top-p is out of range: see the settings.");
    return;
  }
  byId("text").value = "";
  const message = newMessage(text.trim());
  talk.turns.push(message);
  show(message);
  await answerLast();
}

// Answers the last message.
async function answerLast() {
  const turn = newAnswer();
  const question = { history: historyOf(talk.turns), ...optionsOf(talk.turns) };
  talk.turns.push(turn);
  show(turn);
  hideProblem();
  begin(new AbortController());
  keepInView();
  try {
    await WAYS[wayOf()](turn, question, talk.work.signal);
    turn.state = "done";
  } catch (error) {
    turn.state = error.name === "AbortError" ? "stopped" : "failed";
    turn.problem = error.name === "AbortError" ? "Stopped." : inWords(error);
  }
  end(turn);
}

const inWords = (error) =>
  error instanceof Problem ? error.message : `The page made a mistake (${error.message}).`;

function begin(work) {
  talk.work = work;
  byId("send").hidden = true;
  byId("stop").hidden = false;
  byId("ways").disabled = true;
  tell(wayOf() === "one" ? "Answering" : "Both are answering");
}

function end(turn) {
  talk.work = null;
  const hadFocus = document.activeElement === byId("stop");
  byId("send").hidden = false;
  byId("stop").hidden = true;
  byId("ways").disabled = false;
  if (hadFocus) byId("text").focus();
  if (!talk.turns.includes(turn)) return;  // taken back meanwhile
  show(turn);
  if (turn.state === "done") tellAnswers(turn);
  else tell(turn.problem);
  if (turn.state === "done" && turn.answers.length === 1 && !isNarrow.matches) lookInside(turn, false);
  keepInView();
  if (turn.round) turn.element.querySelector(".vote").focus({ preventScroll: true });
}

function tellAnswers(turn) {
  const texts = turn.answers.map((answer) => answer.text.trim() || "nothing");
  if (texts.length === 1) return tell(`Answer: ${texts[0]}`);
  return tell(`First answer: ${texts[0]} Second answer: ${texts[1]}`);
}

// --- one system ----------------------------------------------------------------------------------

async function streamOne(turn, question, signal) {
  const system = byId("first").value;
  const answer = { system, text: "", pieces: [], response: null };
  turn.answers = [answer];
  show(turn);
  const body = { ...question, system, explain: true };
  for await (const { name, data } of events("v1/stream", body, signal)) {
    const value = JSON.parse(data);
    if (name === "reading") showReading(value);
    if (name === "piece") addPiece(turn, answer, value);
    if (name === "response") Object.assign(answer, { response: value, text: value.text });
    if (name === "error") throw new Problem((value.error ?? value).message);
  }
  if (!answer.response) throw new Problem("The server stopped before the answer was complete.");
  talk.id = answer.response.conversation;
}

function addPiece(turn, answer, piece) {
  const isFollowed = isAtEnd();
  answer.pieces.push(piece);
  answer.text += piece.text;
  turn.element.querySelector(".body").append(...[wordOf(piece)].flat());
  if (isFollowed) keepInView();
}

// The reading is of the last message.
function showReading(reading) {
  const message = talk.turns.findLast(isMessage);
  understood(message, reading);
  show(message);
}

// --- two systems ---------------------------------------------------------------------------------

async function askBoth(turn, question, signal) {
  const systems = [byId("first").value, byId("second").value];
  const { responses } = await ask("v1/compare", { ...question, systems, explain: true }, signal);
  showReading(responses[0].reading);
  talk.id = responses[0].conversation;
  turn.answers = responses.map((response) => ({ system: response.system, text: response.text, response }));
}

async function askBlind(turn, { history, seed }, signal) {
  const [{ round, answers }] = await Promise.all([
    ask("v1/arena/round", seed == null ? { history } : { history, seed }, signal),
    readLast(signal),
  ]);
  Object.assign(turn, { round, answers: answers.map((answer) => ({ ...answer, system: null, response: null })) });
}

async function readLast(signal) {
  const { text, corrections } = talk.turns.findLast(isMessage);
  showReading(await ask("v1/read", { text, corrections }, signal));
}

// --- again ---------------------------------------------------------------------------------------

// Takes an answer and what follows it away, and asks for it again, as the settings are now.
async function answerAgain(turn) {
  if (talk.work) return;
  talk.turns.length = talk.turns.indexOf(turn);
  forget();
  showAll();
  byId("text").focus({ preventScroll: true });
  await answerLast();
}

async function correctByHand(message, link) {
  if (talk.work) return;
  const item = await pickItem({
    heading: ["What is ", said(`“${link.text}”`), "?"], query: link.text, mayBeNone: !link.denied,
  });
  if (item === undefined) return;
  correct(message, link, item);
  try {
    understood(message, await ask("v1/read", { text: message.text, corrections: message.corrections }));
  } catch (error) {
    showProblem(inWords(error));
  }
  show(message);
  focusOn(message, link.start);
  const next = talk.turns[talk.turns.indexOf(message) + 1];
  if (next && next === talk.turns.at(-1)) {
    talk.turns.pop();
    next.element.remove();
    forget();
    await answerLast();
  } else {
    tell("Corrected. The next answer reads it like this.");
  }
}

function undo() {
  talk.work?.abort();
  if (!talk.turns.length && talk.before) {
    Object.assign(talk, talk.before, { before: null });
    tell("The conversation is back.");
  } else {
    const message = takeBack();
    if (message && !byId("text").value) byId("text").value = message.text;
    tell("Taken back. Your message can be changed and sent again.");
  }
  forget();
  showAll();
  hideProblem();
  byId("text").focus();
}

function startOver() {
  talk.work?.abort();
  Object.assign(talk, { before: { turns: talk.turns, id: talk.id }, turns: [], id: null });
  forget();
  showAll();
  hideProblem();
  tell("A new conversation. Undo brings the old one back.");
  byId("text").focus();
}

// What is inside the last complete answer is shown, if the answer that was shown is gone.
function forget() {
  if (talk.turns.includes(talk.shown)) return;
  talk.shown = null;
  const last = talk.turns.findLast((turn) => turn.state === "done" && turn.answers.length === 1);
  if (last && !isNarrow.matches) talk.shown = last;
  fillInside();
}

// --- problems ------------------------------------------------------------------------------------

function showProblem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = false;
}

function hideProblem() {
  byId("problem").hidden = true;
}
