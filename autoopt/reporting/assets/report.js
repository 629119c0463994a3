// The report's page: it hides and shows. Who is tied, who is beaten and who is faster was computed by autoopt
// (page.py); here these sets and orders are looked up for the limits in the boxes.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const CELL = ["value", "low", "high", "shown", "interval", "change", "how", "flags", "ends"];
const candidates = data.candidates.map(packed => ({...packed,
  recipe: Object.fromEntries(Object.entries(packed.recipe).map(([knob, value]) => [data.texts[knob], data.texts[value]])),
  cells: Object.fromEntries(Object.keys(data.metrics).flatMap((metric, i) => packed.cells[i]
    ? [[metric, Object.fromEntries(CELL.map((key, k) => [key, packed.cells[i][k]]))]] : []))}));
const places = candidates.map((_, place) => place);
const byNumber = new Map(candidates.map((c, place) => [String(c.number), place]));

// ---- sets of candidates, as bits

const bit = place => 1n << BigInt(place);
const has = (set, place) => (set >> BigInt(place) & 1n) === 1n;
const setOf = list => list.reduce((set, place) => set | bit(place), 0n);
const listOf = set => places.filter(place => has(set, place));
const read = text => BigInt("0x" + text);
const ranked = places.slice(0, data.ranked);
const ties = data.ties.map(read), tooFew = data.too_few.map((text, place) => read(text) << BigInt(place)), beatenBy = data.beaten_by.map(read), complete = read(data.complete);

// ---- limits

/** Both splits' values of a metric with the baseline's, as `Results.readings` gives them. */
function readings(candidate, metric) {
  const [reference, testReference] = data.references[metric];
  const found = [[candidate.cells[metric]?.value, reference]];
  if (metric === data.quality && candidate.test !== undefined) found.push([candidate.test, testReference]);
  return found;
}

const bound = (budget, reference) => budget.factor === 0 ? budget.offset : budget.factor * reference + (budget.share ?? 0) * Math.abs(reference) + budget.offset;
const known = (budget, [value, reference]) => value != null && (budget.factor === 0 || reference != null);

/** How far a candidate is outside a limit on either split; 0 or less is inside. Null where it was not measured there. */
function margins(budget, candidate) {
  return readings(candidate, budget.metric).map(pair => {
    if (!known(budget, pair)) return null;
    const [value, reference] = pair, limit = bound(budget, reference);
    const slack = Math.max(1e-12 * Math.max(Math.abs(value), Math.abs(limit)), 1e-15);
    if (Math.abs(value - limit) <= slack) return 0;
    return budget.sense === "<=" ? value - limit : limit - value;
  });
}

/** The worse of them, as `Results.margins` has it. */
function margin(budget, candidate) {
  const found = margins(budget, candidate);
  return found[0] === null ? Infinity : Math.max(...found.filter(over => over !== null));
}

/** The value by which a candidate is furthest outside, and on which split, as `Results.hardest` has it. */
function hardest(budget, candidate) {
  const found = margins(budget, candidate), {shown} = candidate.cells[budget.metric];
  if (found.length < 2) return {shown, split: data.unconfirmed && budget.metric === data.quality ? " on the validation split" : ""};
  return found[1] !== null && found[1] > found[0] ? {shown: candidate.test_shown, split: " on the test split"} : {shown, split: " on the validation split"};
}

/** The largest overrun of any limit, relative to it. */
function excess(candidate, budgets) {
  return Math.max(0, ...budgets.map(budget => {
    const over = margin(budget, candidate);
    return over > 0 ? over / (Math.abs(bound(budget, data.references[budget.metric][0])) || 1) : 0;
  }));
}

const within = budgets => setOf(ranked.filter(place => budgets.every(b => margin(b, candidates[place]) <= 0)));

// ---- the front and the pick: look-ups

const front = inside => listOf(inside & complete).filter(place => (beatenBy[place] & inside) === 0n);

/** As `Ranking.choose`. */
function choose(inside) {
  const tied = inside & ties[ranked.find(place => has(inside, place))];
  const fastest = data.fastest.find(place => has(tied, place));
  const [metric, low, value] = data.reach[fastest];
  const reached = setOf(data.by_low[metric].slice(0, low)) & setOf(data.by_value[metric].slice(0, value));
  const asFast = tied & (bit(fastest) | reached);
  return {place: data.smallest.find(place => has(asFast, place)), tied};
}

/** As `Results.pick`. */
function pick(budgets) {
  const inside = within(budgets), others = budget => budgets.filter(b => b !== budget);
  if (inside === 0n) {
    const order = ranked.map(place => [excess(candidates[place], budgets), candidates[place].number, place]);
    order.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    return {inside, binding: barriers(budgets, others), nearest: order.slice(0, 3).map(entry => entry[2])};
  }
  const {place, tied} = choose(inside), binding = [];
  for (const budget of budgets) {
    const freed = choose(within(others(budget))).place;
    if (freed !== place) binding.push(`${budget.text} (without it: ${name(freed)})`);
  }
  return {inside, place, tied: listOf(tied), binding, nearest: []};
}

function barriers(budgets, others) {
  const lines = [];
  for (const budget of budgets) {
    const freed = listOf(within(others(budget))).length;
    if (freed && budgets.length > 1) lines.push(`${budget.text} (without it ${freed} would fit)`);
    else if (within([budget]) === 0n) lines.push(`${budget.text} (best seen: ${bestSeen(budget)})`);
  }
  return lines.length ? lines : ["all budgets together (each alone can be met)"];
}

function bestSeen(budget) {
  const able = ranked.map(place => candidates[place]).filter(c => Number.isFinite(margin(budget, c)));
  if (!able.length) return "none";
  const {shown, split} = hardest(budget, able.reduce((a, b) => margin(budget, b) < margin(budget, a) ? b : a));
  return shown + split;
}

/** That the items are too few to tell, as `picking` says it. */
function doubt(inside) {
  const best = ranked.find(place => has(inside, place));
  if (best === undefined) return "";
  const n = listOf(tooFew[best] & inside).length;
  if (!n || !data.enough[best]) return "";
  const digits = number => number.toLocaleString("en-US");
  return data.doubt.replace("{items}", digits(data.items[best])).replace("{n}", n).replace("{enough}", digits(data.enough[best]));
}

const name = place => `#${candidates[place].number} ${candidates[place].label}`;

// ---- the state: what the address bar keeps

const state = {};
const boxes = new Map(data.limits.map(limit => [limit.id, limit]));

function defaults() {
  return {limits: Object.fromEntries(data.limits.map(l => [l.id, l.default])), off: [], selected: null, compared: [],
    x: data.axes.x, y: data.axes.y, color: data.axes.color};
}

function recall() {
  Object.assign(state, defaults());
  const saved = new URLSearchParams(location.hash.slice(1));
  if (!saved.has("limits")) return;
  for (const id of boxes.keys()) state.limits[id] = saved.get(id) ?? "";
  const numbers = key => (saved.get(key) ?? "").split(",").filter(n => byNumber.has(n)).map(n => byNumber.get(n));
  state.off = (saved.get("off") ?? "").split(",").filter(Boolean).map(Number);
  state.selected = numbers("selected")[0] ?? null;
  state.compared = [...new Set(numbers("compare"))].slice(0, 4);
  for (const axis of ["x", "y", "color"]) if (Object.hasOwn(data.metrics, saved.get(axis))) state[axis] = saved.get(axis);
}

// Browsers ignore addresses that change too often, as they would while a slider is dragged.
let remembering;

function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(save, 250);
}

function save() {
  const saved = new URLSearchParams({limits: ""});
  for (const [id, text] of Object.entries(state.limits)) if (text.trim()) saved.set(id, text.trim());
  if (state.off.length) saved.set("off", state.off.join());
  if (state.selected !== null) saved.set("selected", candidates[state.selected].number);
  if (state.compared.length) saved.set("compare", state.compared.map(p => candidates[p].number).join());
  for (const axis of ["x", "y", "color"]) if (state[axis] !== data.axes[axis]) saved.set(axis, state[axis]);
  history.replaceState(null, "", "#" + saved);
}

const QUANTITY = /^((?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)\s*(%|[a-zµμ]+(?:\s+points?)?)?$/i;

/** The limit in a box, or null if it is empty or can't be read: a bare number is in the unit beside the box. */
function budgetOf(limit) {
  const text = state.limits[limit.id].trim(), [, number, unit] = QUANTITY.exec(text) ?? [];
  const spelled = (unit ?? "").toLowerCase().split(/\s+/).join(" ");
  const relative = limit.relative && ["%", "percent"].includes(spelled) && !(spelled in limit.units); // of the baseline's value
  const factor = unit === undefined ? limit.scale : relative ? 0.01 : limit.units[spelled];
  if (number === undefined || factor === undefined) return null;
  const amount = Number(number) * factor;
  if (!Number.isFinite(amount)) return null;
  const offset = limit.relative && limit.sense === ">=" ? -amount : amount;
  return {metric: limit.metric, sense: limit.sense, factor: limit.relative ? 1 : 0, offset: relative ? 0 : offset, share: relative ? offset : 0,
    text: limit.text + text + (unit === undefined ? limit.suffix : "")};
}

const chosenBudgets = () => [
  ...data.limits.map(budgetOf).filter(Boolean), ...data.others.filter((_, i) => !state.off.includes(i))];

// ---- building the page

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter(child => child != null && child !== ""));
  return made;
}

const fill = (id, ...children) => document.getElementById(id).replaceChildren(...children.flat().filter(Boolean));

/** Draws a part anew only if what it shows has changed: else the focus would be lost. */
const shown = new Map();
function redraw(id, state, draw) {
  const key = JSON.stringify(state);
  if (shown.get(id) === key) return;
  shown.set(id, key);
  draw();
}
const sentence = text => text.charAt(0).toUpperCase() + text.slice(1) + ".";

// A slider's stops are the values seen: each stop to the right lets more candidates in; the last is no limit.
function stopsOf(limit) {
  const sign = limit.sense === "<=" ? 1 : -1;
  const [reference] = data.references[limit.metric];
  const values = ranked.map(place => candidates[place].cells[limit.metric]?.value).filter(v => v != null);
  const needs = values.map(v => limit.relative ? Math.max(0, sign * (v - reference)) : v);
  return [...new Set(needs)].sort((a, b) => limit.relative ? a - b : sign * (a - b));
}

/** A limit that lets `value` in, as short as four digits allow. */
function roundedTo(limit, value) {
  const amount = value / limit.scale, outward = limit.relative || limit.sense === "<=" ? 1 : -1;
  if (amount === 0) return "0";
  const unit = 10 ** (Math.floor(Math.log10(Math.abs(amount))) - 3);
  const rounded = (outward > 0 ? Math.ceil(amount / unit - 1e-9) : Math.floor(amount / unit + 1e-9)) * unit;
  return String(Number(rounded.toPrecision(6)));
}

const controls = new Map();

function buildLimits() {
  for (const limit of data.limits) {
    const stops = stopsOf(limit), hint = `${limit.id}-hint`;
    const box = el("input", {id: `limit-${limit.id}`, inputmode: "decimal", autocomplete: "off", size: 9,
      placeholder: "no limit", "aria-describedby": hint,
      oninput: () => { state.limits[limit.id] = box.value; update(); }});
    const slider = el("input", {type: "range", min: 1, max: stops.length + 1, step: 1, "aria-label": `${limit.label}: slider`,
      oninput: () => {
        const stop = stops[slider.value - 1];
        state.limits[limit.id] = stop === undefined ? "" : roundedTo(limit, stop);
        update();
      }});
    const note = el("small", {id: hint, "aria-live": "polite"});
    controls.set(limit.id, {box, slider, note, stops});
    document.getElementById("limits").append(el("div", {class: "limit"},
      el("label", {for: `limit-${limit.id}`}, limit.label), el("span", {class: "amount"}, box, ` ${limit.unit}`), slider, note));
  }
  data.others.forEach((budget, i) => {
    const box = el("input", {type: "checkbox", onchange: () => {
      state.off = box.checked ? state.off.filter(other => other !== i) : [...state.off, i];
      update();
    }});
    controls.set(i, {box});
    document.getElementById("limits").append(el("label", {class: "limit"}, box, " ", el("code", {}, budget.text)));
  });
}

function showLimits() {
  for (const limit of data.limits) {
    const {box, slider, note, stops} = controls.get(limit.id), text = state.limits[limit.id];
    if (box.value !== text) box.value = text;
    const budget = budgetOf(limit), wrong = text.trim() !== "" && budget === null;
    box.setAttribute("aria-invalid", wrong);
    const inside = budget === null ? ranked.length : listOf(within([budget])).length;
    note.textContent = wrong ? `expected a number${limit.unit && ` of ${limit.unit}`}, such as 2 or 0.5, or one with another unit; no limit is applied` : `${inside} of ${ranked.length} inside`;
    note.className = wrong ? "flag" : "";
    const [base] = data.references[limit.metric];
    const limitValue = budget === null ? null : limit.relative ? Math.abs(bound(budget, base) - base) : budget.offset;
    const met = limitValue === null ? stops.length + 1
      : stops.filter(stop => limit.relative || limit.sense === "<=" ? stop <= limitValue * (1 + 1e-9) : stop >= limitValue * (1 - 1e-9)).length;
    slider.value = Math.max(1, met);
    slider.setAttribute("aria-valuetext", text.trim() ? (/[a-zµμ%]$/i.test(text.trim()) ? text : `${text} ${limit.unit}`) : "no limit");
  }
  data.others.forEach((_, i) => { controls.get(i).box.checked = !state.off.includes(i); });
}

// ---- one candidate

/** What lies between the ends: a 95 % interval, unless it says itself that it is a range. */
const spread = cell => (cell.ends ? "" : "95 %: ") + cell.interval;

function tiles(candidate) {
  return el("div", {class: "tiles"}, Object.entries(candidate.cells).map(([metric, cell]) => el("div", {class: "tile"},
    el("span", {class: "soft"}, data.metrics[metric].label), el("b", {}, cell.shown),
    cell.change && el("small", {class: "change"}, cell.change),
    cell.interval && el("small", {}, spread(cell)),
    el("small", {}, data.texts[cell.how]),
    cell.flags.map(flag => el("small", {class: "flag"}, flag)))));
}

function command(text) {
  const code = el("code", {}, text);
  const copy = el("button", {type: "button", onclick: async () => {
    getSelection().selectAllChildren(code);
    try { await navigator.clipboard.writeText(text); copy.textContent = "copied"; }
    catch { copy.textContent = document.execCommand("copy") ? "copied" : "selected: press Ctrl-C"; }
    setTimeout(() => { copy.textContent = "copy"; }, 2000);
  }}, "copy");
  return el("pre", {}, code, copy);
}

const badge = candidate => candidate.confirmed && el("span", {class: "badge"}, "confirmed");
const links = list => list.flatMap((place, i) => [i ? ", " : "", el("button", {type: "button", class: "link",
  onclick: () => select(place)}, `#${candidates[place].number}`)]);

function describe(place) {
  const candidate = candidates[place];
  return [
    el("p", {class: "recipe"}, name(place)),
    candidate.failed && el("p", {class: "flag"}, `failed in ${candidate.failed}`),
    candidate.refused && el("p", {class: "flag"}, candidate.refused),
    candidate.confirmed && el("p", {}, badge(candidate), " ", candidate.confirmed),
    (candidate.lost ?? []).map(text => el("p", {class: "flag"}, text)),
    (candidate.idle ?? []).map(text => el("p", {class: "soft"}, text)),
    tiles(candidate),
    candidate.parts && el("p", {class: "soft"}, candidate.parts),
    place === data.baseline ? el("p", {class: "soft"}, "This is the untouched baseline itself.")
      : el("p", {class: "soft"}, data.against),
    candidate.sha256 && [
      el("p", {}, "To ship it, run this where the search was run:"), command(`${data.command} ${candidate.number}`),
      el("p", {class: "soft"}, "sha256 of the file: ", el("code", {}, candidate.sha256))],
  ].flat().filter(Boolean);
}

function showPick(found, budgets) {
  const section = document.getElementById("pick");
  section.dataset.pick = found.place === undefined ? "" : candidates[found.place].number;
  section.dataset.tied = (found.tied ?? []).map(place => candidates[place].number).join();
  if (!ranked.length) return fill("pick-body", el("p", {class: "recipe"}, "No candidate has been measured yet."));
  if (found.place !== undefined) {
    const kind = found.tied.length === 1 ? "alone" : candidates[found.place].cells.latency_ms ? "fastest" : "smallest";
    const others = found.tied.filter(place => place !== found.place);
    const [head, ...rest] = describe(found.place);
    return fill("pick-body", head, el("p", {id: "why"}, `Why: ${data.why[kind].replace("{n}", found.tied.length)}.`),
      doubt(found.inside) && el("p", {id: "doubt", class: "flag"}, sentence(doubt(found.inside))),
      data.baseline !== null && has(found.inside, data.baseline) && candidates[found.place].advice
        && el("p", {id: "advice", class: "flag"}, sentence(candidates[found.place].advice)),
      data.unconfirmed && !candidates[found.place].confirmed && el("p", {id: "unconfirmed", class: "flag"}, sentence(data.unconfirmed)),
      others.length && others.length <= 30 && el("p", {class: "soft"}, "As good: ", links(others), "."),
      found.binding.length && el("p", {id: "binding"}, `Held back by: ${found.binding.join("; ")}.`), rest);
  }
  const where = (budget, place) => {
    const {shown, split} = hardest(budget, candidates[place]);
    return split && `${split} (${shown})`;
  };
  const missed = place => budgets.filter(b => margin(b, candidates[place]) > 0).map(b => {
    const over = margin(b, candidates[place]), share = 100 * excess(candidates[place], [b]);
    if (!Number.isFinite(over)) return `${b.text} (not measured)`;
    if (data.metrics[b.metric].unit === "%") return `${b.text} by ${Number((100 * over).toPrecision(2))} points${where(b, place)}`;
    return `${b.text} by ${share >= 10 ? Math.round(share) : Number(share.toPrecision(2))} %${where(b, place)}`;
  });
  fill("pick-body",
    el("p", {class: "recipe"}, `Nothing fits: none of ${ranked.length} candidates is inside every budget.`),
    el("p", {id: "binding"}, `What keeps them out: ${found.binding.join("; ")}.`),
    el("p", {}, "Nearest:"),
    el("ul", {id: "nearest"}, found.nearest.map(place => el("li", {"data-number": candidates[place].number},
      links([place]), ` ${candidates[place].label}: `,
      Object.entries(candidates[place].cells).map(([m, cell]) => `${data.metrics[m].label} ${cell.shown}`).join(", "),
      el("small", {}, ` misses ${missed(place).join(", ")}`)))));
}

function select(place) {
  state.selected = state.selected === place ? null : place;
  update();
  if (state.selected !== null) document.getElementById("selected").scrollIntoView({block: "nearest"});
}

function showSelected() {
  const section = document.getElementById("selected");
  section.hidden = state.selected === null;
  section.dataset.selected = state.selected === null ? "" : candidates[state.selected].number;
  if (state.selected !== null) fill("selected-body", describe(state.selected));
}

// ---- the figure

const escapeText = text => text.replace(/[&<>]/g, c => ({"&": "&amp;", "<": "&lt;", ">": "&gt;"})[c]);

function hover(place) {
  const lines = Object.entries(candidates[place].cells).map(([metric, cell]) => {
    const extra = [cell.interval, cell.change].filter(Boolean).join("; ");
    return escapeText(`${data.metrics[metric].label}: ${cell.shown}${extra ? ` (${extra})` : ""}`);
  });
  return [`<b>#${candidates[place].number}</b> ${escapeText(candidates[place].label)}`, ...lines].join("<br>");
}

const drawn = (place, metric) => candidates[place].cells[metric].value * data.metrics[metric].factor;

function errors(list, metric) {
  const {factor} = data.metrics[metric], cells = list.map(place => candidates[place].cells[metric]);
  return {type: "data", symmetric: false, thickness: 1, width: 3, color: data.figure.grey,
    array: cells.map(c => factor * ((c.high ?? c.value) - c.value)),
    arrayminus: cells.map(c => factor * (c.value - (c.low ?? c.value))),
    visible: cells.some(c => c.interval)};
}

/** Both ends of an axis: what lies far out is left to a double click, unless it must be seen; as `Axis.range`. */
function range(metric, list) {
  const {inner, log, factor} = data.metrics[metric];
  const cells = list.map(place => candidates[place].cells[metric]).filter(Boolean);
  const values = [...inner, ...cells.flatMap(c => [c.value, c.low ?? c.value, c.high ?? c.value]).filter(v => v > 0 || !log)];
  const ends = values.map(v => log ? Math.log10(factor * v) : factor * v);
  const low = Math.min(...ends), high = Math.max(...ends), space = 0.06 * (high - low) || 0.1 * Math.abs(high) || 1;
  return [low - space, high + space];
}

/** The region inside the limits on the two axes, and a line for each. */
function shapes(budgets, ranges) {
  const found = [], ends = {};
  let limited = false;
  for (const along of ["x", "y"]) {
    const {log, factor} = data.metrics[state[along]], over = along === "x" ? "y" : "x";
    let [low, high] = ranges[along].map(end => log ? 10 ** end : end);
    const [first, last] = [low, high];
    for (const budget of budgets.filter(b => b.metric === state[along])) {
      const at = factor * bound(budget, data.references[budget.metric][0]);
      limited = true;
      if (budget.sense === "<=") high = Math.min(high, at); else low = Math.max(low, at);
      if (first < at && at < last) found.push({type: "line", line: {color: data.figure.grey, width: 1.5, dash: "dot"},
        [`${along}0`]: at, [`${along}1`]: at, [`${over}0`]: 0, [`${over}1`]: 1, [`${over}ref`]: "paper"});
    }
    Object.assign(ends, {[`${along}0`]: low, [`${along}1`]: high});
  }
  if (limited && ends.x0 < ends.x1 && ends.y0 < ends.y1)
    found.push({type: "rect", fillcolor: data.figure.shade, line: {width: 0}, layer: "below", ...ends});
  return found;
}

function colouring(list) {
  const {title} = data.metrics[state.color];
  if (!list.every(place => candidates[place].cells[state.color])) return {};
  const values = list.map(place => drawn(place, state.color));
  if (new Set(values).size < 2) return {};
  return {color: values, ...data.figure.colouring, colorbar: {...data.figure.colouring.colorbar, title: {text: title, side: "right"}}};
}

function showFigure(groups, budgets) {
  const traces = data.figure.traces.map(look => {
    const list = (groups[look.name] ?? []).filter(place => state.x in candidates[place].cells && state.y in candidates[place].cells);
    const trace = {...look, x: list.map(place => drawn(place, state.x)), y: list.map(place => drawn(place, state.y)),
      customdata: list, hovertext: list.map(hover)};
    if (data.figure.with_errors.includes(look.name)) Object.assign(trace, {error_x: errors(list, state.x), error_y: errors(list, state.y)});
    if (look.name === "front") trace.marker = {...look.marker, ...colouring(list)};
    return trace;
  }).filter(trace => trace.x.length);
  const seen = ["front", "baseline", "the pick", "selected"].flatMap(role => groups[role]);
  const ranges = {x: range(state.x, seen), y: range(state.y, seen)};
  const axis = along => ({...data.figure.layout[`${along}axis`], ...data.metrics[state[along]].layout, range: ranges[along]});
  const layout = {...data.figure.layout, shapes: shapes(budgets, ranges), uirevision: `${state.x} ${state.y}`,
    xaxis: axis("x"), yaxis: axis("y")};
  const config = {showSendToCloud: false, displaylogo: false, responsive: true,
    toImageButtonOptions: {filename: "front", scale: 2}, modeBarButtonsToRemove: ["select2d", "lasso2d"]};
  const place = document.getElementById("front"), first = !place.data;
  Plotly.react(place, traces, layout, config);
  if (first) place.on("plotly_click", event => select(event.points[0].customdata));
}

// ---- the table

const STATUSES = ["front", "dominated", "out of budget", "failed"];
const rows = new Map();
const sorting = {column: "status", direction: 1};
const columns = ["number", "status", "recipe", ...Object.keys(data.metrics)];

function buildTable() {
  const heads = columns.map(column => el("th", {class: ["status", "recipe"].includes(column) ? "" : "number", scope: "col"},
    el("button", {type: "button", onclick: () => {
      sorting.direction = sorting.column === column ? -sorting.direction : 1;
      sorting.column = column;
      sortTable();
    }}, {number: "#", status: "status", recipe: "recipe"}[column] ?? data.metrics[column].label)));
  fill("heads", el("th", {scope: "col"}, el("small", {}, "compare")), heads);
  for (const place of places) {
    const candidate = candidates[place];
    const box = el("input", {type: "checkbox", "aria-label": `compare #${candidate.number}`, onchange: () => {
      state.compared = box.checked ? [...state.compared, place] : state.compared.filter(p => p !== place);
      update();
    }});
    const status = el("td"), flags = el("small", {class: "flag"});
    const row = el("tr", {"data-number": candidate.number}, el("td", {}, box),
      el("td", {class: "number"}, el("button", {type: "button", class: "link", onclick: () => select(place)}, String(candidate.number))),
      status,
      el("td", {class: "words"}, candidate.label, candidate.origin && el("small", {}, candidate.origin), flags,
        candidate.confirmed && el("small", {title: candidate.confirmed}, badge(candidate)),
        (candidate.lost ?? []).map(text => el("small", {class: "flag"}, text)),
        (candidate.idle ?? []).map(text => el("small", {}, text)),
        candidate.refused && el("small", {}, candidate.refused), candidate.failed && el("small", {}, candidate.failed)),
      Object.keys(data.metrics).map(metric => {
        const cell = candidate.cells[metric];
        if (!cell) return el("td", {class: "number"}, "–");
        return el("td", {class: "number", title: cell.interval && spread(cell)}, cell.shown,
          cell.change && el("small", {}, cell.change.split(" (")[0]),
          cell.flags.map(flag => el("small", {class: "flag"}, flag)));
      }));
    rows.set(place, {row, status, flags, box});
  }
}

function showTable(statuses, found) {
  const tied = new Set(found.tied ?? []);
  for (const [place, {row, status, flags, box}] of rows) {
    const text = statuses.get(place);
    status.replaceChildren(el("span", {class: `status ${text.replaceAll(" ", "-")}`}, text));
    flags.textContent = place === found.place ? "the pick" : tied.has(place) ? "as good as the best" : "";
    row.classList.toggle("picked", place === found.place);
    row.classList.toggle("chosen", place === state.selected);
    box.checked = state.compared.includes(place);
    box.disabled = !box.checked && state.compared.length >= 4;
  }
  sortTable(statuses);
}

let lastStatuses;

function sortTable(statuses = lastStatuses) {
  lastStatuses = statuses;
  const keys = {number: p => candidates[p].number, status: p => STATUSES.indexOf(statuses.get(p)), recipe: p => candidates[p].label};
  const key = keys[sorting.column] ?? (place => candidates[place].cells[sorting.column]?.value);
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined) || a - b;
    return sorting.direction * (typeof x === "string" ? x.localeCompare(y) : x - y) || a - b;
  };
  const order = [...places].sort(compare);
  redraw("rows", order, () => fill("rows", order.map(place => rows.get(place).row)));
  columns.forEach((column, i) => {
    const head = document.getElementById("heads").children[i + 1];
    if (column === sorting.column) head.setAttribute("aria-sort", sorting.direction === 1 ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  });
}

function download() {
  const quoted = value => value == null ? "" : `"${String(value).replaceAll('"', '""').replace(/^[=+\-@]/, "'$&")}"`;
  const metrics = Object.keys(data.metrics);
  const head = ["number", "status", "recipe", ...metrics.flatMap(m => [m, `${m}_low`, `${m}_high`]), "sha256"];
  const lines = [...document.querySelectorAll("#rows tr")].map(row => {
    const place = byNumber.get(row.dataset.number), c = candidates[place];
    const values = metrics.flatMap(m => { const cell = c.cells[m]; return cell ? [cell.value, cell.low ?? cell.value, cell.high ?? cell.value] : ["", "", ""]; });
    return [c.number, lastStatuses.get(place), quoted(c.label), ...values, quoted(c.sha256)].join();
  });
  const address = URL.createObjectURL(new Blob([[head.join(), ...lines].join("\n") + "\n"], {type: "text/csv"}));
  el("a", {href: address, download: "candidates.csv"}).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// ---- comparing

/** As `comparison.Difference.text`. */
function standing(first, place) {
  const text = has(ties[first], place) ? `as good (within ${data.margin})` : `not as good (over ${data.margin})`;
  return has(tooFew[Math.min(first, place)], Math.max(first, place)) ? `${text}, but too few items to tell` : text;
}

function showCompare() {
  const list = state.compared, section = document.getElementById("compare");
  section.dataset.compared = list.map(place => candidates[place].number).join();
  if (list.length < 2) return fill("compare-body", el("p", {class: "soft"}, "Tick two to four candidates in the table above."));
  const chosen = list.map(place => candidates[place]);
  const line = (label, cells) => el("tr", {}, el("th", {scope: "row"}, label), cells.map(cell => el("td", {}, cell ?? "–")));
  const settings = [...new Set(chosen.flatMap(c => Object.keys(c.recipe)))]
    .filter(key => new Set(chosen.map(c => c.recipe[key] ?? "–")).size > 1);
  const body = [
    settings.map(key => line(key, chosen.map(c => c.recipe[key]))),
    Object.keys(data.metrics).filter(metric => chosen.some(c => c.cells[metric])).map(metric => line(data.metrics[metric].label,
      chosen.map(c => c.cells[metric] && [c.cells[metric].shown, el("small", {}, c.cells[metric].interval), el("small", {}, c.cells[metric].change)]))),
    line(`${data.metrics[data.quality].label} against ${name(list[0])}`, list.map((place, i) => i === 0 ? "" :
      place >= ranked.length || list[0] >= ranked.length ? "not compared" : standing(list[0], place))),
    line("confirmed", chosen.map(c => c.confirmed || "no")),
    classLines(chosen, line),
  ];
  fill("compare-body", el("p", {class: "soft"}, data.against), el("div", {class: "scroll", tabindex: 0}, el("table", {}, el("thead", {}, el("tr", {}, el("th"),
    list.map(place => el("th", {scope: "col", class: "words"}, name(place))))), el("tbody", {}, ...body.flat()))));
}

/** Classes whose share of right items differs most. */
function classLines(chosen, line) {
  if (!chosen.every(c => c.classes)) return [];
  const share = (c, i) => data.class_items[i] ? c.classes[i] / data.class_items[i] : 0;
  const spread = i => { const shares = chosen.map(c => share(c, i)); return Math.max(...shares) - Math.min(...shares); };
  const order = chosen[0].classes.map((_, i) => i).filter(i => spread(i) > 0).sort((a, b) => spread(b) - spread(a)).slice(0, 10);
  return order.map(i => line(`class ${data.class_names[i] ?? i}`, chosen.map(c => `${(100 * share(c, i)).toFixed(1)} % of ${data.class_items[i]}`)));
}

// ---- all together

function update() {
  const budgets = chosenBudgets(), found = pick(budgets), onFront = new Set(front(found.inside));
  const statuses = new Map(places.map(place => [place, candidates[place].failed ? "failed"
    : onFront.has(place) ? "front" : has(found.inside, place) ? "dominated" : "out of budget"]));
  const of = status => places.filter(place => statuses.get(place) === status && place !== data.baseline);
  const groups = {"out of budget": of("out of budget"), dominated: of("dominated"), front: of("front"),
    baseline: data.baseline === null ? [] : [data.baseline], "the pick": found.place === undefined ? [] : [found.place],
    selected: state.selected === null ? [] : [state.selected]};
  showLimits();
  redraw("pick", [found.place, found.tied, found.binding, found.nearest, budgets], () => showPick(found, budgets));
  redraw("selected", state.selected, showSelected);
  if (window.Plotly && state.x in data.metrics && state.y in data.metrics) showFigure(groups, budgets);
  showTable(statuses, found);
  redraw("compare", state.compared, showCompare);
  document.getElementById("front-count").textContent =
    `${onFront.size} on the front of ${listOf(found.inside).length} inside the budget; ${candidates.length} candidates in all.`;
  const quoted = budgets.map(b => `-b '${b.text.replaceAll("'", "'\\''")}'`);
  const asked = [data.pick_command, ...(quoted.length ? quoted : ["--no-budget"])].join(" ");
  redraw("pick-command", asked, () => fill("pick-command", command(asked)));
  remember();
}

function buildAxes() {
  for (const axis of ["x", "y", "color"]) {
    const chooser = document.getElementById(`axis-${axis}`);
    chooser.append(...Object.entries(data.metrics).map(([metric, m]) => el("option", {value: metric}, m.label)));
    chooser.addEventListener("change", () => { state[axis] = chooser.value; update(); });
  }
}

function start() {
  recall();
  for (const axis of ["x", "y", "color"]) document.getElementById(`axis-${axis}`).value = state[axis];
  update();
}

buildLimits();
buildAxes();
buildTable();
document.getElementById("download").addEventListener("click", download);
document.getElementById("reset").addEventListener("click", () => { history.replaceState(null, "", "#"); start(); });
document.getElementById("clear").addEventListener("click", () => {
  for (const id of boxes.keys()) state.limits[id] = "";
  state.off = data.others.map((_, i) => i);
  update();
});
addEventListener("hashchange", start);
addEventListener("pagehide", save);
start();
performance.mark("told"); // for experiments/report_page
