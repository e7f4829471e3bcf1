// Line charts as SVG, drawn anew for each width so that text stays readable.
const Marks = [
    (x, y) => `M${x - 3} ${y}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0`,
    (x, y) => `M${x - 3} ${y - 3}h6v6h-6z`,
    (x, y) => `M${x} ${y - 4}l4 7h-8z`,
    (x, y) => `M${x} ${y - 4}l4 4l-4 4l-4 -4z`,
];

function lineStyle(line, index) {
    const colour = line.dashed ? "var(--grey)" : `var(--c${index % 6})`;
    return {colour, mark: Marks[index % Marks.length],
        dash: line.dashed ? "5 4" : "none"};
}

function ticks(low, high, count) {
    const raw = (high - low) / count || 1;
    const size = 10 ** Math.floor(Math.log10(raw));
    const step = size * [1, 2, 5, 10].find(n => n * size >= raw);
    const found = [];
    for (let i = Math.floor(low / step); i <= Math.ceil(high / step); i++) {
        found.push(Number((i * step).toPrecision(6)));
    }
    return found;
}

function drawLines(svg, chart) {
    const width = svg.clientWidth, height = svg.clientHeight;
    const left = 44, right = 12, top = 10, bottom = 38;
    const xs = chart.lines.flatMap(line => line.x);
    const ys = chart.lines.flatMap(line => line.y);
    const low = chart.x === "iteration" ? Math.min(...ys) : 0;
    const marks = ticks(Math.min(low, ...ys), Math.max(...ys), 5);
    const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
    const [y0, y1] = [marks[0], marks[marks.length - 1]];
    const atX = x => left + (width - left - right) * (x - x0) / (x1 - x0 || 1);
    const atY = y => height - bottom
        - (height - top - bottom) * (y - y0) / (y1 - y0 || 1);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    for (const y of marks) {
        svg.append(
            make("line", {class: "axis", x1: left, x2: width - right,
                y1: atY(y), y2: atY(y)}),
            make("text", {x: left - 6, y: atY(y) + 4, "text-anchor": "end"},
                String(y)));
    }
    const every = Math.ceil((x1 - x0 + 1) / Math.max(2, (width - 60) / 28));
    for (let x = x0; x <= x1; x += every) {
        svg.append(make("text", {x: atX(x), y: height - bottom + 16,
            "text-anchor": "middle"}, String(x)));
    }
    svg.append(make("text", {x: left + (width - left - right) / 2,
        y: height - 4, "text-anchor": "middle"}, chart.x));
    chart.lines.forEach((line, index) => {
        const {colour, mark, dash} = lineStyle(line, index);
        const points = line.x.map((x, i) => [atX(x), atY(line.y[i])]);
        svg.append(make("path", {class: "curve", stroke: colour,
            "stroke-dasharray": dash, d: "M" + points.join("L")}));
        if (line.dashed) return;
        points.forEach(([x, y], i) => {
            const dot = make("path", {d: mark(x, y), fill: colour});
            dot.append(make("title", {}, `${line.name}, ${chart.x} `
                + `${line.x[i]}: ${line.y[i]} ${chart.y}`));
            svg.append(dot);
        });
    });
}

function key(line, index) {
    const {colour, mark, dash} = lineStyle(line, index);
    const sample = make("svg", {viewBox: "0 0 30 14"},
        make("path", {class: "curve", stroke: colour,
            "stroke-dasharray": dash, d: "M1 7H29"}));
    if (!line.dashed) {
        sample.append(make("path", {d: mark(15, 7), fill: colour}));
    }
    return make("span", {}, sample, line.name);
}

function figures(chart) {
    const xs = [...new Set(chart.lines.flatMap(line => line.x))]
        .sort((a, b) => a - b);
    const head = make("tr", {}, make("th", {}, chart.x),
        ...chart.lines.map(line => make("th", {}, line.name)));
    const rows = xs.map(x => make("tr", {}, make("td", {}, String(x)),
        ...chart.lines.map(line => {
            const at = line.x.indexOf(x);
            return make("td", {}, at < 0 ? "" : String(line.y[at]));
        })));
    return make("details", {}, make("summary", {}, "Figures"),
        make("div", {class: "scroll"}, make("table", {}, head, ...rows)));
}

function showCharts(charts) {
    document.getElementById("curves").hidden = !charts.length;
    for (const chart of charts) {
        const svg = make("svg", {role: "img", "aria-label": chart.title});
        const legend = make("div", {class: "legend"}, ...chart.lines.map(key));
        document.getElementById("charts").append(make("figure", {},
            make("figcaption", {},
                make("h3", {}, `${chart.title}, ${chart.y}`),
                make("p", {}, chart.caption)),
            legend, svg, figures(chart)));
        new ResizeObserver(() => drawLines(svg, chart)).observe(svg);
    }
}
