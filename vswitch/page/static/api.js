// The API of the switch: questions, changes, streams. All addresses are relative to the page, which
// a reverse proxy may have put anywhere.

export class ApiError extends Error {
  constructor(status, message, { problem = "", about = {}, wait = 0 } = {}) {
    super(message); // in English
    this.status = status; // 0: the switch does not answer
    this.problem = problem; // a word for it, with its facts: see refusals.js
    this.about = about;
    this.wait = wait; // seconds until it will hear us again, as far as it says
  }
}

const PATIENCE = 15000; // ms for an answer

let network = null;
let csrf = "";
let refused = () => {};

export function useNetwork(name) {
  network = name;
}

export function useSession(session) {
  csrf = session?.csrf ?? "";
}

// Called when the switch does not know us any more.
export function onRefused(called) {
  refused = called;
}

export function address(path, query = {}) {
  const url = new URL(path, document.baseURI);
  const all = network === null ? query : { ...query, network };
  for (const [key, value] of Object.entries(all)) {
    if (value !== "" && value !== null && value !== undefined) url.searchParams.set(key, value);
  }
  return url;
}

async function ask(method, path, { query, body, tag, accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  if (tag) headers["If-Match"] = tag;
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(address(path, query), {
      method, headers, signal, credentials: "same-origin", cache: "no-store",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted && signal.reason?.name !== "TimeoutError") throw error;
    throw new ApiError(0, String(error.message));
  }
  if (answer.ok) return answer;
  let said = {};
  try {
    said = await answer.json();
  } catch {
    // Something between us and the switch has answered: its status says it.
  }
  if (answer.status === 401 && path !== "v1/login") refused();
  throw new ApiError(answer.status, String(said.error ?? `${answer.status} ${answer.statusText}`),
    { problem: said.problem, about: said.about, wait: Number(answer.headers.get("Retry-After") ?? 0) });
}

async function json(method, path, more = {}) {
  const answer = await ask(method, path, { ...more, signal: AbortSignal.timeout(PATIENCE) });
  const text = await answer.text();
  return text ? JSON.parse(text) : {};
}

export const get = (path, query) => json("GET", path, { query });
export const post = (path, body, query) => json("POST", path, { body, query });
export const put = (path, body, query, tag) => json("PUT", path, { body, query, tag });
export const patch = (path, body, query) => json("PATCH", path, { body, query });
export const remove = (path, body, query) => json("DELETE", path, { body, query });

// An answer, and the ETag with which a change is refused when somebody else was faster.
export async function tagged(path) {
  const answer = await ask("GET", path, { signal: AbortSignal.timeout(PATIENCE) });
  return { said: await answer.json(), tag: answer.headers.get("ETag") };
}

export const part = encodeURIComponent; // of a path: a name

// What the switch says as it happens, until `signal` is aborted or it ends; `heard(data)` for each
// message. `EventSource` would not say why a question was refused.
export async function listen(path, query, heard, signal) {
  const answer = await ask("GET", path, { query, signal, accept: "text/event-stream" });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    waiting += value.replaceAll("\r", "");
    const messages = waiting.split("\n\n");
    waiting = messages.pop();
    for (const message of messages) {
      const data = message.split("\n").filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart()).join("\n");
      if (data) heard(JSON.parse(data));
    }
  }
}
