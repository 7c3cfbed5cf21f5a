// What the page asks its server, and what went wrong, in words.

const STORE = "conkd-serve token";
let secret = recalled();

class Problem extends Error {}

function recalled() {
  try {
    return sessionStorage.getItem(STORE);
  } catch {
    return null;  // storage is forbidden: the token is asked for again after a reload
  }
}

function remember(token) {
  secret = token;
  try {
    sessionStorage.setItem(STORE, token);
  } catch {
    return;
  }
}

// Asks the server, for a token too if it wants one; returns the HTTP response.
async function send(path, body, signal) {
  const headers = { accept: "application/json, text/event-stream" };
  if (secret) headers.authorization = `Bearer ${secret}`;
  if (body) headers["content-type"] = "application/json";
  const options = { headers, signal, cache: "no-store", redirect: "error" };
  if (body) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server can’t be reached. Is conkd-serve still running?");
  }
  if (response.status === 401) {
    await askForToken(Boolean(secret));
    return send(path, body, signal);
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function ask(path, body, signal) {
  const response = await send(path, body, signal);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server stopped before its answer was complete.");
  }
}

async function problemOf(response) {
  const wait = Number(response.headers.get("retry-after")) || 0;
  const later = wait ? ` Try again in ${counted(wait, "second")}.` : " Try again in a moment.";
  if (response.status === 429) return new Problem(`That was too much at once.${later}`);
  if (response.status === 503) return new Problem(`Too many people are asking at this moment.${later}`);
  if (response.status === 504) return new Problem("The answer took too long, and the server gave up.");
  try {
    return new Problem((await response.json()).error.message);
  } catch {
    return new Problem(`The server answered with an error (${response.status}).`);
  }
}

// The events of a POST as they arrive: {name, data}.
async function* events(path, body, signal) {
  const response = await send(path, body, signal);
  const reader = response.body.getReader(), decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + decoder.decode(value, { stream: true })).split(/\r\n\r\n|\n\n/);
      rest = blocks.pop();
      yield* blocks.map(eventOf).filter((event) => event.data !== "");
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return;  // the connection broke: the stream ends without its last event
  } finally {
    reader.cancel().catch(() => {});  // it may be broken already
  }
}

function eventOf(block) {
  const event = { name: "message", data: "" };
  for (const line of block.split(/\r?\n/)) {
    const [, field, value] = /^(\w+): ?([^]*)$/.exec(line) ?? [];
    if (field === "event") event.name = value;
    if (field === "data") event.data += event.data ? `\n${value}` : value;
  }
  return event;
}

// --- the token -----------------------------------------------------------------------------------

let asking = null;  // one question for all requests that wait for the token

function askForToken(wasWrong) {
  asking ??= new Promise((resolve, reject) => {
    const door = byId("door");
    byId("wrong").textContent = wasWrong ? "The server refused that token." : "";
    byId("token").value = "";
    door.addEventListener("close", () => {
      asking = null;
      const token = byId("token").value.trim();
      if (!token) return reject(new Problem("Nothing can be asked here without the server’s token."));
      remember(token);
      return resolve();
    }, { once: true });
    door.showModal();
  });
  return asking;
}
