// From JSON schemas to what a person reads: the fields of a type, and an example of it.

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// The schema that a reference means, within the document.
function resolve(schema, api) {
  let found = schema;
  while (found && found.$ref) found = found.$ref.slice(2).split("/").reduce((at, name) => at[name], api);
  return found || {};
}

function nameOf(schema) {
  return schema.$ref ? schema.$ref.split("/").pop() : null;
}

const LARGE = 2 ** 31 - 1;

function rangeOf({ minimum, maximum, exclusiveMinimum, minItems, maxItems }) {
  const parts = [];
  if (minimum !== undefined && Math.abs(minimum) < LARGE) parts.push(`from ${minimum}`);
  if (exclusiveMinimum !== undefined) parts.push(`above ${exclusiveMinimum}`);
  if (maximum !== undefined && maximum < LARGE) parts.push(`to ${maximum}`);
  if (minItems || maxItems) parts.push(`${minItems || 0} to ${maxItems ?? "any number of"} items`);
  return parts.length ? ` ${parts.join(" ")}` : "";
}

// A type in a few words; null is absence, which goes without saying.
function kindOf(schema, api) {
  if (schema.$ref) {
    const target = resolve(schema, api);
    return target.enum ? kindOf(target, api) : nameOf(schema);
  }
  const choices = schema.anyOf || schema.oneOf;
  if (choices) {
    const words = choices.filter((each) => each.type !== "null").map((each) => kindOf(each, api));
    return [...new Set(words)].join(" or ");
  }
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${schema.items ? kindOf(schema.items, api) : "anything"}`;
  if (schema.type === "object" && schema.additionalProperties) return `object of ${kindOf(schema.additionalProperties, api)}`;
  return (schema.type || "anything") + rangeOf(schema);
}

// The types with fields of their own that a schema leads to.
function within(schema, api) {
  if (schema.$ref) return resolve(schema, api).properties ? [schema] : [];
  const inner = [...(schema.anyOf || schema.oneOf || schema.prefixItems || []), schema.items, schema.additionalProperties];
  return inner.filter((each) => each && typeof each === "object").flatMap((each) => within(each, api));
}

function fieldItem(name, schema, needed, api, open) {
  const item = make("li", "", make("code", "", name), make("span", "kind", kindOf(schema, api)));
  if (needed) item.append(make("span", "needed", "required"));
  const value = schema.default;
  if (value !== undefined && value !== null && typeof value !== "object") {
    item.append(make("span", "kind", `default ${JSON.stringify(value)}`));
  }
  if (schema.description) item.append(make("p", "", schema.description));
  for (const inner of within(schema, api)) {
    if (open.includes(inner.$ref)) continue; // a type within itself
    const more = make("details", "more", make("summary", "", `fields of ${nameOf(inner)}`));
    more.addEventListener("toggle", () => {
      if (more.open && more.children.length === 1) more.append(fieldsOf(inner, api, [...open, inner.$ref]));
    });
    item.append(more);
  }
  return item;
}

// A list, or one of several types: each with its fields, and only the first open where there are several.
function oneOf(schema, api, open) {
  const inner = within(schema, api);
  const found = make("div", "", make("p", "soft", resolve(schema, api).description || kindOf(schema, api)));
  for (const each of inner) {
    const fields = fieldsOf(each, api, [...open, each.$ref]);
    const part = inner.length > 1 ? make("details", "more", make("summary", "", nameOf(each)), fields) : fields;
    part.open = each === inner[0];
    found.append(part);
  }
  return found;
}

// The fields of a type, those first that are needed.
function fieldsOf(schema, api, open = []) {
  const target = resolve(schema, api);
  if (!target.properties) {
    return oneOf(schema, api, open);
  }
  const needed = new Set(target.required || []);
  const names = Object.keys(target.properties).sort((a, b) => needed.has(b) - needed.has(a));
  const list = make("ul", "fields");
  for (const name of names) list.append(fieldItem(name, target.properties[name], needed.has(name), api, open));
  return make("div", "", target.description ? make("p", "", target.description) : null, list);
}

// A value that a schema allows, with the fields that are needed.
function sampleOf(schema, api) {
  const target = resolve(schema, api);
  if (target.default !== undefined) return target.default;
  const choices = target.anyOf || target.oneOf;
  if (choices) return sampleOf(choices[0], api);
  if (target.enum) return target.enum[0];
  if (target.type === "object") {
    const needed = target.required || [];
    return Object.fromEntries(needed.map((name) => [name, name === "model" ? "default" : sampleOf(target.properties[name], api)]));
  }
  return { array: [], string: "", integer: 1, number: 1, boolean: false }[target.type] ?? null;
}
