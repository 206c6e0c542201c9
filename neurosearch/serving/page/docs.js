"use strict";
// The routes of /openapi.json, with their bodies and answers. Works offline.
const el = (tag, text, ...children) => {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
};

function fields(schema, all, seen = []) {
  if (!schema) return el("span");
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return seen.includes(name) ? el("code", name) : fields(all[name], all, [...seen, name]);
  }
  const either = schema.anyOf || schema.oneOf;
  if (either) return el("span", "", ...either.flatMap((one, n) => (n ? [" or ", fields(one, all, seen)] : [fields(one, all, seen)])));
  if (schema.type === "array") return el("span", "list of ", fields(schema.items, all, seen));
  if (schema.properties) {
    const needed = schema.required || [];
    return el("ul", "", ...Object.entries(schema.properties).map(([name, one]) =>
      el("li", "", el("code", name), needed.includes(name) ? " (needed): " : ": ", fields(one, all, seen),
        one.default !== undefined && one.default !== null ? `, default ${JSON.stringify(one.default)}` : "")));
  }
  if (schema.additionalProperties && schema.additionalProperties !== true)
    return el("span", "object of ", fields(schema.additionalProperties, all, seen));
  return el("span", schema.const || (schema.enum ? schema.enum.join(", ") : schema.type || "anything"));
}

fetch("/openapi.json").then((answer) => answer.json()).then((api) => {
  const all = api.components ? api.components.schemas : {};
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, route] of Object.entries(methods)) {
      const body = route.requestBody && route.requestBody.content["application/json"];
      const good = Object.entries(route.responses).find(([status]) => status.startsWith("2"));
      const answer = good && good[1].content && good[1].content["application/json"];
      const part = el("details", "", el("summary", `${method.toUpperCase()} ${path}`), el("p", route.description || ""));
      for (const one of route.parameters || []) part.append(el("p", "", el("code", one.name), ` (${one.in}): `, fields(one.schema, all)));
      if (body) part.append(el("h3", "Body"), fields(body.schema, all));
      if (answer) part.append(el("h3", `Answer ${good[0]}`), fields(answer.schema, all));
      document.getElementById("routes").append(part);
    }
}).catch(() => document.getElementById("routes").append(el("p", "The description can't be read.")));
