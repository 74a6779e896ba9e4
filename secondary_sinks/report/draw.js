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
