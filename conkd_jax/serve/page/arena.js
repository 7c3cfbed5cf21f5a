// Blind votes: which of two answers is better, whose they were, and the ratings that follow.

const CHOICES = new Map([["1", "first"], ["2", "second"], ["0", "tie"], ["n", "neither"]]);
const CHOICE_TITLES = {
  first: "First is better", second: "Second is better", tie: "Equally good", neither: "Both are bad",
};

// The buttons of a vote, or who was who. The keys work where the focus is inside.
function voteOf(turn) {
  if (turn.state !== "done") return null;
  if (turn.voted) return make("p", { class: "vote revealed" }, revealed(turn));
  return make("div", {
    class: "vote", role: "group", tabindex: "-1", "aria-label": "Which answer is better? Keys 1, 2, 0 and N",
    onkeydown: (event) => voteByKey(turn, event),
  }, [...CHOICES].map(([key, choice]) => make("button", {
    type: "button", class: "plain", "aria-keyshortcuts": key, onclick: () => vote(turn, choice),
  }, CHOICE_TITLES[choice], make("kbd", { "aria-hidden": "true" }, key.toUpperCase()))));
}

function voteByKey(turn, event) {
  const choice = CHOICES.get(event.key.toLowerCase());
  if (!choice || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  vote(turn, choice);
}

async function vote(turn, choice) {
  if (turn.voted || turn.isVoting) return;
  turn.isVoting = true;
  try {
    const voter = byId("voter").value.trim();
    const body = { round: turn.round, choice, ...(voter && { voter }) };
    const { systems } = await ask("v1/arena/vote", body);
    turn.voted = choice;
    turn.chosen = choice === "second" ? 1 : 0;
    turn.answers.forEach((answer, place) => { answer.system = systems[place]; });
    hideProblem();
    show(turn);
    byId("text").focus({ preventScroll: true });
    tell(revealedText(turn));
    await showRatings();
  } catch (error) {
    showProblem(inWords(error));
  } finally {
    turn.isVoting = false;
  }
}

const revealedText = (turn) => {
  const [first, second] = turn.answers.map((answer) => titleOf(answer.system));
  return `${CHOICE_TITLES[turn.voted]}. The first was ${first}, the second ${second}.`;
};

function revealed(turn) {
  const [first, second] = turn.answers.map((answer) => said(titleOf(answer.system)));
  return [`You voted: ${CHOICE_TITLES[turn.voted].toLowerCase()}. The first was `, first, ", the second ", second, "."];
}

// --- ratings -------------------------------------------------------------------------------------

async function showRatings() {
  if (!talk.arena) return;
  try {
    const { systems } = await ask("v1/arena/ratings");
    byId("table").replaceChildren(systems.some((one) => one.rounds) ? ratingsOf(systems)
      : make("p", { class: "note" }, "No votes yet."));
  } catch (error) {
    byId("table").replaceChildren(make("p", { class: "note trouble" }, inWords(error)));
  }
}

function ratingsOf(systems) {
  const low = Math.min(...systems.map((one) => one.low)), high = Math.max(...systems.map((one) => one.high));
  return make("table", { class: "ratings" },
    make("caption", {}, "Elo and its 95 % interval, from all votes"),
    make("thead", {}, make("tr", {}, ["System", "Elo", "Rounds", "Won", "Ties"].map((head) =>
      make("th", { scope: "col" }, head)))),
    make("tbody", {}, systems.map((one) => make("tr", {},
      make("th", { scope: "row" }, said(titleOf(one.name))),
      make("td", {}, intervalOf(one, low, high)), make("td", {}, one.rounds), make("td", {}, one.wins), make("td", {}, one.ties)))));
}

function intervalOf(one, low, high) {
  const place = (value) => String((value - low) / Math.max(high - low, 1e-9));
  const drawn = make("span", { class: "interval", "aria-hidden": "true" });
  for (const name of ["low", "elo", "high"]) drawn.style.setProperty(`--${name}`, place(one[name]));
  const [elo, least, most] = [one.elo, one.low, one.high].map(Math.round);
  return [make("b", {}, `${elo}`), drawn, `${least} to ${most}`];
}
