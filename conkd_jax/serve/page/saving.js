// The answers of the conversation as a predictions.jsonl, the format of docs/metrics.md. There is
// no reference to compare with: `reference` is empty.

function predictionsOf(turns) {
  const kept = turns.filter((turn) => isMessage(turn) || turn.state === "done");
  const responses = kept.map((turn) => !isMessage(turn) && chosenOf(turn).response).filter(Boolean);
  const areTagged = responses.every((response) => response.tag);
  const haveIds = responses.some((response) => response.items.some((item) => item.id));
  const context = [], found = [];
  for (const turn of kept) {
    const response = !isMessage(turn) && chosenOf(turn).response;
    if (response) {
      const tag = areTagged ? { predicted_turn_type: response.tag } : {};
      const ids = haveIds ? idsOf(response) : {};
      found.push({ ...predictionOf(response, context), ...tag, ...ids });
    }
    const text = isMessage(turn) ? withIds(turn) : textForModels(chosenOf(turn));
    const last = context.at(-1);
    if (last?.role === turn.role) last.text += ` ${text}`;  // one turn, as models read it
    else context.push({ role: turn.role, text });
  }
  return found;
}

function predictionOf(response, context) {
  return {
    conversation_id: "chat", turn: context.length, context: structuredClone(context),
    reference: "", reference_items: [],
    generated: response.turn.text,
    generated_items: response.items.map((item) => item.movie_id),
    item_steps: response.items.map((item) => ({
      step: item.token, item: item.movie_id,
      top: [...new Set([item.movie_id, ...item.ranking.map((one) => one.movie_id)])],
    })),
  };
}

// The text ids of an answer's items beside their numbers, in a corpus that has such ids.
function idsOf(response) {
  const items = response.items.flatMap((item) => [item, ...item.ranking]);
  return { ids: Object.fromEntries(items.map((item) => [item.movie_id, item.id])) };
}

// A message as models read it. Places of links count characters, and a digit after "@12" would
// make another item of it.
function withIds({ text, links }) {
  const characters = [...text];
  let written = "", end = 0;
  for (const link of (links ?? []).filter((one) => one.kind === "movie" && !one.denied)) {
    written += `${characters.slice(end, link.start).join("")}@${link.movie_id}`;
    if (/\d/.test(characters[link.end] ?? "")) written += " ";
    end = link.end;
  }
  return written + characters.slice(end).join("");
}

function save() {
  const lines = predictionsOf(talk.turns).map((line) => `${JSON.stringify(line)}\n`);
  const address = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
  const link = make("a", { href: address, download: "chat.jsonl", hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
  tell(`Saved ${counted(lines.length, "answer")} as chat.jsonl.`);
}
