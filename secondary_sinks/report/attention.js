// The attention view: the text from a chosen sink on, each token coloured by what it pays the sink.
// Sinks are chosen in its own list, in the table of all sinks, or anywhere else on the page.
const view = document.getElementById("attention");
const watched = view ? read("attention-data") : [];
const unpack = (text) => Array.from(atob(text), (one) => (one.charCodeAt(0) / 255) ** 2);
const mean = (shares) => shares.reduce((sum, one) => sum + one, 0) / shares.length;
const percent = (share) => (share < 0.0995 ? (100 * share).toPrecision(2) : (100 * share).toFixed(0)) + "%";
const choice = (words) => {
  const label = document.createElement("label");
  const list = document.createElement("select");
  label.append(words + " ", list);
  view.querySelector(".pick").append(label, " ");
  return list;
};
const fill = (list, names) => {
  const chosen = Math.min(list.selectedIndex, names.length - 1);
  list.replaceChildren(...names.map((name, index) => new Option(name, index)));
  list.selectedIndex = Math.max(chosen, 0);
};
if (watched.length) {
  const [sinkList, layerList, headList] = ["Sink", "Layer", "Heads"].map(choice);
  const strip = view.querySelector(".attended");
  const told = view.querySelector("output");
  let sink, shares, at;
  const about = (index) => `“${sink.tokens[index].trim()}” at position ${sink.pos + index}`;
  const paid = (index) => `${percent(shares[index - 1])} of the attention of ${about(index)}`;
  const place = (index) => {
    strip.children[at]?.classList.remove("chosen");
    at = Math.min(Math.max(index, 1), shares.length);
    strip.children[at].classList.add("chosen");
    strip.children[at].scrollIntoView({ block: "nearest" });
    told.textContent = paid(at);
  };
  const paint = () => {
    const layer = sink.layers[layerList.selectedIndex];
    fill(headList, ["mean over all heads", `head ${layer.head}, which reads it most`]);
    shares = unpack(layer[headList.selectedIndex ? "top" : "mean"]);
    const highest = Math.max(...shares, 1e-9);
    at = 0;
    strip.replaceChildren(...sink.tokens.map((text, index) => {
      const one = document.createElement(index ? "span" : "mark");
      one.textContent = text;
      one.title = index ? paid(index) : `the sink, ${about(0)}`;
      one.style.setProperty("--a", index ? (0.75 * shares[index - 1] / highest).toFixed(2) : 0.6);
      if (!index) one.className = "secondary";
      return one;
    }));
    const most = [...shares.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, 5);
    const further = sink.left ? ` ${sink.left.toLocaleString("en")} further tokens are not shown.` : "";
    told.textContent = `These ${shares.length} tokens pay it ${percent(mean(shares))} on average; most: ` +
      most.map((one) => `${about(one + 1)} (${percent(shares[one])})`).join(", ") + "." + further;
  };
  const pick = (index) => {
    sink = watched[index];
    sinkList.selectedIndex = index;
    fill(layerList, sink.layers.map((one) => String(one.layer)));
    const means = sink.layers.map((one) => mean(unpack(one.mean)));
    layerList.selectedIndex = means.indexOf(Math.max(...means));
    paint();
  };
  fill(sinkList, watched.map((one) => one.name));
  sinkList.addEventListener("change", () => pick(sinkList.selectedIndex));
  layerList.addEventListener("change", paint);
  headList.addEventListener("change", paint);
  strip.addEventListener("keydown", (event) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 1, End: shares.length }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    place(to);
  });
  pick(0);
  chosenListeners.push((keys) => {
    const index = watched.findIndex((one) => keys.has(one.key));
    if (index >= 0) pick(index);
  });
  const attend = (index) => {
    pick(index);
    view.open = true;
    view.scrollIntoView({ block: "start" });
    sinkList.focus({ preventScroll: true });
  };
  for (const row of sinks.rows) {
    const index = watched.findIndex((one) => one.key === row.dataset.sink);
    const cell = row.parentElement === sinks.tHead ? document.createElement("th") : row.insertCell();
    if (cell.tagName === "TH") row.append(cell);
    cell.textContent = cell.tagName === "TH" ? "who attends" : "–";
    if (index < 0) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "show";
    button.setAttribute("aria-label", `Show which tokens attend to ${watched[index].name}`);
    for (const kind of ["click", "keydown"]) button.addEventListener(kind, (event) => event.stopPropagation());
    button.addEventListener("click", () => attend(index));
    cell.replaceChildren(button);
  }
}
