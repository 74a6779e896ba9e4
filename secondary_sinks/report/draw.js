"use strict";
// Draw every figure from the data next to it, one after the other, so that the text shows at once.
// Nothing is fetched.
const places = [...document.querySelectorAll(".figure")];
const options = { responsive: true, displaylogo: false, displayModeBar: false, typesetMath: false };
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const draw = (place) => {
  if (place.dataset.height) return;
  const figure = read(place.id + "-data");
  place.dataset.height = figure.layout.height;
  Plotly.newPlot(place, figure.data, figure.layout, options);
  place.closest("figure").classList.add("drawn");
  link(place, figure.layout.meta?.sinks);
};
const next = (index) => {
  if (index === places.length) return;
  draw(places[index]);
  setTimeout(next, 0, index + 1);
};
requestAnimationFrame(() => setTimeout(next, 0, 0));

// Downloads of a figure: its numbers as CSV, and the picture as SVG.
const save = (name, type, content) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = "secondary-sinks-" + name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};
for (const button of document.querySelectorAll("[data-table]")) {
  const name = button.dataset.table;
  button.addEventListener("click", () => save(name + ".csv", "text/csv", read(name + "-table")));
}
for (const button of document.querySelectorAll("[data-picture]")) {
  const place = document.getElementById(button.dataset.picture);
  button.addEventListener("click", async () => {
    const { width, height } = place.getBoundingClientRect();
    const picture = await Plotly.toImage(place, { format: "svg", width, height });
    const svg = decodeURIComponent(picture.slice(picture.indexOf(",") + 1));
    save(place.id + ".svg", "image/svg+xml", svg);
  });
}

// Figures that follow the width of the window must be resized to the width of the paper, and fit one sheet.
const PAPER = { width: 660, height: 860 };
const resize = (place, width, height) => {
  place.style.height = height + "px";
  Plotly.relayout(place, { width, height, autosize: !width });
};
addEventListener("beforeprint", () => {
  for (const place of places) {
    draw(place);
    resize(place, PAPER.width, Math.min(place.dataset.height, PAPER.height));
  }
});
addEventListener("afterprint", () => {
  for (const place of places) resize(place, null, Number(place.dataset.height));
});

// A figure that was folded away when it was drawn takes the width that it has once it is shown.
for (const fold of document.querySelectorAll("details.fold")) {
  fold.addEventListener("toggle", () => {
    for (const place of fold.querySelectorAll(".drawn .figure")) Plotly.Plots.resize(place);
  });
}

// A note opens towards the middle of its strip.
for (const mark of document.querySelectorAll(".strip mark")) {
  const turn = () => {
    const strip = mark.closest(".strip").getBoundingClientRect();
    const late = mark.getBoundingClientRect().left > strip.left + strip.width / 2;
    mark.classList.toggle("late", late);
  };
  mark.addEventListener("pointerenter", turn);
  mark.addEventListener("focus", turn);
}

// The table of all sinks: sorted by a click on a column, filtered by words, and each row leads to its
// token in the text and back. Without this script it is a plain table.
const sinks = document.querySelector("table.sinks");
const said = document.createElement("output");
const cellOf = (row, column) => row.cells[column].textContent;
const numberIn = (words) => Number((words.match(/-?\d[\d,]*\.?\d*/) || ["-1e9"])[0].replaceAll(",", ""));
const sort = (heading) => {
  const { cellIndex } = heading;
  const down = heading.getAttribute("aria-sort") !== "descending";
  const compare = heading.classList.contains("n")
    ? (a, b) => numberIn(cellOf(a, cellIndex)) - numberIn(cellOf(b, cellIndex))
    : (a, b) => cellOf(a, cellIndex).localeCompare(cellOf(b, cellIndex), "en", { numeric: true });
  const rows = [...sinks.tBodies[0].rows].sort(compare);
  for (const other of sinks.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  sinks.tBodies[0].append(...(down ? rows.reverse() : rows));
};
const show = (isWanted) => {
  const rows = [...sinks.tBodies[0].rows];
  for (const row of rows) row.hidden = !isWanted(row);
  said.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
};
const filter = (words) => {
  const wanted = words.toLowerCase().split(/\s+/);
  show((row) => {
    const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
};
const chosenListeners = [];
const highlight = (keys) => {
  for (const one of document.querySelectorAll("[data-sink]")) one.classList.toggle("chosen", keys.has(one.dataset.sink));
  for (const [place, links] of linked) frame(place, links, keys);
  for (const listen of chosenListeners) listen(keys);
};
const choose = (from) => {
  const key = from.dataset.sink;
  highlight(new Set([key]));
  reveal(document.querySelector(`${from.matches("tr") ? ".texts mark" : "tr"}[data-sink="${key}"]`));
};
const reveal = (other) => {
  if (!other) return;
  other.hidden = false;
  for (let up = other.closest("details"); up; up = up.parentElement.closest("details")) up.open = true;
  other.focus({ preventScroll: true });
  other.scrollIntoView({ block: "center" });
};

// Maps whose cells or rows are linked to sinks, as [x or null, y, keys]: a click leads to their rows in the
// table (only these are shown if they are several), and chosen sinks are framed in the maps.
const linked = new Map();
const link = (place, links) => {
  if (!links || !sinks) return;
  linked.set(place, links);
  place.classList.add("linked");
  place.on("plotly_click", ({ points: [{ x, y }] }) => {
    const at = links.find((one) => one[1] === y && (one[0] === null || one[0] === x));
    if (!at) return;
    const keys = new Set(at[2]);
    highlight(keys);
    if (keys.size > 1) show((row) => keys.has(row.dataset.sink));
    reveal(document.querySelector(`tr[data-sink="${at[2][0]}"]`));
  });
};
const frame = (place, links, keys) => {
  const shapes = links.filter((one) => one[2].some((key) => keys.has(key))).map(([x, y]) => ({
    type: "rect", y0: y - 0.5, y1: y + 0.5, line: { color: "rgb(213,94,0)", width: 2 },
    ...(x === null ? { xref: "paper", x0: 0, x1: 1 } : { x0: x - 0.5, x1: x + 0.5 }),
  }));
  Plotly.relayout(place, { shapes });
};
if (sinks) {
  for (const heading of sinks.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(heading));
    heading.append(button);
  }
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = "such as: secondary the";
  input.addEventListener("input", () => filter(input.value));
  label.append("Show rows with ", input, " ", said);
  label.className = "filter";
  sinks.closest(".scroll").before(label);
  for (const one of document.querySelectorAll("[data-sink]")) {
    if (one.matches("tr")) one.tabIndex = 0;
    one.addEventListener("click", () => choose(one));
    one.addEventListener("keydown", (event) => event.key === "Enter" && choose(one));
  }
}
