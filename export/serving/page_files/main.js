// The page: what somebody had, what is recommended, and why.

import * as api from "./api.js";
import { forms } from "./calls.js";
import { element, nameOf, told } from "./elements.js";
import { makePicker } from "./picker.js";
import { stepsOf, tellWhy } from "./why.js";
import { drawWalk } from "./walk.js";

const SHOWN = 20; // recommendations, until more are asked for
const TRACED = 100; // items of a request, as an export allows
const MISSING = -3.4e38;

const at = (id) => document.getElementById(id);
const items = new Map(); // by id, with name and category where known
const state = {
  model: "", versions: [], version: null, beside: null, // null is the newest
  had: [], newOnly: false, allow: [], profile: {}, asked: null, more: false,
  form: "curl",
};
const known = new Map(); // of a version: signatures and card
let turn = 0; // answers to earlier clicks are dropped

function item(id) {
  return items.get(id) ?? { id };
}

async function facts(version) {
  const number = version ?? state.versions[0];
  if (!known.has(number)) {
    const [signatures, card] = await Promise.all([
      api.signatures(state.model, number), api.card(state.model, number)]);
    known.set(number, {
      signatures, card,
      integer: signatures.recommend.history !== "DT_STRING",
      profile: Object.keys(signatures.recommend)
        .filter((name) => name.startsWith("profile_")),
      branching: card.settings?.branching,
    });
  }
  return known.get(number);
}

// The inputs of a signature for the history and the filters in force.
function inputsOf({ integer, profile }, filtered) {
  const inputs = { history: `[${api.writeIds(state.had, integer)}]` };
  for (const name of profile) {
    inputs[name] = `[${JSON.stringify(state.profile[name] ?? "")}]`;
  }
  if (filtered) {
    const exclude = state.newOnly ? [...new Set(state.had)] : [];
    inputs.exclude = `[${api.writeIds(exclude, integer)}]`;
    inputs.allow_categories = `[${JSON.stringify(state.allow)}]`;
  }
  return inputs;
}

async function recommend(version) {
  const about = await facts(version);
  const filtered = state.newOnly || state.allow.length > 0;
  const call = api.predictCall(state.model, version,
    filtered ? "recommend_filtered" : "recommend", inputsOf(about, filtered));
  const { outputs, ms } = await api.predict(call);
  const found = outputs.item_ids[0]
    .map((id, i) => ({ id: String(id), score: outputs.scores[0][i] }))
    .filter(({ score }) => score > MISSING);
  return { version, found, ms, call };
}

async function trace(shown) {
  const about = await facts(state.version);
  if (!about.signatures.trace || !about.branching) return null;
  const ids = [...new Set(
    [...(state.asked === null ? [] : [state.asked]), ...shown])]
    .slice(0, TRACED);
  const call = api.predictCall(state.model, state.version, "trace", {
    ...inputsOf(about, true),
    items: `[${api.writeIds(ids, about.integer)}]`,
  });
  const { outputs } = await api.predict(call);
  return { outputs, ids, branching: about.branching };
}

async function learnNames(ids) {
  const unknown = [...new Set(ids)].filter((id) => !items.has(id));
  if (!unknown.length) return;
  const found = await api.namedItems(state.model, state.version, unknown);
  for (const id of unknown) items.set(id, found.get(id) ?? { id });
  const paths = new Set();
  for (const { category } of items.values()) {
    const parts = (category ?? "").split("|");
    parts.forEach((part, i) => part && paths.add(parts.slice(0, i + 1).join("|")));
  }
  at("categories").replaceChildren(...[...paths].sort().slice(0, 500)
    .map((value) => element("option", { value })));
}

function drawHad() {
  at("had").replaceChildren(...state.had.map((id, i) => element("li", {},
    told(item(id)),
    element("button", {
      type: "button", "aria-label": `Take away ${nameOf(item(id))}`,
      click: () => change(() => state.had.splice(i, 1)),
    }, "×"))).reverse());
  at("nothing-had").hidden = state.had.length > 0;
  at("clear").hidden = !state.had.length;
  at("new-only").checked = state.newOnly;
  at("filters").replaceChildren(...state.allow.map((name, i) => element("li", {},
    element("button", {
      type: "button", "aria-label": `No longer only ${name}`,
      click: () => change(() => state.allow.splice(i, 1)),
    }, element("bdi", {}, name.replaceAll("|", " › ")), " ×"))));
}

function listOf({ version, found }, titled) {
  const shown = state.more ? found : found.slice(0, SHOWN);
  const rows = shown.map(({ id, score }, i) => {
    const name = nameOf(item(id));
    return element("li", { class: id === state.asked ? "asked" : undefined },
      element("span", { class: "place" }, String(i + 1)), told(item(id)),
      element("span", { class: "score" }, score.toFixed(3)),
      element("span", { class: "buttons" },
        element("button", {
          type: "button", "aria-label": `Add ${name}`,
          click: () => change(() => state.had.push(id)),
        }, "add"),
        element("button", {
          type: "button", "aria-label": `Why ${name}`,
          "aria-pressed": String(id === state.asked),
          click: () => change(() => {
            state.asked = id === state.asked ? null : id;
          }),
        }, "why")));
  });
  const parts = [element("ol", { class: "items" }, ...rows)];
  if (titled) {
    parts.unshift(
      element("h3", {}, `Version ${version ?? state.versions[0]}`));
  }
  if (found.length > shown.length) {
    parts.push(element("button", {
      type: "button",
      click: () => { state.more = true; refresh(); },
    }, `Show all ${found.length}`));
  }
  return element("div", {}, ...parts);
}

function drawCall(call) {
  const written = forms(call, location.origin);
  at("forms").replaceChildren(...Object.keys(written).map((name) =>
    element("button", {
      type: "button", role: "tab", "aria-selected": String(name === state.form),
      "aria-controls": "call",
      click: () => { state.form = name; drawCall(call); },
    }, name)));
  at("call").textContent = written[state.form];
}

function allowed({ category }) {
  return !state.allow.length || state.allow.some(
    (name) => category === name || category?.startsWith(`${name}|`));
}

function drawTrace(traced, found) {
  if (traced === null) {
    at("walk-note").textContent =
      "This version tells nothing of its walk: it scans all items, or was " +
      "exported before versions did.";
    at("picture").replaceChildren();
    at("why").replaceChildren();
    return;
  }
  const { outputs, ids, branching } = traced;
  const returned = new Set(found.map(({ id }) => id));
  const paths = ids.map((id, i) => ({
    leaf: outputs.item_nodes[0][i].at(-1),
    kind: !returned.has(id) ? "lost" : id === state.asked ? "asked" : "",
  })).filter(({ leaf }) => leaf);
  const scored = outputs.scored[0].reduce((a, b) => a + b);
  at("walk-note").textContent =
    `${scored.toLocaleString("en")} nodes scored on levels ` +
    `${outputs.levels[0][0]} to ${outputs.levels[0].at(-1)}. Bars are what ` +
    "was kept of a level, lines lead to the recommendations shown.";
  at("picture").replaceChildren(drawWalk(outputs, branching, paths));
  at("why").replaceChildren(...(state.asked === null ? [] : tellWhy(
    item(state.asked), stepsOf(outputs, ids.indexOf(state.asked)), {
      had: state.newOnly && state.had.includes(state.asked),
      allowed: allowed(item(state.asked)),
    })));
}

async function refresh() {
  const mine = turn += 1;
  remember();
  drawHad();
  try {
    const wanted = [state.version];
    if (state.beside !== null) wanted.push(state.beside);
    const answers = await Promise.all(wanted.map(recommend));
    const shown = answers.flatMap(({ found }) =>
      (state.more ? found : found.slice(0, SHOWN)).map(({ id }) => id));
    const [traced] = await Promise.all([
      trace(shown),
      learnNames([...state.had, ...shown,
        ...(state.asked === null ? [] : [state.asked])]),
    ]);
    if (mine !== turn) return;
    drawHad();
    at("lists").replaceChildren(
      ...answers.map((answer) => listOf(answer, answers.length > 1)));
    at("lists").classList.toggle("two", answers.length > 1);
    at("answer").textContent = `${answers[0].found.length} items in ` +
      `${Math.round(answers[0].ms)} ms`;
    drawCall(answers[0].call);
    drawTrace(traced, answers[0].found);
    at("trouble").hidden = true;
  } catch (error) {
    if (mine === turn) tell(error);
  }
}

function tell(error) {
  at("trouble").textContent = error.message;
  at("trouble").hidden = false;
  if (error.status === 503) setTimeout(refresh, 1000);
  // A version may have been replaced since the page was opened.
  if (error.status === 404) setTimeout(open, 2000);
}

// Changes what is asked for, and asks; the focus stays with what was pressed.
function change(how) {
  const label = document.activeElement?.getAttribute("aria-label");
  how();
  refresh().then(() => {
    if (!label || document.activeElement !== document.body) return;
    const same = document.querySelector(`[aria-label="${CSS.escape(label)}"]`);
    (same ?? at("query")).focus();
  });
}

// The history is in the address, to be kept and sent.
function remember() {
  const kept = new URLSearchParams(state.had.map((id) => ["had", id]));
  state.allow.forEach((name) => kept.append("allow", name));
  if (state.newOnly) kept.set("new", "1");
  history.replaceState(null, "", `#${kept}`);
}

function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  state.had = kept.getAll("had");
  state.allow = kept.getAll("allow");
  state.newOnly = kept.has("new");
}

function drawVersions() {
  const options = (first) => [first, ...state.versions.map((number) =>
    element("option", { value: number }, String(number)))];
  at("version").replaceChildren(
    ...options(element("option", { value: "" }, "newest")));
  at("beside").replaceChildren(
    ...options(element("option", { value: "" }, "none")));
  at("versions").hidden = state.versions.length < 2;
  at("version").value = state.version ?? "";
  at("beside").value = state.beside ?? "";
}

function drawProfile({ profile }) {
  at("profile").replaceChildren(...profile.map((name) => {
    const input = element("input", { id: name, autocomplete: "off" });
    input.value = state.profile[name] ?? "";
    input.addEventListener("change", () => change(() => {
      state.profile[name] = input.value;
    }));
    return element("label", {}, name.replace("profile_", ""), input);
  }));
  at("profile").hidden = !profile.length;
}

function drawSamples(samples) {
  at("samples").append(...samples.map(({ name, history: ids }) =>
    element("button", {
      type: "button", click: () => change(() => {
        Object.assign(state, { had: ids.map(String), asked: null });
      }),
    }, element("bdi", {}, name))));
  at("samples").hidden = !samples.length;
}

// Reads which versions there are, and asks.
async function open() {
  try {
    state.versions = await api.versions(state.model);
    for (const name of ["version", "beside"]) {
      if (!state.versions.includes(state[name])) state[name] = null;
    }
    drawVersions();
    const about = await facts(state.version), { card } = about;
    drawProfile(about);
    at("about").textContent = card.data === undefined ? "" :
      `${card.method.toUpperCase()}, ${card.data.items.toLocaleString("en")} ` +
      `items, trained on ${card.data.dataset}`;
    await refresh();
  } catch (error) {
    tell(error);
  }
}

for (const [input, list, status, onPick] of [
  ["query", "found", "find-status",
    (picked) => change(() => state.had.push(picked.id))],
  ["why-query", "why-found", "why-status",
    (picked) => change(() => { state.asked = picked.id; })],
]) {
  makePicker({
    input: at(input), list: at(list), status: at(status),
    where: () => [state.model, state.version],
    onPick: (picked) => {
      items.set(picked.id, picked);
      onPick(picked);
    },
  });
}
at("clear").addEventListener("click", () => change(() => {
  Object.assign(state, { had: [], asked: null });
}));
at("new-only").addEventListener("change", (event) => change(() => {
  state.newOnly = event.target.checked;
}));
function allow() {
  const name = at("category").value.trim();
  at("category").value = "";
  if (name && !state.allow.includes(name)) change(() => state.allow.push(name));
}
at("allow").addEventListener("click", allow);
at("category").addEventListener("keydown", (event) => {
  if (event.key === "Enter") allow();
});
for (const name of ["version", "beside"]) {
  at(name).addEventListener("change", (event) => change(() => {
    state[name] = event.target.value ? Number(event.target.value) : null;
    state.asked = null;
  }));
}
at("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(at("call").textContent);
    at("copied").textContent = "Copied.";
  } catch {
    at("copied").textContent = "Select it and copy it by hand.";
  }
});
window.addEventListener("hashchange", () => { recall(); refresh(); });

recall();
api.about().then(({ model, samples }) => {
  state.model = model;
  at("model").textContent = model;
  document.title = `Try ${model}`;
  drawSamples(samples);
  return open();
}).catch(tell);
