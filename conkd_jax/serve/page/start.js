// What happens when: events of the page, and what it asks first.

function composerKey(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
}

function pageKey(event) {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) talk.work?.abort();
}

async function insertItem() {
  const item = await pickItem({ heading: ["Which item?"], query: "", mayBeNone: false });
  const text = byId("text");
  text.focus();
  if (!item) return;
  const before = text.value.slice(0, text.selectionStart);
  const space = before && !/\s$/.test(before) ? " " : "";
  text.setRangeText(`${space}${item.title} `, text.selectionStart, text.selectionEnd, "end");
}

function waysChanged() {
  document.documentElement.dataset.way = wayOf();
  fillInside();
  if (wayOf() === "blind") showRatings();
}

function settingsChanged() {
  const isDrawn = byId("drawn").checked;
  for (const name of ["seed", "temperature", "top_p"]) byId(name).disabled = !isDrawn;
  byId("settings").querySelector("summary").textContent =
    isDrawn ? `Drawn with seed ${byId("seed").value || "…"}` : "Most probable words";
}

function served() {
  if (talk.systems.length < 2) return "One system answers; with a second run, conkd-serve compares them here.";
  const vote = talk.arena ? ", or vote without knowing which is which" : "";
  return `${talk.systems.length} systems answer: talk to one, compare two${vote}.`;
}

function showSystems() {
  const { systems } = talk;
  for (const name of ["first", "second"]) {
    byId(name).replaceChildren(...systems.map((one) =>
      make("option", { value: one.name, title: one.name }, one.title)));
  }
  byId("second").selectedIndex = Math.min(1, systems.length - 1);
  const [{ corpus, num_items: count }] = systems;
  byId("about").replaceChildren(said(corpus), ` has ${count.toLocaleString("en")} items. ${served()}`);
  byId("corpus").textContent = corpus;
  document.querySelector("input[value=pair]").disabled = systems.length < 2;
  document.querySelector("input[value=blind]").disabled = !talk.arena;
  byId("keeping").hidden = !talk.keeps;
}

async function start() {
  try {
    Object.assign(talk, await ask("v1/systems"));
    showSystems();
    hideProblem();
  } catch (error) {
    showProblem(inWords(error));
  }
  byId("text").focus();
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  say(byId("text").value);
});
byId("text").addEventListener("keydown", composerKey);
byId("stop").addEventListener("click", () => talk.work?.abort());
byId("undo").addEventListener("click", undo);
byId("new").addEventListener("click", startOver);
byId("save").addEventListener("click", save);
byId("find").addEventListener("click", insertItem);
byId("ways").addEventListener("change", waysChanged);
byId("settings").addEventListener("input", settingsChanged);
inside.addEventListener("keydown", leaveInside);
document.addEventListener("keydown", pageKey);
isNarrow.addEventListener("change", placeInside);
startPicker();
waysChanged();
refresh();
start();
