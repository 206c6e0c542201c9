"use strict";
// The search page: one or two systems side by side. Titles are data: nothing is inserted as HTML.
const $ = (id) => document.getElementById(id);
const el = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name === "class") made.className = value; else made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};
const state = { systems: {}, filters: {}, pages: [], latest: 0, client: clientId(), loading: false };

function clientId() {
  let id = sessionStorage.getItem("client");
  if (!id) { id = Math.random().toString(36).slice(2); sessionStorage.setItem("client", id); }
  return id;
}

async function ask(path, body) {
  const headers = { "Content-Type": "application/json" };
  if ($("key").value) headers["X-API-Key"] = $("key").value;
  const how = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
  const answer = await fetch(path, how);
  const content = await answer.json().catch(() => ({}));
  if (answer.status === 401) $("secret").hidden = false;
  if (!answer.ok) throw new Error(content.detail || `the server answered ${answer.status}`);
  return content;
}

function say(text, error = false) {
  $("status").textContent = text;
  $("status").className = error ? "error" : "";
}

async function begin() {
  state.loading = true;
  try {
    const found = await ask("/v1/systems");
    state.systems = found.systems;
    $("title").textContent = found.title;
    document.title = `${found.title} · NeuroSearch`;
    const names = Object.keys(found.systems);
    for (const name of names) {
      $("left").append(el("option", { value: name }, `${name}: ${found.systems[name].label}`));
      $("right").append(el("option", { value: name }, `${name}: ${found.systems[name].label}`));
    }
    $("right").prepend(el("option", { value: "" }, "nothing"));
    $("right").value = names[1] || "";
    $("beside").hidden = names.length < 2;
    const early = $("text").value;  // typed before the systems were known
    recall();
    if (early) $("text").value = early;
    if ($("text").value.trim()) search(Boolean(early)); else say("Type a query.");
  } catch (error) { say(error.message, true); }
  state.loading = false;
}

function shownSystems() {
  return [...new Set([$("left").value, $("right").value].filter(Boolean))];
}

function request(system, cursor) {
  const fields = state.systems[system].fields.filter((f) => ["brand", "colour", "category"].includes(f));
  const body = { query: $("text").value, k: 10, system, facets: fields, client_id: state.client };
  const filters = Object.entries(state.filters).filter(([field, values]) =>
    values.length && state.systems[system].fields.includes(field));
  if (filters.length) body.filters = Object.fromEntries(filters);
  if (cursor) body.cursor = cursor;
  return body;
}

function remember(pushes) {
  const where = new URLSearchParams({ q: $("text").value, left: $("left").value, right: $("right").value });
  for (const [field, values] of Object.entries(state.filters)) for (const value of values) where.append(`f.${field}`, value);
  const url = `?${where}`;
  if (url === location.search) return;
  history[pushes ? "pushState" : "replaceState"](null, "", url);
}

function recall() {
  const where = new URLSearchParams(location.search);
  $("text").value = where.get("q") || "";
  for (const side of ["left", "right"])
    if (where.has(side) && [...$(side).options].some((o) => o.value === where.get(side))) $(side).value = where.get(side);
  state.filters = {};
  for (const [name, value] of where)
    if (name.startsWith("f.")) (state.filters[name.slice(2)] = state.filters[name.slice(2)] || []).push(value);
  return Boolean($("text").value);
}

async function search(pushes = true) {
  if (!Object.keys(state.systems).length) {  // begin() searches when it knows the systems
    if (!state.loading) begin();
    return;
  }
  const turn = ++state.latest;
  if (!$("text").value.trim()) { say("Type a query."); return; }
  say("Searching…");
  remember(pushes);
  try {
    const begun = performance.now();
    const answers = await Promise.all(shownSystems().map((name) => ask("/v1/search", request(name))));
    if (turn !== state.latest) return;  // a newer query was asked meanwhile
    state.pages = answers.map((answer) => ({ ...answer }));
    draw();
    const found = answers.some((answer) => answer.results.length);
    const filtered = Object.values(state.filters).some((values) => values.length);
    say(found ? `${Math.round(performance.now() - begun)} ms` :
      filtered ? "No product passes these filters. Esc clears them." : "No product was found.");
  } catch (error) {
    if (turn !== state.latest) return;
    state.pages = []; draw(); say(error.message, true);
  }
}

function draw() {
  $("lists").replaceChildren(...state.pages.map(list));
  drawFacets();
}

function list(page, at) {
  const other = state.pages[1 - at];
  const ranks = other ? new Map(other.results.map((p) => [p.product_id, p.rank])) : null;
  const steps = page.query.steps.map((step) => el("p", { class: "note" }, `${step.step}: ${step.why || step.after}`));
  const read = page.query.read === page.query.text ? null : el("p", { class: "read" }, `read as “${page.query.read}”`);
  const products = el("ol", {}, ...page.results.map((product) => row(product, page, ranks)));
  const more = page.next_cursor ? el("button", { type: "button" }, "More products") : null;
  if (more) more.addEventListener("click", () => further(at, more));
  return el("section", { "aria-label": page.system }, el("h2", {}, page.label), read, ...steps, times(page), products, more);
}

function times(page) {
  const stages = Object.entries(page.timings_ms);
  const total = stages.reduce((sum, [, ms]) => sum + ms, 0);
  if (!stages.length) return el("p", { class: "note" }, page.cached ? "from the cache" : "");
  const bars = stages.map(([name, ms]) => {
    const bar = el("span", { title: `${name}: ${ms} ms` }, `${name} ${ms.toFixed(1)}`);
    bar.style.flex = String(Math.max(ms / total, 0.02));
    return bar;
  });
  return el("div", { class: "times", role: "img", "aria-label": `time by stage: ${stages.map(([n, ms]) => `${n} ${ms} ms`).join(", ")}` }, ...bars);
}

function moved(product, ranks) {
  if (!ranks) return null;
  const there = ranks.get(product.product_id);
  if (there === undefined) return el("span", { class: "new", title: "not among the other list's products" }, "only here");
  const by = there - product.rank;
  if (by === 0) return el("span", {}, "same place");
  return el("span", { class: by > 0 ? "up" : "down", title: `rank ${there} there` }, by > 0 ? `▲ ${by}` : `▼ ${-by}`);
}

function row(product, page, ranks) {
  const facts = [product.brand, product.colour, product.category].filter(Boolean).join(" · ");
  const picture = product.image ? el("img", { src: `${product.image}?system=${page.system}`, alt: "", loading: "lazy" }) : null;
  if (picture) picture.addEventListener("error", () => { picture.style.visibility = "hidden"; });
  const why = el("button", { type: "button", "aria-expanded": "false" }, "why");
  const item = el("li", { class: picture ? "product" : "product plain", tabindex: "0", "data-id": product.product_id },
    el("span", { class: "rank" }, String(product.rank)), picture,
    el("div", { class: "name" }, product.title || product.product_id, el("div", { class: "more" }, facts)),
    el("div", { class: "side" }, moved(product, ranks), el("div", {}, product.score.toPrecision(4)), why));
  if (ranks && ranks.has(product.product_id)) item.classList.add("same");
  const toggle = () => explain(item, why, product, page);
  why.addEventListener("click", (event) => { event.stopPropagation(); toggle(); });
  item.addEventListener("keydown", (event) => {
    if (event.target === item && event.key === "Enter") toggle();
  });
  item.addEventListener("click", () => event_(page, product, "click"));
  return item;
}

function event_(page, product, action) {
  ask("/v1/events", {
    event_id: `${page.request_id}-${product.product_id}-${action}`, query_id: page.request_id,
    action_name: action, product_id: product.product_id, position: product.rank, client_id: state.client,
  }).catch(() => {});
}

async function explain(item, button, product, page) {
  const open = item.querySelector(".why");
  button.setAttribute("aria-expanded", String(!open));
  if (open) { open.remove(); return; }
  const box = el("div", { class: "why" }, "…");
  item.append(box);
  try {
    const found = await ask("/v1/explain", { query: page.query.text, product_id: product.product_id, system: page.system });
    box.replaceChildren(
      el("div", {}, `${found.how || ""}${found.exact ? "; the parts add up to the score" : "; approximate"}`), parts(found));
  } catch (error) { box.textContent = error.message; }
}

function parts(why) {
  const most = Math.max(...why.parts.map((p) => Math.abs(p.value)), Math.abs(why.constant), 1e-9);
  const all = why.constant ? [{ name: "constant", value: why.constant }, ...why.parts] : why.parts;
  return el("ul", {}, ...all.map((part) => {
    const bar = el("span", { class: part.value < 0 ? "bar minus" : "bar" });
    bar.style.width = `${(100 * Math.abs(part.value)) / most}%`;
    const line = el("div", { class: "part" }, el("span", {}, part.value.toFixed(4)), bar,
      el("span", {}, part.name, part.note ? ` (${part.note})` : ""));
    const below = part.of ? parts(part.of) : part.parts ? parts({ parts: part.parts, constant: 0 }) : null;
    return el("li", {}, line, below);
  }));
}

async function further(at, button) {
  button.disabled = true;
  const page = state.pages[at];
  try {
    const next = await ask("/v1/search", request(page.system, page.next_cursor));
    page.results = [...page.results, ...next.results];
    page.next_cursor = next.next_cursor;
    const focused = next.results[0] && next.results[0].product_id;
    draw();
    const item = focused && $("lists").children[at].querySelector(`[data-id="${CSS.escape(focused)}"]`);
    if (item) item.focus();
  } catch (error) { say(error.message, true); button.disabled = false; }
}

function drawFacets() {
  const counts = {};
  for (const page of state.pages)
    for (const [field, values] of Object.entries(page.facets))
      for (const { value, count } of values) {
        counts[field] = counts[field] || {};
        counts[field][value] = Math.max(counts[field][value] || 0, count);
      }
  for (const [field, chosen] of Object.entries(state.filters))
    for (const value of chosen) { counts[field] = counts[field] || {}; counts[field][value] = counts[field][value] || 0; }
  const active = document.activeElement;
  const focused = active.dataset && active.dataset.field ? [active.dataset.field, active.dataset.value] : null;
  $("facets").replaceChildren(...Object.entries(counts).map(([field, values]) => {
    const lines = Object.entries(values).sort((a, b) => b[1] - a[1]).slice(0, 20).map(([value, count]) => {
      const box = el("input", { type: "checkbox", "data-field": field, "data-value": value });
      box.checked = (state.filters[field] || []).includes(value);
      box.addEventListener("change", () => {
        const chosen = new Set(state.filters[field] || []);
        if (box.checked) chosen.add(value); else chosen.delete(value);
        state.filters[field] = [...chosen];
        search();
      });
      return el("label", {}, box, value, el("span", {}, String(count)));
    });
    return el("fieldset", {}, el("legend", {}, field), ...lines);
  }));
  if (focused) {
    const again = [...$("facets").querySelectorAll("input")].find((b) => b.dataset.field === focused[0] && b.dataset.value === focused[1]);
    if (again) again.focus();
  }
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); search(); });
for (const id of ["left", "right"]) $(id).addEventListener("change", () => $("text").value.trim() && search());
$("key").addEventListener("change", () => search());
document.addEventListener("keydown", (event) => {
  const typing = ["INPUT", "SELECT"].includes(document.activeElement.tagName);
  if (event.key === "/" && !typing) { event.preventDefault(); $("text").focus(); $("text").select(); }
  if (event.key === "Escape") { state.filters = {}; if ($("text").value.trim()) search(); }
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (document.activeElement.tagName === "SELECT") return;
    const items = [...document.querySelectorAll("li.product")];
    const at = items.indexOf(document.activeElement);
    const next = items[event.key === "ArrowDown" ? at + 1 : at - 1];
    if (next) { event.preventDefault(); next.focus(); } else if (event.key === "ArrowUp") $("text").focus();
  }
});
window.addEventListener("popstate", () => { if (recall()) search(false); });
begin();
