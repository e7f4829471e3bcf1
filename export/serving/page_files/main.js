// The page: what somebody had, what is recommended, and why.

import * as api from "./api.js";
import { forms } from "./calls.js";
import { element, nameOf, told } from "./elements.js";
import { isId } from "./json.js";
import { makePicker } from "./picker.js";
import { recommend, recommendCall, trace } from "./requests.js";
import { mainVersion, recall, remember, state } from "./state.js";
import * as versions from "./versions.js";
import { stepsOf, tellWhy, verdict } from "./why.js";
import { drawWalk } from "./walk.js";

const SHOWN = 20; // recommendations, until more are asked for
const SUGGESTED = 500; // categories
const RETRY_MS = 1000; // while the server is not ready

const at = (id) => document.getElementById(id);
let turn = 0; // answers to earlier clicks are dropped
let drawn = null; // the version whose facts are shown

function drawHad(version) {
  at("had").replaceChildren(...state.had.map((id, i) => element("li", {},
    told(versions.itemOf(version, id)),
    element("button", {
      type: "button",
      "aria-label": `Take away ${nameOf(versions.itemOf(version, id))}`,
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

function shownOf({ found }) {
  return state.more ? found : found.slice(0, SHOWN);
}

function listOf(answer, titled) {
  const { version, found } = answer;
  const shown = shownOf(answer), of = titled ? ` of version ${version}` : "";
  const rows = shown.map(({ id, score }, i) => {
    const item = versions.itemOf(version, id), asked = id === state.asked;
    return element("li", { class: asked ? "asked" : undefined },
      element("span", { class: "place" }, String(i + 1)), told(item),
      element("span", { class: "score" }, score.toFixed(3)),
      element("span", { class: "buttons" },
        element("button", {
          type: "button", "aria-label": `Add ${nameOf(item)}${of}`,
          click: () => change(() => state.had.push(id)),
        }, "add"),
        element("button", {
          type: "button", "aria-label": `Why ${nameOf(item)}${of}`,
          "aria-pressed": String(asked),
          click: () => change(() => { state.asked = asked ? null : id; }),
        }, "why")));
  });
  const parts = [element("ol", { class: "items" }, ...rows)];
  if (titled) parts.unshift(element("h3", {}, `Version ${version}`));
  if (found.length > shown.length) {
    parts.push(element("button", {
      type: "button", click: () => { state.more = true; refresh(); },
    }, `Show all ${found.length}`));
  }
  return element("div", {}, ...parts);
}

function drawLists(answers) {
  keepingFocus(() => {
    drawHad(answers[0].version);
    at("lists").replaceChildren(
      ...answers.map((answer) => listOf(answer, answers.length > 1)));
  });
  at("lists").classList.toggle("two", answers.length > 1);
  at("answer").textContent = `${answers[0].found.length} items in ` +
    `${Math.round(answers[0].ms)} ms`;
  at("categories").replaceChildren(
    ...versions.categoriesOf(answers[0].version).slice(0, SUGGESTED)
      .map((value) => element("option", { value })));
}

// Draws anew; the focus stays with what has the same label, or goes back to
// where one types.
function keepingFocus(draw) {
  const focus = document.activeElement;
  const label = focus?.getAttribute("aria-label");
  draw();
  if (!focus || focus === document.body || focus.isConnected) return;
  const same = label &&
    document.querySelector(`[aria-label="${CSS.escape(label)}"]`);
  (same || at("query")).focus({ preventScroll: true });
}

function drawCall(call) {
  const chosen = at("forms").querySelector("[aria-pressed=true]").textContent;
  at("call").textContent = forms(call, location.origin)[chosen];
}

// Whether an item's category is allowed; null where it is not known.
function allowed({ category }) {
  if (!state.allow.length) return true;
  if (category === undefined) return null;
  return state.allow.some(
    (name) => category === name || category.startsWith(`${name}|`));
}

function drawTrace(traced, { version, found }, branching) {
  const { outputs, ids } = traced, { asked } = state;
  const returned = new Set(found.map(({ id }) => id));
  const paths = ids.map((id, i) => ({
    leaf: outputs.item_nodes[0][i].at(-1),
    kind: id !== asked ? "" : returned.has(id) ? "asked" : "lost",
  })).filter(({ leaf }) => leaf);
  const scored = outputs.scored[0].reduce((a, b) => a + b);
  at("walk-note").textContent =
    `${scored.toLocaleString("en")} nodes scored on levels ` +
    `${outputs.levels[0][0]} to ${outputs.levels[0].at(-1)}. Bars are what ` +
    "was kept of a level, lines lead to the recommendations shown.";
  at("picture").replaceChildren(drawWalk(outputs, branching, paths));
  if (asked === null) return drawWhy("", []);
  const item = versions.itemOf(version, asked);
  const steps = stepsOf(outputs, ids.indexOf(asked));
  return drawWhy(verdict(steps, {
    had: state.newOnly && state.had.includes(asked), allowed: allowed(item),
  }), tellWhy(item, steps));
}

function drawWhy(sentence, parts) {
  at("verdict").textContent = sentence;
  at("why").replaceChildren(...parts);
}

function drawNoTrace(facts) {
  at("walk-note").textContent = facts.signatures.trace
    ? "The version's card does not tell how its tree forks."
    : "This version tells nothing of its walk: it scans all items, or was " +
      "exported before versions did.";
  at("picture").replaceChildren();
  drawWhy("", []);
}

// Drops what can be no id, which an address may bring; says so.
function checkIds({ integer }) {
  const wrong = state.had.filter((id) => !isId(id, integer));
  if (!wrong.length) return;
  state.had = state.had.filter((id) => isId(id, integer));
  remember();
  at("find-status").textContent =
    `Left out, for ids are integers: ${wrong.join(", ").slice(0, 200)}`;
}

// Asks, and draws what comes as it comes: names and the walk are no reason to
// wait for the recommendations.
async function refresh() {
  const mine = turn += 1;
  const late = () => mine !== turn;
  remember();
  try {
    await lookForVersions();
    const version = mainVersion();
    const facts = await versions.factsOf(state.model, version);
    if (late()) return;
    checkIds(facts);
    drawHad(version);
    if (drawn !== version) drawFacts(version, facts);
    const wanted = [version, ...(state.beside ? [state.beside] : [])];
    const answers = await Promise.all(wanted.map(async (number) =>
      recommend(await versions.factsOf(state.model, number), number)));
    if (late()) return;
    drawLists(answers);
    drawCall(recommendCall(facts, state.version));
    at("trouble").hidden = true;
    const named = name(answers, late);
    await Promise.all([named, follow(facts, answers[0], named, late)]);
  } catch (error) {
    if (!late()) tell(error);
  }
}

async function name(answers, late) {
  const more = [...state.had, ...(state.asked === null ? [] : [state.asked])];
  await Promise.all(answers.map((answer) => versions.learnNames(
    state.model, answer.version,
    [...more, ...shownOf(answer).map(({ id }) => id)])));
  if (!late()) drawLists(answers);
}

async function follow(facts, answer, named, late) {
  const ids = shownOf(answer).map(({ id }) => id);
  if (!at("picture").firstChild) {
    at("walk-note").textContent = "A version's first walk takes some seconds.";
  }
  const traced = await trace(facts, answer.version, ids);
  await named.catch(() => {}); // `refresh` tells; the walk needs no names
  if (late()) return;
  if (traced === null) drawNoTrace(facts);
  else drawTrace(traced, answer, facts.branching);
}

function tell(error) {
  at("trouble").textContent = error.message;
  at("trouble").hidden = false;
  if (error.status !== 503) return;
  const waiting = turn;
  setTimeout(() => { if (turn === waiting) refresh(); }, RETRY_MS);
}

// Changes what is asked for, and asks.
function change(how) {
  how();
  state.more = false;
  refresh();
}

// Learns which versions serve now.
async function lookForVersions() {
  const serving = await api.versions(state.model);
  if (!serving.length) throw new api.Refused(503, "No version serves now.");
  if (serving.join() === state.versions.join()) return;
  state.versions = serving;
  for (const part of ["version", "beside"]) {
    if (!serving.includes(state[part])) state[part] = null;
  }
  const options = (first) => [element("option", { value: "" }, first),
    ...serving.map((value) => element("option", { value }, value))];
  at("version").replaceChildren(...options("newest"));
  at("beside").replaceChildren(...options("none"));
  at("versions").hidden = serving.length < 2;
  at("version").value = state.version ?? "";
  at("beside").value = state.beside ?? "";
}

// Tells of a version, and asks for what it wants to know of a person.
function drawFacts(version, { card, profile }) {
  drawn = version;
  at("about").textContent = card.data === undefined ? "" :
    `${card.method.toUpperCase()}, ${card.data.items.toLocaleString("en")} ` +
    `items, trained on ${card.data.dataset}`;
  at("profile").replaceChildren(...profile.map((part) => {
    const input = element("input", { id: part, autocomplete: "off" });
    input.value = state.profile[part] ?? "";
    input.addEventListener("change", () => change(() => {
      state.profile[part] = input.value;
    }));
    return element("label", {}, part.replace("profile_", ""), input);
  }));
  at("profile").hidden = !profile.length;
}

function drawSamples(samples) {
  at("samples").append(...samples.map(({ name: title, history: ids }) =>
    element("button", {
      type: "button", click: () => change(() => {
        Object.assign(state, { had: ids.map(String), asked: null });
      }),
    }, element("bdi", {}, title))));
  at("samples").hidden = !samples.length;
}

for (const [input, list, status, onPick] of [
  ["query", "found", "find-status", (id) => state.had.push(id)],
  ["why-query", "why-found", "why-status", (id) => { state.asked = id; }],
]) {
  makePicker({
    input: at(input), list: at(list), status: at(status),
    where: () => [state.model, mainVersion()],
    onPick: (item) => {
      if (item.name || item.category) versions.keepItem(mainVersion(), item);
      change(() => onPick(item.id));
    },
  });
}
at("clear").addEventListener("click", () => {
  at("query").focus();
  change(() => Object.assign(state, { had: [], asked: null }));
});
at("new-only").addEventListener("change", (event) => change(() => {
  state.newOnly = event.target.checked;
}));
function allow() {
  const path = at("category").value.trim();
  at("category").value = "";
  if (path && !state.allow.includes(path)) change(() => state.allow.push(path));
}
at("allow").addEventListener("click", allow);
at("category").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.isComposing) allow();
});
for (const part of ["version", "beside"]) {
  at(part).addEventListener("change", (event) => change(() => {
    state[part] = event.target.value || null;
    state.asked = null;
  }));
}
for (const button of at("forms").children) {
  button.addEventListener("click", async () => {
    for (const other of at("forms").children) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    const facts = await versions.factsOf(state.model, mainVersion());
    drawCall(recommendCall(facts, state.version));
  });
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
  return refresh();
}).catch(tell);
