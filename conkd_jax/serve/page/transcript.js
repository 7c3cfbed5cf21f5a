// How the conversation looks: one list item for each turn, replaced when the turn changes.

const inside = byId("inside");  // it moves, and is out of the document while its answer is replaced

function show(turn) {
  const element = isMessage(turn) ? messageOf(turn) : answersOf(turn);
  const focused = turn.element?.contains(document.activeElement) && document.activeElement.dataset.key;
  if (turn.element?.isConnected) turn.element.replaceWith(element);
  else byId("turns").append(element);
  turn.element = element;
  if (focused) focusOn(turn, focused);
  placeInside();
  refresh();
}

// Shows what depends on the conversation as a whole.
function refresh() {
  byId("welcome").hidden = talk.turns.length > 0;
  byId("undo").disabled = !talk.turns.length && !talk.before;
  byId("undo").textContent = !talk.turns.length && talk.before ? "Bring back" : "Undo";
  byId("new").disabled = !talk.turns.length;
  byId("save").disabled = !talk.turns.some((turn) => turn.answers?.[turn.chosen]?.response);
  for (const turn of talk.turns) {
    turn.element?.classList.toggle("last", turn === talk.turns.at(-1));
    turn.element?.classList.toggle("shown", turn === talk.shown);
  }
}

const focusOn = (turn, key) =>
  turn.element.querySelector(`[data-key="${key}"]`)?.focus({ preventScroll: true });

function showAll() {
  byId("turns").replaceChildren();
  talk.turns.forEach(show);
  refresh();
}

// A long answer, or one of two, is read from its beginning.
function keepInView() {
  if (wayOf() === "one" && !isNarrow.matches) window.scrollTo({ top: document.documentElement.scrollHeight });
  else talk.turns.findLast(isMessage)?.element.scrollIntoView({ block: "start" });
}

const isAtEnd = () => window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 100;

// --- messages ------------------------------------------------------------------------------------

function messageOf(turn) {
  return make("li", { class: "turn message" },
    make("p", { class: "who" }, "You"),
    make("p", { class: "body", dir: "auto" }, turn.text),
    turn.links && chipsOf(turn));
}

function chipsOf(turn) {
  if (!turn.links.length) {
    return make("p", { class: "note chips" }, "No item, person or genre was recognised here.");
  }
  return make("ul", { class: "chips", "aria-label": "What was understood" },
    turn.links.map((link) => make("li", {}, link.kind === "movie" ? itemChip(turn, link) : thingChip(link))));
}

// A person or a genre, which can't be corrected.
const thingChip = (link) => make("span", { class: "chip thing" }, said(link.name));

function itemChip(turn, link) {
  const isGuess = !link.denied && link.score < 100;
  const meaning = link.denied ? "no item" : link.name;
  return make("button", {
    type: "button", class: link.denied ? "chip denied" : "chip", "data-key": link.start,
    "aria-label": `“${link.text}” was understood as ${meaning}. Correct it`,
    onclick: () => correctByHand(turn, link),
  }, link.denied ? [said(link.text, { class: "typed" }), " no item"] : said(link.name),
  isGuess && make("span", { class: "typed" }, " for ", said(`“${link.text}”`)));
}

// --- answers -------------------------------------------------------------------------------------

function answersOf(turn) {
  if (turn.answers.length < 2) return oneAnswer(turn);
  return make("li", { class: "turn pair" },
    make("div", { class: "columns" }, turn.answers.map((_, place) => columnOfPair(turn, place))),
    turn.round && voteOf(turn), stateOf(turn));
}

function oneAnswer(turn) {
  const [answer] = turn.answers;
  return make("li", { class: `turn answer ${turn.state}` },
    make("p", { class: "who" }, answer?.system ? said(titleOf(answer.system)) : "Answer"),
    make("p", { class: "body", dir: "auto" }, answer ? wordsOfAnswer(answer) : ""),
    turn.state === "pending" && make("span", { class: "waiting", "aria-hidden": "true" }),
    stateOf(turn),
    turn.state === "done" && make("p", { class: "actions" },
      answer.response && make("button", {
        type: "button", class: "quiet look", "data-key": "look",
        "aria-expanded": String(turn === talk.shown), "aria-controls": "inside",
        onclick: () => lookInside(turn, true),
      }, "Look inside"),
      make("button", { type: "button", class: "quiet again", onclick: () => answerAgain(turn) }, "Answer again")));
}

function columnOfPair(turn, place) {
  const answer = turn.answers[place], isOver = turn.state === "done" && (!turn.round || turn.voted);
  const isChosen = isOver && turn.chosen === place;
  const name = answer.system ? titleOf(answer.system) : ["First", "Second"][place];
  return make("article", { class: isChosen ? "side chosen" : "side", "aria-label": name },
    make("p", { class: "who" }, said(name)),
    make("p", { class: "body", dir: "auto" }, wordsOfAnswer(answer)),
    isOver && make("p", { class: "actions" },
      make("button", {
        type: "button", class: "quiet", "data-key": place, "aria-pressed": String(isChosen),
        onclick: () => choose(turn, place),
      }, isChosen ? "Continues from here" : "Continue from this")),
    answer.response && make("div", { class: "inside" }, insideOf(answer.response, "h3")));
}

// The text of an answer with its items marked.
function wordsOfAnswer(answer) {
  if (answer.response && !answer.text.trim()) return make("i", {}, "nothing: the answer is empty");
  if (answer.response) return answer.response.tokens.map(wordOf);
  return answer.pieces ? answer.pieces.map(wordOf) : said(answer.text);
}

function wordOf({ text, movie_id: item }) {
  if (item == null) return text;
  const title = text.trim();
  return [text.slice(0, text.indexOf(title)), make("b", { class: "title" }, said(title)),
    text.slice(text.indexOf(title) + title.length)];
}

function stateOf(turn) {
  if (turn.state === "pending" || turn.state === "done") return null;
  return make("p", { class: "note trouble" }, `${turn.problem} This answer isn’t part of the conversation. `,
    make("button", { type: "button", class: "quiet again", onclick: () => answerAgain(turn) }, "Ask again"));
}

function choose(turn, place) {
  turn.chosen = place;
  show(turn);
  tell(`The conversation continues from the ${place ? "second" : "first"} answer.`);
}

// --- beside the conversation ---------------------------------------------------------------------

const isNarrow = window.matchMedia("(max-width: 62rem)");

// Shows what is inside an answer: beside the conversation, or below the answer on a narrow screen.
function lookInside(turn, isAsked) {
  const isClosing = isAsked && isNarrow.matches && turn === talk.shown;
  const before = talk.shown;
  talk.shown = isClosing ? null : turn;
  for (const one of [before, turn]) {
    one?.element?.querySelector(".look")?.setAttribute("aria-expanded", String(one === talk.shown));
  }
  fillInside();
  if (isAsked && !isClosing) inside.focus({ preventScroll: true });
  if (isAsked && !isClosing && isNarrow.matches) turn.element.scrollIntoView();
  refresh();
}

function fillInside() {
  const response = talk.shown && chosenOf(talk.shown)?.response;
  const title = make("h2", { id: "inside-title" }, "Inside the answer");
  inside.replaceChildren(title, ...(response ? insideOf(response, "h3").filter(Boolean) : [nothingInside()]));
  inside.scrollTop = 0;
  placeInside();
}

const nothingInside = () => make("p", { class: "note" }, "The words of an answer, the items that it "
  + "weighed, and what the graph says about them are shown here.");

function placeInside() {
  const below = isNarrow.matches && talk.shown?.element;
  if (below) below.append(inside);
  else byId("beside").prepend(inside);
  inside.hidden = wayOf() !== "one" || (isNarrow.matches && !talk.shown);
}

function leaveInside(event) {
  if (event.key !== "Escape" || !talk.shown) return;
  focusOn(talk.shown, "look");
  if (isNarrow.matches) lookInside(talk.shown, true);
}
