// The tree on a canvas: columns are levels, cells are sums over what is below.
const Palette = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2",
    "#d55e00", "#cc79a7"];
const Other = "#999999";
const Heat = [[0, 32, 77], [87, 93, 109], [165, 156, 116], [255, 234, 70]];
const Spread = 2;  // Popularity runs from 1/4 to 4 times the mean.

function rgb(hex) {
    return [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
}

function mix(from, to, share) {
    return from.map((x, i) => Math.round(x + (to[i] - x) * share));
}

function heat(ratio) {
    const at = Math.max(0, Math.min(1, 0.5 + Math.log2(ratio) / 2 / Spread));
    const index = Math.min(Heat.length - 2, Math.floor(at * (Heat.length - 1)));
    return mix(Heat[index], Heat[index + 1], at * (Heat.length - 1) - index);
}

class Icicle {
    constructor(report) {
        this.report = report;
        this.branching = report.branching;
        this.canvas = document.getElementById("icicle");
        this.view = {tree: report.trees.length - 1, level: 0, place: 0,
            colour: report.categories ? "category" : "popularity",
            beam: false};
        this.colours = new Map();
        this.kept = report.person && report.person.beam
            ? Object.fromEntries(Object.entries(report.person.beam)
                .map(([level, places]) => [level, new Set(places)]))
            : null;
        this.boxes = [];
        this.controls();
        this.listen();
        this.draw();
    }

    get levels() {
        return this.report.trees[this.view.tree].levels;
    }

    controls() {
        const which = document.getElementById("which");
        this.report.trees.forEach((tree, i) => {
            which.append(make("option", {value: i}, tree.name));
        });
        which.value = this.view.tree;
        which.onchange = () => this.go({tree: Number(which.value)});
        const colour = document.getElementById("colour");
        if (this.report.categories) {
            colour.append(make("option", {value: "category"}, "category"));
        }
        colour.append(make("option", {value: "popularity"}, "popularity"));
        colour.onchange = () => this.go({colour: colour.value});
        const beam = document.getElementById("beam");
        document.getElementById("beam-label").hidden = !this.kept;
        beam.onchange = () => this.go({beam: beam.checked});
        document.getElementById("up").onclick = () => this.up();
    }

    listen() {
        const canvas = this.canvas;
        canvas.onclick = event => {
            const box = this.at(event);
            if (!box) return;
            if (box.level === this.view.level) this.up();
            else this.into(box.level, box.place);
        };
        canvas.onmousemove = event => this.tell(event);
        canvas.onmouseleave = () => {
            document.getElementById("tip").hidden = true;
        };
        canvas.onkeydown = event => {
            const {level, place} = this.view;
            const moves = {
                ArrowLeft: () => this.up(),
                ArrowRight: () => this.into(level + 1, this.largest()),
                ArrowUp: () => this.into(level, place - 1),
                ArrowDown: () => this.into(level, place + 1),
            };
            if (!moves[event.key]) return;
            event.preventDefault();
            moves[event.key]();
        };
        new ResizeObserver(() => this.draw()).observe(canvas);
        matchMedia("(prefers-color-scheme: dark)")
            .addEventListener("change", () => this.draw());
    }

    largest() {
        const {level, place} = this.view;
        const below = this.levels[level + 1];
        if (!below) return place;
        let best = place * this.branching;
        for (let i = 0; i < this.branching; i++) {
            const child = place * this.branching + i;
            if (below.items[child] > below.items[best]) best = child;
        }
        return best;
    }

    up() {
        if (this.view.level === 0) return;
        this.go({level: this.view.level - 1,
            place: Math.floor(this.view.place / this.branching)});
    }

    into(level, place) {
        const last = this.levels.length - 1;
        if (level > last) return;
        if (level === last && last > 0) {  // Nothing is below it: show kin.
            level -= 1;
            place = Math.floor(place / this.branching);
        }
        if (this.levels[level].items[place]) this.go({level, place});
    }

    go(change) {
        Object.assign(this.view, change);
        if (!this.levels[this.view.level].items[this.view.place]) {
            Object.assign(this.view, {level: 0, place: 0});
        }
        document.getElementById("tip").hidden = true;
        this.draw();
    }

    draw() {
        const width = this.canvas.clientWidth;
        const height = this.canvas.clientHeight;
        const header = 18;
        const dense = window.devicePixelRatio || 1;
        this.canvas.width = width * dense;
        this.canvas.height = height * dense;
        const pen = this.canvas.getContext("2d");
        pen.scale(dense, dense);
        const narrow = width < 600 ? 70 : 100;
        const columns = Math.max(1, Math.min(
            this.levels.length - this.view.level, Math.floor(width / narrow)));
        this.paper = rgb(css("--paper"));
        this.choose();
        this.boxes = [];
        const total = this.levels[this.view.level].items[this.view.place];
        for (let depth = 0; depth < columns; depth++) {
            const level = this.view.level + depth;
            const first = this.view.place * this.branching ** depth;
            const last = first + this.branching ** depth;
            const x = depth * width / columns;
            pen.fillStyle = css("--faint");
            pen.font = "12px system-ui, sans-serif";
            pen.textBaseline = "middle";
            pen.fillText(`level ${level}`, x + 4, header / 2);
            let y = header;
            for (let place = first; place < last; place++) {
                const items = this.levels[level].items[place];
                if (!items) continue;
                const box = {level, place, x, y, w: width / columns,
                    h: (height - header) * items / total};
                this.cell(pen, box);
                this.boxes.push(box);
                y += box.h;
            }
        }
        this.say(columns);
        this.legend();
    }

    // Gives colours to the largest categories in view; who has one keeps it.
    choose() {
        const deepest = this.levels.length - 1;
        const {items, group} = this.levels[deepest];
        const size = this.branching ** (deepest - this.view.level);
        const totals = new Map();
        for (let i = this.view.place * size; i < (this.view.place + 1) * size;
            i++) {
            if (group[i]) {
                totals.set(group[i], (totals.get(group[i]) || 0) + items[i]);
            }
        }
        this.shown = [...totals].sort((a, b) => b[1] - a[1])
            .slice(0, Palette.length).map(pair => pair[0]);
        for (const known of [...this.colours.keys()]) {
            if (!this.shown.includes(known)) this.colours.delete(known);
        }
        const free = Palette.filter(
            colour => ![...this.colours.values()].includes(colour));
        for (const wanted of this.shown) {
            if (!this.colours.has(wanted)) {
                this.colours.set(wanted, free.shift());
            }
        }
    }

    fill(level, place) {
        const at = this.levels[level];
        let colour;
        if (this.view.colour === "popularity") {
            const root = this.levels[0];
            const mean = root.popularity[0] / root.items[0] || 1;
            colour = heat(
                Math.max(1e-6, at.popularity[place] / at.items[place] / mean));
        } else {
            const base = rgb(this.colours.get(at.group[place]) || Other);
            colour = mix(this.paper, base, 0.2 + 0.008 * at.share[place]);
        }
        return this.lost(level, place) ? mix(colour, this.paper, 0.85) : colour;
    }

    lost(level, place) {
        return this.view.beam && this.report.trees[this.view.tree].searched
            && this.kept[level] && !this.kept[level].has(place);
    }

    cell(pen, {level, place, x, y, w, h}) {
        const fill = this.fill(level, place);
        pen.fillStyle = `rgb(${fill})`;
        const gap = h > 3 ? 1 : 0;
        pen.fillRect(x, y, w - 1, h - gap);
        if (h < 14) return;
        const bright = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2];
        pen.fillStyle = bright > 100 ? "#000000" : "#ffffff";
        pen.font = "12px system-ui, sans-serif";
        pen.textBaseline = "middle";
        const text = this.text(level, place);
        pen.fillText(this.fitted(pen, text, w - 8), x + 4, y + h / 2);
    }

    text(level, place) {
        const at = this.levels[level];
        if (this.view.colour === "popularity") {
            return `${number(at.popularity[place])}`;
        }
        const path = this.report.labels[at.label[place]];
        if (!path) return "unknown";
        const name = path.split("|").pop();
        return at.share[place] > 50 ? name : `${name}, mixed`;
    }

    fitted(pen, text, width) {
        if (pen.measureText(text).width <= width) return text;
        let end = text.length;
        while (end && pen.measureText(text.slice(0, end) + "…").width > width) {
            end--;
        }
        return end ? text.slice(0, end) + "…" : "";
    }

    at(event) {
        const frame = this.canvas.getBoundingClientRect();
        const x = event.clientX - frame.left;
        const y = event.clientY - frame.top;
        return this.boxes.find(
            b => x >= b.x && x < b.x + b.w && y >= b.y && y < b.y + b.h);
    }

    lines(level, place) {
        const at = this.levels[level];
        const b = this.branching;
        const code = (b ** level - 1) / (b - 1) + 1 + place;
        const lines = [`Level ${level}, node ${code}`,
            `${number(at.items[place])} items, `
            + `${number(at.popularity[place])} interactions`];
        if (at.group[place]) {
            lines.push(`${at.share[place]} % of `
                + this.report.labels[at.group[place]]);
            const label = this.report.labels[at.label[place]];
            if (at.label[place] !== at.group[place]) {
                lines.push(`at least half: ${label}`);
            }
        }
        if (this.lost(level, place)) lines.push("not in the beam");
        return lines;
    }

    tell(event) {
        const tip = document.getElementById("tip");
        const box = this.at(event);
        tip.hidden = !box;
        if (!box) return;
        tip.replaceChildren(...this.lines(box.level, box.place)
            .map(line => make("div", {}, line)));
        const frame = this.canvas.getBoundingClientRect();
        const x = event.clientX - frame.left + 14;
        const y = event.clientY - frame.top + 14;
        tip.style.left = Math.max(
            0, Math.min(x, frame.width - tip.offsetWidth)) + "px";
        tip.style.top = Math.max(
            0, Math.min(y, frame.height - tip.offsetHeight)) + "px";
    }

    say(columns) {
        const {level, place} = this.view;
        const where = document.getElementById("where");
        where.textContent = this.lines(level, place).join(" · ")
            + ` · levels ${level}–${level + columns - 1} of `
            + `0–${this.report.max_level} are drawn`;
        document.getElementById("up").disabled = level === 0;
    }

    legend() {
        const legend = document.getElementById("legend");
        const swatch = (colour, text) => make("span", {},
            make("i", {style: `background:${colour}`}), text);
        if (this.view.colour === "popularity") {
            const steps = [-2, -1, 0, 1, 2].map(at => swatch(
                `rgb(${heat(2 ** at)})`, at < 0 ? `1/${2 ** -at}` : 2 ** at));
            legend.replaceChildren(
                "interactions an item, times the mean:", ...steps);
            return;
        }
        const known = this.shown.map(group => swatch(
            this.colours.get(group), this.report.labels[group]));
        legend.replaceChildren("largest categories in view:", ...known,
            swatch(Other, "other or unknown"), "fainter where mixed");
    }
}
