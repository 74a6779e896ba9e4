"use strict";
// Draw every figure from the data beside it. Nothing is fetched.
const places = [...document.querySelectorAll(".figure")];
const options = { responsive: true, displaylogo: false, displayModeBar: false, typesetMath: false };
for (const place of places) {
  const figure = JSON.parse(document.getElementById(place.id + "-data").textContent);
  place.dataset.height = figure.layout.height;
  Plotly.newPlot(place, figure.data, figure.layout, options);
}

// Figures that follow the width of the window must be told the width of paper, and fit one sheet.
const PAPER = { width: 660, height: 860 };
const resize = (place, width, height) => {
  place.style.height = height + "px";
  Plotly.relayout(place, { width, height, autosize: !width });
};
addEventListener("beforeprint", () => {
  for (const place of places)
    resize(place, PAPER.width, Math.min(place.dataset.height, PAPER.height));
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
