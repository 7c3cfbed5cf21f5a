// What is inside an answer: its words with the mass of items over them, the ranking at each item,
// paths in the graph, and the first items of each model.

const MODELS = { "recommender": "Recom\u00admender", "dialogue teacher": "Teacher", "this system": "System" };

// All sections about one answer, under headings of a level ("h3").
function insideOf(response, level) {
  const { explanation } = response;
  return [
    make("p", { class: "note" }, summaryOf(response)),
    wordsOf(response, level),
    ...response.items.map((item, place) => itemOf(item, explanation?.items[place], level)),
    explanation && topOf(response, level),
  ];
}

function summaryOf(response) {
  const turn = { rec: "Classified as a recommendation", gen: "Classified as chit-chat" }[response.tag];
  return [
    turn,
    counted(response.tokens.length, "token"),
    `the first after ${seconds(response.first_seconds)}, all after ${seconds(response.seconds)}`,
    !response.ended && "cut at the longest answer",
  ].filter(Boolean).join(" · ");
}

// --- words ---------------------------------------------------------------------------------------

function wordsOf(response, level) {
  const hasTeacher = response.tokens.some((token) => token.teacher_mass != null);
  return make("section", { class: "words" },
    make(level, {}, "Where it turns to items"),
    make("div", { class: "strip", role: "img", "aria-label": stripInWords(response, hasTeacher) },
      response.tokens.map((token) => columnOf(token, hasTeacher))),
    legendOf(hasTeacher),
    make("details", {}, make("summary", {}, "The numbers, as a table"), numbersOf(response, hasTeacher)));
}

function columnOf(token, hasTeacher) {
  const own = `this system ${percent(token.item_mass)}`;
  const title = hasTeacher ? `λ ${percent(token.teacher_mass)}, ${own}` : own;
  const level = hasTeacher && token.item_mass >= 0.03 && bar(token.item_mass, "level");
  return make("span", { class: token.movie_id == null ? "word" : "word item", title },
    make("span", { class: "mass" }, bar(hasTeacher ? token.teacher_mass : token.item_mass), level),
    said(token.text, { class: "text" }));
}

function legendOf(hasTeacher) {
  if (!hasTeacher) {
    return make("p", { class: "legend" }, make("span", {}, make("i", { class: "key bar" }),
      "probability of all items together; the upper line is 1"));
  }
  return make("p", { class: "legend" },
    make("span", {}, make("i", { class: "key bar" }), "λ, the dialogue teacher’s mass on items"),
    make("span", {}, make("i", { class: "key level" }), "this system’s own; the upper line is 1"));
}

function stripInWords(response, hasTeacher) {
  const { tokens } = response;
  if (!tokens.length) return "An empty answer.";
  const name = hasTeacher ? "teacher_mass" : "item_mass";
  const most = tokens.reduce((best, token) => (token[name] > best[name] ? token : best));
  const measure = hasTeacher ? "Lambda, the dialogue teacher’s mass on items," : "The mass on items";
  const own = hasTeacher ? `, where this system has ${percent(most.item_mass)}` : "";
  return `${measure} over ${counted(tokens.length, "token")}: most at “${most.text.trim()}”, `
    + `${percent(most[name])}${own}. The table below has all numbers.`;
}

function numbersOf(response, hasTeacher) {
  const heads = ["Token", "Probability", ...(hasTeacher ? ["λ"] : []), "Mass on items"];
  const rows = response.tokens.map((token) => make("tr", {},
    make("th", { scope: "row" }, said(token.text.trim() || "␣")),
    make("td", {}, percent(token.probability)),
    hasTeacher && make("td", {}, percent(token.teacher_mass)),
    make("td", {}, percent(token.item_mass))));
  return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Numbers of each token" },
    make("table", {},
      make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, rows)));
}

// --- items ---------------------------------------------------------------------------------------

function itemOf(item, explained, level) {
  const most = Math.max(...item.ranking.map((one) => one.probability), item.probability);
  return make("section", { class: "item" },
    make(level, {}, "Chosen: ", said(item.title), make("span", { class: "share" }, percent(item.probability))),
    pathsOf(explained),
    make("ol", { class: "ranking", "aria-label": `Most probable items where it chose ${item.title}` },
      item.ranking.map((one) => rankedOf(one, most, one.movie_id === item.movie_id))));
}

function rankedOf(one, most, isChosen) {
  return make("li", { class: isChosen && "chosen" },
    bar(one.probability / most),
    said(one.title, { class: "name" }), isChosen && make("span", { class: "unseen" }, " (chosen)"),
    make("span", { class: "share" }, percent(one.probability)));
}

function pathsOf(explained) {
  if (!explained) return null;
  const again = explained.mentioned && make("p", { class: "note" }, "The conversation mentions it already.");
  if (!explained.paths.length) {
    return again || make("p", { class: "note" },
      "The graph has no path of two edges to it from what was mentioned.");
  }
  return [again, make("ul", { class: "paths", "aria-label": "Paths in the graph" },
    explained.paths.map((path) => make("li", {}, path.map((node, place) => [
      place > 0 && make("span", { class: "edge" }, make("span", { class: "unseen" }, " leads to ")),
      said(node, { class: "node" }),
    ]))))];
}

// --- models --------------------------------------------------------------------------------------

// One row for each item, one column for each model: the rank and the probability that it gives.
function topOf(response, level) {
  const { rankings, token } = response.explanation;
  const models = Object.keys(MODELS).filter((model) => rankings[model]?.length);
  if (!models.length) return null;
  const place = response.tokens[token]?.text.trim();
  return make("section", { class: "top-five" },
    make(level, {}, "First five of each model", place && [" at ", said(`“${place}”`)]),
    make("table", {},
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Item"),
        models.map((model) => make("th", { scope: "col" }, MODELS[model])))),
      make("tbody", {}, rowsOf(models.map((model) => rankings[model])))));
}

// The items of the last model, the system itself, come first.
function rowsOf(rankings) {
  const titles = new Map(rankings.toReversed().flat().map((one) => [one.movie_id, one.title]));
  return [...titles].map(([item, title]) => rowOf(item, title, rankings));
}

function rowOf(item, title, rankings) {
  return make("tr", {}, make("th", { scope: "row" }, said(title)), rankings.map((ranking) => {
    const rank = ranking.findIndex((one) => one.movie_id === item);
    if (rank < 0) return make("td", { class: "absent" }, make("span", { class: "unseen" }, "not among the five"));
    return make("td", {}, make("b", {}, `${rank + 1}`), ` ${percent(ranking[rank].probability)}`);
  }));
}
