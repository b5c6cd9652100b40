// The page: every route of openapi.json with its fields, its answers, and a form to try it.

const METHODS = ["get", "post", "delete"];

function button(text, className = "") {
  const found = make("button", className, text);
  found.type = className ? "button" : "submit";
  return found;
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function curlOf(method, path, body, key) {
  const parts = ["curl", "-N", quoted(addressOf(path).href)];
  if (method !== "get") parts.push("-X", method.toUpperCase());
  if (key) parts.push("-H", '"Authorization: Bearer $SHIMMY_API_KEY"');
  if (body !== null) parts.push("-H", quoted("Content-Type: application/json"), "-d", quoted(body));
  return parts.join(" ");
}

function field(label, input) {
  return make("label", "", label, input);
}

function editor(value) {
  const area = make("textarea");
  area.spellcheck = false;
  area.value = JSON.stringify(value, null, 2);
  area.rows = Math.min(area.value.split("\n").length + 1, 24);
  return area;
}

// The path with what was written for its parts that vary.
function pathInputs(path, parameters) {
  const inputs = parameters.map(({ name }) => {
    const input = make("input");
    input.value = "default";
    input.required = true;
    return [name, input];
  });
  const fill = () => inputs.reduce((at, [name, input]) => at.replace(`{${name}}`, encodeURIComponent(input.value)), path);
  return { labels: inputs.map(([name, input]) => field(name, input)), fill };
}

function requestForm(method, path, operation, parameters, api, keyOf) {
  const output = new Output();
  const { labels, fill } = pathInputs(path, parameters);
  const content = operation.requestBody?.content["application/json"];
  const body = content ? editor(content.example ?? sampleOf(content.schema, api)) : null;
  const [send, stop, command] = [button("Send"), button("Stop", "plain"), make("pre", "soft")];
  const form = make("form", "", ...labels, body ? field("JSON body", body) : null, make("div", "buttons", send, stop));
  const details = make("details", "more", make("summary", "", "as a command"), command);
  let running = null;
  stop.disabled = true;
  stop.addEventListener("click", () => running?.abort());
  details.addEventListener("toggle", () => {
    command.textContent = curlOf(method, fill(), body && body.value, keyOf());
  });
  form.addEventListener("input", () => {
    command.textContent = curlOf(method, fill(), body && body.value, keyOf());
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    running = new AbortController();
    [send.disabled, stop.disabled] = [true, false];
    output.clear();
    try {
      await call(method, fill(), body && body.value, keyOf(), output, running.signal);
    } catch (error) {
      output.say(error.name === "AbortError" ? "stopped" : `no answer: ${error.message}`, error.name !== "AbortError");
    }
    [send.disabled, stop.disabled] = [false, true];
  });
  return make("div", "", form, details, output.element);
}

// The message that stops what `text` asked for.
function cancelOf(text) {
  let id;
  try {
    ({ id } = JSON.parse(text));
  } catch {
    // the server has refused it, too
  }
  return JSON.stringify({ id, cancel: true });
}

function socketForm(path, messages, api, keyOf) {
  const output = new Output();
  const body = editor(messages.example ?? sampleOf(messages.send, api));
  const [send, cancel, close] = [button("Send"), button("Cancel", "plain"), button("Close", "plain")];
  const form = make("form", "", field("message", body), make("div", "buttons", send, cancel, close));
  const state = () => {
    [cancel.disabled, close.disabled] = [!socket.open, !socket.open];
  };
  const socket = new Socket(path, output, state);
  state();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    output.clear();
    socket.send(body.value, keyOf());
  });
  cancel.addEventListener("click", () => socket.send(cancelOf(body.value)));
  close.addEventListener("click", () => socket.close());
  return make("div", "", form, output.element);
}

function part(title, ...children) {
  return [make("h3", "", title), ...children];
}

function answers(operation, api) {
  const found = [];
  for (const [status, response] of Object.entries(operation.responses)) {
    if (status >= 400) continue;
    for (const [media, { schema, "x-event": event }] of Object.entries(response.content || {})) {
      const title = event ? `${status}, streamed: each event` : `${status} ${media}`;
      found.push(...part(title, fieldsOf(event || schema, api)));
    }
  }
  const errors = Object.entries(operation.responses).filter(([status]) => status >= 400);
  const list = make("ul", "fields");
  for (const [status, { description }] of errors) {
    list.append(make("li", "", make("code", "", status), make("span", "kind", description)));
  }
  const shape = make("div", "", list, fieldsOf({ $ref: "#/components/schemas/ErrorAnswer" }, api));
  found.push(make("details", "more", make("summary", "", `${errors.length} kinds of errors`), shape));
  return found;
}

function inside(method, path, operation, parameters, api, keyOf) {
  const socket = operation["x-websocket"];
  const content = operation.requestBody?.content["application/json"];
  const form = socket ? socketForm(path, socket, api, keyOf) : requestForm(method, path, operation, parameters, api, keyOf);
  const asked = socket ? part("what you send", fieldsOf(socket.send, api)) : content ? part("request", fieldsOf(content.schema, api)) : [];
  return make(
    "div",
    "",
    operation.description ? make("p", "", operation.description) : null,
    ...part("try it", form),
    ...asked,
    ...(socket ? part("what you receive", fieldsOf(socket.receive, api)) : []),
    ...answers(operation, api),
  );
}

function routeOf(method, path, operation, parameters, api, keyOf) {
  const socket = "x-websocket" in operation;
  const shown = make("span", `method ${socket ? "socket" : method}`, socket ? "ws" : method);
  const summary = make("summary", "", shown, make("code", "", path), make("span", "soft", operation.summary));
  const route = make("details", "route", summary);
  route.id = operation.operationId;
  route.addEventListener("toggle", () => {
    if (route.open && route.children.length === 1) route.append(inside(method, path, operation, parameters, api, keyOf));
  });
  return route;
}

function show(api) {
  const key = document.getElementById("key");
  document.getElementById("key-field").hidden = !api.components.securitySchemes;
  document.getElementById("version").textContent = api.info.version;
  document.getElementById("about").textContent = api.info.description.replaceAll("`", "");
  const [contents, routes] = ["contents", "routes"].map((id) => document.getElementById(id));
  for (const { name, description, "x-displayName": title } of api.tags) {
    const section = make("section", "", make("h2", "", title), make("p", "soft", description));
    section.id = `tag-${name}`;
    const link = make("a", "", title);
    link.href = `#${section.id}`;
    contents.append(link);
    for (const [path, item] of Object.entries(api.paths)) {
      for (const method of METHODS.filter((each) => item[each]?.tags?.includes(name))) {
        section.append(routeOf(method, path, item[method], item.parameters || [], api, () => key.value.trim()));
      }
    }
    routes.append(section);
  }
  openNamed();
}

// A link may name a route: /docs#post_api_generate.
function openNamed() {
  const route = location.hash && document.getElementById(location.hash.slice(1));
  if (!route) return;
  route.open = true;
  route.scrollIntoView();
}

addEventListener("hashchange", openNamed);
fetch(addressOf("/openapi.json"))
  .then((response) => response.json())
  .then(show)
  .catch((error) => {
    document.getElementById("about").textContent = `The description of the API cannot be read: ${error.message}`;
  });
