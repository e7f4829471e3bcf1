// Elements without markup in strings: a category may be named anything.
const svgSpace = document.getElementById("seed").namespaceURI;

function make(tag, attributes, ...children) {
    const vector = ["svg", "path", "line", "circle", "text", "rect", "title"];
    const element = vector.includes(tag)
        ? document.createElementNS(svgSpace, tag)
        : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
        element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
}

function number(value) {
    return value.toLocaleString("en-GB");
}

function css(name) {
    const style = getComputedStyle(document.documentElement);
    return style.getPropertyValue(name).trim();
}
