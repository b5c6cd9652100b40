// Calls of the server: whole answers, streams of events, and the WebSocket.

const MOST_EVENTS = 1000;

// The address of a path of the API: beside this page, wherever that is.
function addressOf(path) {
  return new URL(`.${path}`, location.href);
}

// What an event adds to the text: of our own routes, of OpenAI's, of the WebSocket.
function piecesOf(event) {
  const choice = (event.choices || [])[0] || {};
  const delta = choice.delta || {};
  return { text: delta.content ?? choice.text ?? event.token ?? "", thought: delta.reasoning_content ?? "" };
}

// Where an answer is shown: what became of it, its text or JSON, and the events that it came in.
class Output {
  constructor() {
    this.status = make("p", "soft");
    this.status.setAttribute("role", "status");
    this.text = make("pre");
    this.events = make("pre");
    this.summary = make("summary", "", "events");
    this.more = make("details", "more", this.summary, this.events);
    this.element = make("div", "", this.status, this.text, this.more);
    this.clear();
  }

  clear() {
    this.status.textContent = "";
    this.status.className = "soft";
    this.text.replaceChildren();
    this.events.replaceChildren();
    this.more.hidden = true;
    this.n = 0;
  }

  say(text, bad = false) {
    this.status.textContent = text;
    this.status.className = bad ? "bad" : "soft";
  }

  show(text) {
    this.text.textContent = text;
  }

  event(data) {
    this.n += 1;
    this.more.hidden = false;
    this.summary.textContent = `${this.n} events`;
    if (this.n <= MOST_EVENTS) this.events.append(`${data}\n`);
    let event = null;
    try {
      event = JSON.parse(data);
    } catch {
      return null; // [DONE]
    }
    const { text, thought } = piecesOf(event);
    if (thought) this.text.append(make("span", "thought", thought));
    if (text) this.text.append(text);
    if (event.error) {
      this.say(`${event.error.code}: ${event.error.message}`, true);
    }
    return event;
  }
}

// Reads a stream of events up to its end; what is left of a comment or of an event that breaks off is dropped.
async function readEvents(response, output) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const lines = event.split("\n").filter((line) => line.startsWith("data:"));
      if (lines.length) output.event(lines.map((line) => line.slice(5).trimStart()).join("\n"));
    }
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

// One request; `signal` ends it early.
async function call(method, path, body, key, output, signal) {
  const headers = {};
  if (body !== null) headers["Content-Type"] = "application/json";
  if (key) headers.Authorization = `Bearer ${key}`;
  const started = performance.now();
  const since = () => `${Math.round(performance.now() - started)} ms`;
  output.say("waiting …");
  const response = await fetch(addressOf(path), { method: method.toUpperCase(), headers, body, signal });
  const what = `${response.status} ${response.statusText}`.trim();
  const id = response.headers.get("X-Request-Id");
  output.say(`${what}, ${since()}`, !response.ok);
  if ((response.headers.get("Content-Type") || "").startsWith("text/event-stream")) {
    await readEvents(response, output);
    if (output.status.className === "bad") return;
  } else {
    output.show(pretty(await response.text()));
  }
  output.say(`${what}, ${since()}${id ? `, request ${id}` : ""}`, !response.ok);
}

// A WebSocket that stays open from one message to the next.
class Socket {
  constructor(path, output, onState) {
    this.path = path;
    this.output = output;
    this.onState = onState;
    this.socket = null;
  }

  get open() {
    return this.socket !== null;
  }

  send(text, key) {
    if (this.open) {
      this.socket.send(text);
      return;
    }
    const address = addressOf(this.path);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    this.socket = socket;
    this.output.say("connecting …");
    socket.onopen = () => {
      this.output.say("connected");
      this.onState();
      if (key) socket.send(JSON.stringify({ api_key: key })); // a browser cannot set headers here
      socket.send(text);
    };
    socket.onmessage = ({ data }) => {
      const event = this.output.event(data);
      if (event && event.done) this.output.say(`done: ${event.finish_reason}`);
    };
    socket.onclose = ({ code, reason }) => {
      this.socket = null;
      this.output.say(`closed (${code}${reason ? `: ${reason}` : ""})`, code !== 1000 && code !== 1005);
      this.onState();
    };
  }

  close() {
    if (this.open) this.socket.close(1000);
  }
}
