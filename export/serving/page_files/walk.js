// The walk as a picture: levels from the root down, nodes where their leaves
// lie, from the first leaf of the tree at the left to the last at the right.

import { drawn } from "./elements.js";

const WIDTH = 460, LEFT = 26, STEP = 22, TOP = 14;

// Nodes are numbered level by level; the root is 1.
export function firstNode(level, branching) {
  return (branching ** level - 1) / (branching - 1) + 1;
}

export function parentOf(node, branching) {
  return Math.floor((node - 2) / branching) + 1;
}

// Returns a path's nodes from the root to `node`, which is on `level`.
export function pathTo(node, level, branching) {
  const path = [node];
  for (let i = level; i > 0; i -= 1) path.push(parentOf(path.at(-1), branching));
  return path.reverse();
}

function x(node, level, branching) {
  const width = branching ** level;
  const place = node - firstNode(level, branching);
  return LEFT + (WIDTH - LEFT - 6) * (place + 0.5) / width;
}

const y = (level) => TOP + STEP * level;

// Draws a traced walk.
//   trace: outputs of the signature `trace`, of one user.
//   paths: [{leaf, kind}], kind "", "asked" or "lost".
export function drawWalk(trace, branching, paths) {
  const [levels] = trace.levels, depth = levels.at(-1);
  const lines = [], full = (WIDTH - LEFT - 6);
  for (let level = 0; level <= depth; level += 1) {
    lines.push(drawn("line", {
      class: "ground", x1: LEFT, x2: WIDTH - 6, y1: y(level), y2: y(level),
    }), drawn("text", { x: 2, y: y(level) + 4 }, String(level)));
  }
  levels.forEach((level, step) => {
    if (levels.indexOf(level, step + 1) >= 0) return; // the last look counts
    const half = Math.max(0.5, full / branching ** level / 2);
    const marks = trace.kept_nodes[0][step].filter((node) => node).map((node) => {
      const at = x(node, level, branching);
      return `M${(at - half).toFixed(1)} ${y(level)}h${(2 * half).toFixed(1)}`;
    });
    lines.push(drawn("path", { class: "kept", d: marks.join("") }));
  });
  const order = { "": 0, asked: 1, lost: 2 };
  for (const { leaf, kind } of
    [...paths].sort((a, b) => order[a.kind] - order[b.kind])) {
    const d = pathTo(leaf, depth, branching)
      .map((node, level) => `${x(node, level, branching).toFixed(1)} ${y(level)}`);
    lines.push(drawn("path", { class: `path ${kind}`, d: `M${d.join("L")}` }));
    if (kind) {
      lines.push(drawn("circle", {
        class: `leaf ${kind}`, r: 4, cx: x(leaf, depth, branching), cy: y(depth),
      }));
    }
  }
  return drawn("svg", {
    viewBox: `0 0 ${WIDTH} ${y(depth) + 14}`, role: "img",
    "aria-label": `The tree's levels, 0 to ${depth}. Bars are nodes that the ` +
      "search kept, lines the paths of what it recommends.",
  }, ...lines);
}
