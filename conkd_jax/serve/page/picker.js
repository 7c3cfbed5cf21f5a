// A dialog that finds an item of the corpus by what is typed: a combobox with a list, as the ARIA
// authoring practices describe it.

const picker = { found: [], active: -1, asked: null, timer: 0, settle: () => {} };

// Asks for an item; resolves to {movie_id, title}, to null for "no item", or to undefined.
function pickItem({ heading, query, mayBeNone }) {
  byId("picker-title").replaceChildren(...heading);
  byId("query").value = query;
  byId("none").hidden = !mayBeNone;
  showFound([], "");
  findItems();
  const dialog = byId("picker");
  dialog.showModal();
  byId("query").select();
  return new Promise((resolve) => { picker.settle = resolve; });
}

function settlePicker(item) {
  picker.settle(item);
  picker.settle = () => {};
  picker.asked?.abort();
  clearTimeout(picker.timer);
  if (byId("picker").open) byId("picker").close();
}

async function findItems() {
  picker.asked?.abort();
  const query = byId("query").value.trim();
  if (!query) return showFound([], "Type a part of a title.");
  picker.asked = new AbortController();
  try {
    const path = `v1/items?${new URLSearchParams({ query, limit: "8" })}`;
    const { items } = await ask(path, null, picker.asked.signal);
    showFound(items, items.length ? `${counted(items.length, "item")} found` : "No item has such a title.");
  } catch (error) {
    if (error.name !== "AbortError") showFound([], error.message);
  }
  return undefined;
}

function showFound(items, news) {
  Object.assign(picker, { found: items, active: items.length ? 0 : -1 });
  byId("count").textContent = news;
  byId("count").classList.toggle("unseen", items.length > 0);
  byId("found").replaceChildren(...items.map((item, place) => make("li", {
    id: `found-${place}`, role: "option", onclick: () => settlePicker(item),
  }, said(item.title))));
  byId("query").setAttribute("aria-expanded", String(items.length > 0));
  showActive();
}

function showActive() {
  [...byId("found").children].forEach((option, place) => {
    option.setAttribute("aria-selected", String(place === picker.active));
    if (place === picker.active) option.scrollIntoView({ block: "nearest" });
  });
  const query = byId("query");
  if (picker.active < 0) query.removeAttribute("aria-activedescendant");
  else query.setAttribute("aria-activedescendant", `found-${picker.active}`);
}

function pickerKey(event) {
  const steps = { ArrowDown: 1, ArrowUp: -1 };
  if (event.key in steps && picker.found.length) {
    const { length } = picker.found;
    picker.active = (picker.active + steps[event.key] + length) % length;
    showActive();
  } else if (event.key === "Enter") {
    if (picker.active >= 0) settlePicker(picker.found[picker.active]);
  } else {
    return;
  }
  event.preventDefault();
}

function startPicker() {
  byId("query").addEventListener("keydown", pickerKey);
  byId("query").addEventListener("input", () => {
    clearTimeout(picker.timer);
    picker.active = -1;  // what is listed belongs to an earlier text
    showActive();
    picker.timer = setTimeout(findItems, 150);
  });
  byId("none").addEventListener("click", () => settlePicker(null));
  byId("picker").addEventListener("close", () => settlePicker(undefined));
}
