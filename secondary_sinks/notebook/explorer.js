// What the kernel says is drawn, what is clicked is told to the kernel. All text of a model goes
// into the page as textContent, never as markup.

function make(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

let number = 0;
const unique = (name) => `sinks-${name}-${number++}`;

function labelled(text, control) {
  control.id = unique("field");
  return make("div", { className: "field" }, make("label", { htmlFor: control.id }, text), control);
}

// --- plotly: the file that comes with the Python package, sent by the kernel once per page.

let library = null;

function loadPlotly(model) {
  library ??= new Promise((resolve, reject) => {
    const received = async (content, buffers) => {
      if (!content.plotly) return;
      model.off("msg:custom", received);
      const before = globalThis.Plotly;
      const parts = ["const module = { exports: {} };\n", buffers[0]];
      const blob = new Blob([...parts, "\nexport default module.exports;"], { type: "text/javascript" });
      const url = URL.createObjectURL(blob);
      try {
        resolve((await import(url)).default);
      } catch (error) {
        reject(error);
      } finally {
        URL.revokeObjectURL(url);
        globalThis.Plotly = before;
      }
    };
    model.on("msg:custom", received);
    model.send({ do: "plotly" });
  });
  return library;
}

function figure(model, name, label, onClick, marked) {
  const plot = make("div", { role: "img", ariaLabel: label });
  const note = make("p", { className: "quiet" }, "Drawing…");
  const box = make("div", { className: "figure" }, note, plot);
  let drawn = Promise.resolve();
  const draw = () => {
    drawn = drawn.then(async () => {
      const { data, layout } = model.get(name);
      box.hidden = !data;
      if (!data) return;
      try {
        const Plotly = await loadPlotly(model);
        const labels = model.get("page").labels;
        const rows = Array(model.get("setup").layers).fill(labels);
        const traces = data.map((one) => (one.type === "heatmap" ? { ...one, text: rows } : one));
        const first = !plot.on;
        const shown = marked ? { ...layout, shapes: model.get(marked) } : layout;
        await Plotly.react(plot, traces, shown, { displayModeBar: false, responsive: true });
        note.hidden = true;
        if (first && onClick) plot.on("plotly_click", ({ points }) => onClick(points[0]));
      } catch (error) {
        note.hidden = false;
        note.textContent = `The figure could not be drawn: ${error.message}`;
      }
    });
  };
  const mark = () => {
    drawn = drawn.then(async () => plot.on && (await loadPlotly(model)).relayout(plot, { shapes: model.get(marked) }));
  };
  model.on(`change:${name}`, draw);
  if (marked) model.on(`change:${marked}`, mark);
  draw();
  return box;
}

// --- the text as a strip of tokens

function strip(model, choose, state) {
  const list = make("div", { className: "strip", role: "listbox", ariaLabel: "Tokens of the text" });
  const setup = model.get("setup");
  const sinks = new Map(setup.sinks.map((sink) => [sink.pos, sink]));
  let buttons = [];
  let active = model.get("choice").pos;

  const turn = (page, focus) => {
    state.focusAfter = focus;
    model.send({ do: "page", number: page });
  };
  const focus = (pos) => {
    const { start, number: page } = model.get("page");
    const at = Math.max(0, Math.min(setup.tokens - 1, pos));
    if (at < start) return turn(page - 1, at);
    if (at >= start + buttons.length) return turn(page + 1, at);
    buttons.forEach((button) => (button.tabIndex = -1));
    active = at;
    buttons[at - start].tabIndex = 0;
    buttons[at - start].focus();
  };
  const pick = (pos, asDonor) => {
    active = pos;
    choose(asDonor || state.choosingDonor ? { donor: pos, kind: "patch" } : { pos });
    state.stopChoosing();
  };
  list.addEventListener("keydown", (event) => {
    const layer = model.get("choice").layer;
    const last = setup.tokens - 1;
    const acts = {
      ArrowRight: () => focus(active + 1),
      ArrowLeft: () => focus(active - 1),
      Home: () => focus(model.get("page").start),
      End: () => focus(Math.min(last, model.get("page").start + buttons.length - 1)),
      PageDown: () => focus(Math.min(last, active + setup.page)),
      PageUp: () => focus(Math.max(0, active - setup.page)),
      ArrowUp: () => layer < setup.layers - 1 && choose({ layer: layer + 1 }),
      ArrowDown: () => layer > 0 && choose({ layer: layer - 1 }),
      d: () => pick(active, true),
    };
    if (!(event.key in acts) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    acts[event.key]();
  });

  const rebuild = (page) => {
    buttons = page.tokens.map((token, index) => {
      const pos = page.start + index;
      const button = make("button", { type: "button", textContent: token, tabIndex: -1 });
      button.setAttribute("role", "option");
      button.addEventListener("click", (event) => pick(pos, event.shiftKey));
      return button;
    });
    list.replaceChildren(...buttons);
  };
  const draw = () => {
    const page = model.get("page");
    const choice = model.get("choice");
    if (list.dataset.page !== String(page.number)) rebuild(page);
    list.dataset.page = page.number;
    buttons.forEach((button, index) => {
      const pos = page.start + index;
      const excess = page.excess[index];
      const sink = sinks.get(pos);
      const chosen = pos === choice.pos;
      button.className = [chosen && "chosen", choice.kind === "patch" && pos === choice.donor && "donor", sink && "sink"]
        .filter(Boolean)
        .join(" ");
      button.style.setProperty("--mass", Math.sqrt(Math.max(0, excess ?? 0)).toFixed(3));
      button.setAttribute("aria-selected", chosen);
      const says = [`position ${pos}`, sink && `${sink.kind} sink in layers ${sink.layers}`];
      says.push(excess === null ? "too few later tokens, or blocks, read it" : `mass excess ${excess.toFixed(3)}`);
      button.setAttribute("aria-label", `${button.textContent}, ${says.filter(Boolean).join(", ")}`);
      button.title = says.filter(Boolean).join("; ");
    });
    const inside = (pos) => pos >= page.start && pos < page.start + buttons.length;
    const stop = inside(active) ? active : inside(choice.pos) ? choice.pos : page.start;
    buttons.forEach((button, index) => (button.tabIndex = page.start + index === stop ? 0 : -1));
    if (state.focusAfter !== null && inside(state.focusAfter)) {
      const pos = state.focusAfter;
      state.focusAfter = null;
      focus(pos);
    }
  };
  model.on("change:page", draw);
  model.on("change:choice", () => {
    active = model.get("choice").pos;
    draw();
  });
  draw();
  return list;
}

function pager(model) {
  const { pages, tokens, page: size } = model.get("setup");
  if (pages < 2) return "";
  const where = make("span", { ariaLive: "polite" });
  const send = (step) => model.send({ do: "page", number: model.get("page").number + step });
  const back = make("button", { type: "button", textContent: "Earlier tokens" });
  const on = make("button", { type: "button", textContent: "Later tokens" });
  back.addEventListener("click", () => send(-1));
  on.addEventListener("click", () => send(1));
  const draw = () => {
    const { number: page, start } = model.get("page");
    where.textContent = `${start} to ${Math.min(start + size, tokens) - 1} of ${tokens}`;
    back.disabled = page === 0;
    on.disabled = page === pages - 1;
  };
  model.on("change:page", draw);
  draw();
  return make("div", { className: "row" }, back, where, on);
}

// --- controls

function select(label, options, value, onChange) {
  const control = make("select");
  for (const [key, text] of options) control.append(make("option", { value: key }, text));
  control.addEventListener("change", () => onChange(control.value));
  const field = labelled(label, control);
  field.show = (now) => (control.value = now);
  field.show(value);
  return field;
}

function slider(label, least, most, step, onChange) {
  const shown = make("output");
  const control = make("input", { type: "range", min: least, max: most, step });
  control.addEventListener("input", () => (shown.textContent = control.value));
  control.addEventListener("change", () => onChange(Number(control.value)));
  const field = labelled(label, control);
  field.append(shown);
  field.show = (value) => {
    control.value = value;
    shown.textContent = value;
  };
  return field;
}

function edits(model, choose, state, acts) {
  const { kinds, sites, units } = model.get("setup");
  const name = unique("kind");
  const radios = Object.entries(kinds).map(([kind, text]) => {
    const input = make("input", { type: "radio", name, value: kind, id: unique("radio") });
    input.addEventListener("change", () => choose({ kind }));
    return make("span", { className: "radio" }, input, make("label", { htmlFor: input.id }, text));
  });
  const site = select("of the", Object.entries(sites), "mlp_out", (value) => choose({ site: value, units: "" }));
  const some = make("input", { type: "text", size: 8, placeholder: "all" });
  const which = labelled("units", some);
  some.addEventListener("change", () => choose({ units: some.value }));
  const value = slider("by", -2, 4, 0.05, (now) => choose({ value: now }));
  const donor = make("span");
  const pick = make("button", { type: "button", textContent: "Choose a donor" });
  const donors = make("div", { className: "row" }, pick, donor);
  pick.addEventListener("click", () => (state.choosingDonor ? state.stopChoosing() : state.startChoosing()));
  state.onChoosing = () => {
    pick.setAttribute("aria-pressed", state.choosingDonor);
    pick.textContent = state.choosingDonor ? "Now choose a token" : "Choose a donor";
  };
  state.onChoosing();
  const draw = () => {
    const choice = model.get("choice");
    radios.forEach(({ firstChild: input }) => (input.checked = input.value === choice.kind));
    site.show(choice.site);
    which.hidden = !(choice.site in units);
    which.firstChild.textContent = units[choice.site] ?? "";
    some.value = choice.units;
    value.show(choice.value);
    value.hidden = choice.kind !== "scale";
    donors.hidden = choice.kind !== "patch";
    donor.textContent = choice.donor === null ? "no donor yet" : `position ${choice.donor}`;
  };
  model.on("change:choice", draw);
  draw();
  const legend = make("legend", {}, "Edit at the chosen token and layer");
  return make("fieldset", {}, legend, make("div", { className: "row" }, ...radios), make("div", { className: "row" }, site, which, value, donors, ...acts));
}

function button(text, act) {
  const made = make("button", { type: "button", textContent: text });
  made.addEventListener("click", act);
  return made;
}

function acts(model) {
  const bar = make("progress", { max: 1, ariaLabel: "Computing", hidden: true });
  const total = button("Total effect", () => model.send({ do: "total" }));
  const draw = () => {
    const done = model.get("progress");
    bar.hidden = done < 0;
    if (done >= 0) bar.value = done;
    total.disabled = !model.get("code") || done >= 0;
  };
  for (const name of ["code", "progress"]) model.on(`change:${name}`, draw);
  draw();
  return [button("Undo", () => model.send({ do: "undo" })), total, bar];
}

function outputs(model) {
  const copy = button("Copy as Python", async () => {
    try {
      await navigator.clipboard.writeText(model.get("code"));
      copy.textContent = "Copied";
    } catch {
      code.open = true;
      copy.textContent = "Copy it from below";
    }
    setTimeout(() => (copy.textContent = "Copy as Python"), 2000);
  });
  const folder = make("input", { type: "text", value: "runs/explored", size: 16 });
  const save = button("Export", () => model.send({ do: "export", folder: folder.value }));
  const pre = make("pre", { tabIndex: 0 });
  const code = make("details", {}, make("summary", {}, "Python"), pre);
  const draw = () => {
    pre.textContent = model.get("code");
    code.hidden = copy.disabled = !model.get("code");
  };
  model.on("change:code", draw);
  draw();
  return [make("div", { className: "row" }, copy, labelled("Run folder", folder), save), code];
}

// --- what the edit did

function result(model) {
  const box = make("div", { className: "scroll", role: "region", ariaLabel: "Effects of the edit", tabIndex: 0 });
  const draw = () => {
    const { tokens, control, layers, rows } = model.get("table");
    if (!rows) return box.replaceChildren();
    const head = (text, span) => make("th", { scope: "col", colSpan: span ?? 1 }, text);
    const names = tokens.map((token, index) => head(index ? `control (${control}): ${token}` : token, 2));
    const times = tokens.flatMap(() => [head("before"), head("after")]);
    const lines = rows.map(([title, ...cells]) => {
      const numbers = cells.map((cell) => make("td", {}, cell));
      return make("tr", {}, make("th", { scope: "row" }, title), ...numbers);
    });
    const caption = make("caption", {}, `Means over layers ${layers}; attention of later tokens as it was, unless total.`);
    const top = make("thead", {}, make("tr", {}, make("td"), ...names), make("tr", {}, make("td"), ...times));
    box.replaceChildren(make("table", {}, caption, top, make("tbody", {}, ...lines)));
  };
  model.on("change:table", draw);
  draw();
  return box;
}

function trials(model) {
  const list = make("ol", { start: 1 });
  const box = make("details", { open: true }, make("summary", {}, "Trials"), list);
  const draw = () => {
    const trials = model.get("trials");
    box.hidden = !trials.length;
    const items = trials.map((text, at) => {
      const again = make("button", { type: "button", className: "plain", textContent: text });
      again.addEventListener("click", () => model.send({ do: "go", number: at }));
      return make("li", {}, again);
    });
    list.replaceChildren(...items);
  };
  model.on("change:trials", draw);
  draw();
  return box;
}

function said(model, name, role) {
  const line = make("p", { className: name });
  line.setAttribute("role", role);
  const draw = () => (line.textContent = model.get(name));
  model.on(`change:${name}`, draw);
  draw();
  return line;
}

function render({ model, el }) {
  const setup = model.get("setup");
  const choose = (changes) => {
    model.set("choice", { ...model.get("choice"), ...changes });
    model.save_changes();
  };
  const state = {
    focusAfter: null,
    choosingDonor: false,
    onChoosing: () => {},
    startChoosing: () => ((state.choosingDonor = true), state.onChoosing()),
    stopChoosing: () => ((state.choosingDonor = false), state.onChoosing()),
  };
  const layer = slider("Layer", 0, setup.layers - 1, 1, (value) => choose({ layer: value }));
  const measure = select("Map", Object.entries(setup.measures), "", (value) => choose({ measure: value }));
  const options = setup.sinks.map((sink, at) => [at, `${sink.token} at ${sink.pos}: ${sink.kind}, layers ${sink.layers}`]);
  const jump = select("Sinks", [["", "go to…"], ...options], "", (at) => {
    const { pos, layer: first } = setup.sinks[at] ?? {};
    if (pos !== undefined) choose({ pos, layer: first });
    jump.show("");
  });
  const draw = () => {
    layer.show(model.get("choice").layer);
    measure.show(model.get("choice").measure);
  };
  model.on("change:choice", draw);
  draw();

  const root = make("section", { className: "sinks", ariaLabel: "Sink explorer" });
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's own keys stay out
  root.addEventListener("keydown", (event) => event.stopPropagation());
  root.append(
    make("div", { className: "row" }, layer, jump, measure, make("span", { className: "quiet" }, setup.found)),
    pager(model),
    strip(model, choose, state),
    make("p", { className: "quiet" }, "Blue: attention beyond an even share, drawn at this layer. Keys: ← → move, Enter chooses, ↑ ↓ layer, D donor."),
    figure(model, "map", "Map of the chosen measure by layer and token", ({ x, y }) => choose({ pos: x, layer: y }), "marks"),
    edits(model, choose, state, acts(model)),
    said(model, "error", "alert"),
    said(model, "status", "status"),
    make("div", { className: "outcome" }, result(model), figure(model, "curves", "The measure by layer, before and after the edit")),
    trials(model),
    ...outputs(model),
  );
  el.append(root);
}

export default { render };
