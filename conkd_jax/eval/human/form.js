"use strict";
const form = document.getElementById("judgements");
const picker = document.getElementById("file");
const inputs = [...form.querySelectorAll("input")];
const groups = [...form.querySelectorAll("fieldset")];
const store = `human evaluation ${form.dataset.study} ${form.dataset.annotator}`;
let isKept = true;  // whether all answers are in the browser's storage or in a saved file

const chosen = (group) => group.querySelector("input:checked");
const openGroups = () => groups.filter((group) => !chosen(group));
const say = (text) => { document.getElementById("news").textContent = text; };

function restore() {
  try {
    const answers = JSON.parse(localStorage.getItem(store)) ?? {};
    for (const input of inputs) input.checked = answers[input.name] === input.value;
  } catch (error) {
    say(`Your earlier answers can't be read (${error.name}).`);
  }
}

function keep() {
  const answers = inputs.filter((input) => input.checked).map((input) => [input.name, input.value]);
  try {
    localStorage.setItem(store, JSON.stringify(Object.fromEntries(answers)));
    isKept = true;
  } catch (error) {
    isKept = false;
    say(`This browser can't keep answers (${error.name}): save the CSV before you close the page.`);
  }
}

function showProgress() {
  const done = groups.length - openGroups().length;
  document.getElementById("progress").value = done;
  document.getElementById("count").textContent = `${done} of ${groups.length} scored`;
}

function changed() {
  say("");
  keep();
  showProgress();
}

// What must be in view when a group is judged: the head of its response or, for the first response,
// of its conversation.
function unread(group) {
  const response = group.closest("article");
  if (group !== response.querySelector("fieldset")) return group;
  return response.matches("article + article") ? response : response.closest("section");
}

function goTo(group) {
  (chosen(group) ?? group.querySelector("input")).focus({ preventScroll: true });
  group.scrollIntoView({ block: "center" });
  const head = document.querySelector("header").getBoundingClientRect().bottom;
  if (unread(group).getBoundingClientRect().top < head) unread(group).scrollIntoView();
}

function goToOpen() {
  const open = openGroups();
  if (open.length) goTo(open[0]);
  else say("Everything is scored: save the CSV and send it back.");
}

function byKey(event) {
  const group = event.target.closest("fieldset");
  if (!group || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!["0", "1", "2"].includes(event.key)) return;
  event.preventDefault();
  group.querySelector(`input[value="${event.key}"]`).checked = true;
  changed();
  const next = groups[groups.indexOf(group) + 1];
  if (next) goTo(next);
}

function save() {
  const rows = [...form.querySelectorAll("article")].map((article) => [
    form.dataset.study,
    article.id,
    ...[...article.querySelectorAll("fieldset")].map((group) => chosen(group)?.value ?? ""),
  ]);
  const lines = [form.dataset.columns, ...rows.map((row) => row.join(","))];
  const file = new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = form.dataset.file;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  isKept = true;
  const open = openGroups().length;
  say(`Saved as ${link.download}` + (open ? `, with ${open} scores still missing.` : ", complete."));
}

// Puts the scores of a saved file into the form; scores that the file lacks stay as they are.
function load(text) {
  const [columns, ...rows] = text.split(/\r?\n/).map((line) => line.split(","));
  const loaded = new Set();
  for (const [study, id, ...scores] of rows) {
    if (study !== form.dataset.study) continue;
    scores.forEach((score, place) => loaded.add(`${id} ${columns[place + 2]} ${score}`));
  }
  const found = inputs.filter((input) => loaded.has(`${input.name} ${input.value}`));
  for (const input of found) input.checked = true;
  changed();
  if (found.length) say(`${found.length} scores loaded.`);
  else say("No scores loaded: expected a CSV file that this form saved.");
}

form.addEventListener("change", changed);
form.addEventListener("keydown", byKey);
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("next").addEventListener("click", goToOpen);
document.getElementById("save").addEventListener("click", save);
document.getElementById("load").addEventListener("click", () => picker.click());
picker.addEventListener("change", async () => {
  if (picker.files.length) load(await picker.files[0].text());
  picker.value = "";  // the same file may be chosen again
});
window.addEventListener("storage", (event) => {  // the form is open in a second tab
  if (event.key !== store || !event.newValue) return;
  restore();
  showProgress();
});
window.addEventListener("beforeunload", (event) => { if (!isKept) event.preventDefault(); });
restore();
showProgress();
