"use strict";
const facts = JSON.parse(document.getElementById("facts").textContent);
const $ = id => document.getElementById(id);
const make = (tag, text, name) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
};
const share = value => value.toFixed(3).replace(/^-(?=0\.000$)/, "").replace(/^(-?)0\./, "$1.");

// The table: a click on a column's head sorts by it, the best first.
document.querySelectorAll(".sortable").forEach(table => {
  const heads = [...table.querySelectorAll("thead th")], body = table.tBodies[0];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const sorted = head.getAttribute("aria-sort");
    const down = sorted ? sorted === "ascending" : column > 0 && !head.dataset.lower;
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => {
      const cell = row.cells[column];
      if (!cell) return null;
      if (column === 0) return cell.textContent;
      return cell.dataset.sort ? Number(cell.dataset.sort) : null;
    };
    [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      const order = column === 0 ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    }).forEach(row => body.append(row));
  }));
});

// Small charts in SVG. `scale` gives what maps a value to a pixel.
const spare = make("div");
spare.innerHTML = "<svg></svg>";  // the parser knows the name space
const svg = (tag, attributes) => {
  const node = document.createElementNS(spare.firstChild.namespaceURI, tag);
  Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
  return node;
};
const scale = (values, from, to, log) => {
  const bend = log ? value => Math.log10(Math.max(value, 1e-9)) : value => value;
  const low = Math.min(...values.map(bend)), wide = (Math.max(...values.map(bend)) - low) || 1;
  return value => from + (bend(value) - low) / wide * (to - from);
};
const frame = (title, xName, yName, xs, ys, log) => {
  const [width, height] = [420, 260];
  const image = svg("svg", {viewBox: `0 0 ${width} ${height}`, width, height, role: "img"});
  image.setAttribute("aria-label", title);
  image.append(svg("path", {class: "axis", fill: "none", d: "M46 16V224H410"}));
  const words = (x, y, text, anchor) => {
    const node = svg("text", {x, y, "text-anchor": anchor || "start"});
    node.textContent = text;
    image.append(node);
  };
  const told = value => Math.abs(value) >= 100 ? value.toFixed(0) : Number(value.toPrecision(3));
  words(46, 11, yName); words(410, 252, xName + (log ? " (log)" : ""), "end");
  words(42, 224, told(Math.min(...ys)), "end"); words(42, 26, told(Math.max(...ys)), "end");
  words(60, 238, told(Math.min(...xs))); words(404, 238, told(Math.max(...xs)), "end");
  return image;
};

function pareto(panel) {
  const {name, metric, points} = panel;
  const xs = points.map(p => p.x), ys = points.map(p => p.y);
  const image = frame(`${metric} against ${name}`, name, metric, xs, ys, true);
  const x = scale(xs, 60, 400, true), y = scale(ys, 214, 34, false);
  const front = points.filter(p => p.front).sort((a, b) => a.x - b.x);
  image.append(svg("polyline", {class: "front", points: front.map(p => `${x(p.x)},${y(p.y)}`).join(" ")}));
  points.forEach(p => {
    const dot = svg("circle", {cx: x(p.x), cy: y(p.y), r: 5, class: p.front ? "on" : ""});
    const title = svg("title", {});
    title.textContent = `${p.system}: ${share(p.y)}, ${p.x}`;
    dot.append(title);
    image.append(dot);
    if (!p.front) return;
    const left = x(p.x) > 240, name = svg("text", {x: x(p.x) + (left ? 5 : -5), y: y(p.y) - 8,
      "text-anchor": left ? "end" : "start"});
    name.textContent = p.system.length > 34 ? p.system.slice(0, 33) + "…" : p.system;
    image.append(name);
  });
  const box = make("div"), list = make("p", "", "note");
  list.textContent = "Front: " + front.map(p => p.system).join("; ");
  box.append(image, list);
  return box;
}
if ($("pareto")) facts.pareto.forEach(panel => document.querySelector("#pareto .charts").append(pareto(panel)));

// Training curves: one metric of all rows that were trained.
const INKS = ["#0b6bcb", "#c2410c", "#1a7f37", "#8250df", "#9a6700", "#0e7490", "#bf3989", "#57606a"];
function curves() {
  const metric = $("metric").value, series = [];
  facts.curves.forEach(row => row.trainings.forEach(training => {
    const told = row.trainings.length > 1 ? `${row.system} (${training.name})` : row.system;
    if (training.metrics[metric]) series.push([told, training.metrics[metric]]);
  }));
  const xs = series.flatMap(([, points]) => points.map(p => p[0]));
  const ys = series.flatMap(([, points]) => points.map(p => p[1]));
  const image = frame(metric, "step", metric, xs, ys, false), list = make("ul");
  const x = scale(xs, 60, 400, false), y = scale(ys, 214, 26, false);
  series.forEach(([told, points], number) => {
    const ink = INKS[number % INKS.length], dashes = number < INKS.length ? "" : "5 3";
    const line = svg("polyline", {points: points.map(p => `${x(p[0])},${y(p[1])}`).join(" ")});
    line.style.stroke = ink;
    line.style.strokeDasharray = dashes;
    image.append(line);
    const item = make("li"), swatch = make("b", dashes ? "┄ " : "─ ");
    swatch.style.color = ink;
    const [low, high] = [Math.min, Math.max].map(end => end(...points.map(p => p[1])));
    const [first, last] = [points[0][1], points[points.length - 1][1]];
    item.append(swatch, `${told}: ${first.toPrecision(3)} to ${last.toPrecision(3)}`);
    item.title = `from ${low.toPrecision(4)} to ${high.toPrecision(4)}`;
    list.append(item);
  });
  document.querySelector("#curves .charts").replaceChildren(image, list);
}
if ($("curves")) {
  const names = new Set(facts.curves.flatMap(row => row.trainings.flatMap(t => Object.keys(t.metrics))));
  names.forEach(name => $("metric").append(make("option", name)));
  $("metric").value = names.has("loss") ? "loss" : [...names][0];
  $("metric").addEventListener("change", curves);
  curves();
}

// Any two rows, query by query.
function compare() {
  const queries = facts.queries;
  const a = Number($("one").value), b = Number($("other").value);
  const [ours, theirs] = [queries.scores[a], queries.scores[b]];
  const both = ours.map((value, n) => n).filter(n => ours[n] !== null && theirs[n] !== null);
  const gap = n => ours[n] - theirs[n];
  const won = both.filter(n => gap(n) > 1e-9).length, lost = both.filter(n => gap(n) < -1e-9).length;
  $("tally").textContent = `${queries.metric}: A wins ${won}, ties ${both.length - won - lost}, loses ${lost} `
    + `of ${both.length} queries`;
  const body = $("kinds").tBodies[0];
  body.replaceChildren();
  const mean = (values, where) => where.reduce((sum, n) => sum + values[n], 0) / where.length;
  const line = (name, where) => {
    if (!where.length) return;
    const row = make("tr");
    const [x, y] = [mean(ours, where), mean(theirs, where)];
    row.append(make("td", name), make("td", where.length), make("td", share(x)), make("td", share(y)));
    row.append(make("td", (x >= y ? "+" : "") + share(x - y)));
    body.append(row);
  };
  line("all", both);
  queries.slices.forEach(slice => slice.values.forEach((value, number) =>
    line(`${slice.name}: ${value}`, both.filter(n => slice.of[n] === number))));
  listing(a, b, gap);
}
function listing(a, b, gap) {
  const queries = facts.queries, words = $("find").value.toLowerCase();
  const places = queries.listed.map((n, place) => [n, place])
    .filter(([n]) => Number.isFinite(gap(n)) && queries.queries[n].toLowerCase().includes(words));
  const sign = $("order").value === "won" ? -1 : 1;
  places.sort((x, y) => sign * (gap(x[0]) - gap(y[0])));
  $("asked").replaceChildren();
  places.forEach(([n, place], number) => {
    const item = make("li"), button = make("button", queries.queries[n]);
    button.append(make("i", (gap(n) > 0 ? "+" : "") + share(gap(n))));
    button.addEventListener("click", () => {
      document.querySelectorAll("#asked [aria-current]").forEach(other => other.removeAttribute("aria-current"));
      button.setAttribute("aria-current", "true");
      sides(place, a, b);
    });
    item.append(button);
    $("asked").append(item);
    if (!number) button.click();
  });
  if (!places.length) $("lists").replaceChildren(make("p", "no such query among those listed"));
}
function sides(place, a, b) {
  const queries = facts.queries, grades = queries.grades[place] || {};
  $("lists").replaceChildren(...[a, b].map(system => {
    const box = make("div"), list = make("ol");
    box.append(make("b", queries.systems[system]), list);
    (queries.lists[system] ? queries.lists[system][place] : []).forEach(product => {
      const grade = grades[product];
      const item = make("li", queries.titles[product], grade ? (grade[1] ? "hit" : "miss") : "unjudged");
      item.append(make("small", grade ? ` ${grade[0]}` : " –"));
      list.append(item);
    });
    return box;
  }));
}
if ($("queries")) {
  facts.queries.systems.forEach((system, number) => ["one", "other"].forEach(id => {
    const option = make("option", system);
    option.value = number;
    $(id).append(option);
  }));
  $("one").value = facts.pair[0];
  $("other").value = facts.pair[1];
  ["one", "other", "order"].forEach(id => $(id).addEventListener("change", compare));
  $("find").addEventListener("input", compare);
  compare();
}
