// JSON whose long integers stay what they are: ids have up to 19 digits, and
// numbers of JavaScript 15.

const STRING_OR_LONG = /"(?:[^"\\]|\\.)*"|(?<![\d.])-?\d{16,}(?![\d.eE])/g;

// Parses JSON; integers of more than 15 digits become strings.
export function parse(text) {
  return JSON.parse(
    text.replace(STRING_OR_LONG, (x) => (x[0] === '"' ? x : `"${x}"`)));
}

// Whether text can be an id.
export function isId(text, integer) {
  return text !== "" && (!integer || /^(0|-?[1-9]\d{0,18})$/.test(text));
}

// Writes a request: ids are strings here, and integers there if `integer`.
export function writeIds(ids, integer) {
  return `[${ids.map((id) => (integer ? id : JSON.stringify(id))).join(", ")}]`;
}
