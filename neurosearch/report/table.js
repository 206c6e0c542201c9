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

// The charts, drawn by Vega; again when the reader changes between light and dark.
const dark = matchMedia("(prefers-color-scheme: dark)");
const besideOthers = spec => {  // names that would cover a point or another name are left out
  const find = marks => marks.flatMap(mark => [mark, ...(mark.marks ? find(mark.marks) : [])]);
  const names = find(spec.marks).find(mark => mark.name === "labels_marks");
  if (names) names.transform = [{type: "label", size: {signal: "[width, height]"}, offset: [8],
    avoidMarks: ["systems_marks"], anchor: ["right", "left", "top", "bottom"]}];
  return spec;
};
const draw = () => document.querySelectorAll("[data-chart]").forEach(node =>
  vegaEmbed(node, facts.charts[node.dataset.chart][Number(node.dataset.number)], {
    actions: false, renderer: "svg", patch: besideOthers, theme: dark.matches ? "dark" : undefined,
    config: {background: "transparent", font: "system-ui, sans-serif",
      axis: {gridOpacity: 0.25, tickCount: 5}},
  }));
draw();
dark.addEventListener("change", draw);

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
  $("listing").replaceChildren();
  places.forEach(([n, place], number) => {
    const item = make("li"), button = make("button", queries.queries[n]);
    button.append(make("i", (gap(n) > 0 ? "+" : "") + share(gap(n))));
    button.addEventListener("click", () => {
      document.querySelectorAll("#listing [aria-current]").forEach(other => other.removeAttribute("aria-current"));
      button.setAttribute("aria-current", "true");
      sides(place, a, b);
    });
    item.append(button);
    $("listing").append(item);
    if (!number) button.click();
  });
  if (!places.length) $("lists").replaceChildren(make("p", "no such query among those listed"));
}
function sides(place, a, b) {
  const queries = facts.queries, grades = queries.grades[place] || {};
  $("lists").replaceChildren(...[a, b].map(system => {
    const box = make("div"), list = make("ol");
    box.append(make("b", queries.systems[system]));
    const read = queries.reads[system][place];
    if (read) box.append(make("p", `read as: ${read}`));
    box.append(list);
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
