// One user's search as a table: rows are items, columns are levels.
function called(item) {
    return item.text ? `${item.item} · ${item.text}` : item.item;
}

function placeCell(step) {
    if (!step) return make("td", {});
    if (step.place === null) return make("td", {class: "lost"}, "–");
    const text = step.stays ? number(step.place) : `✕ ${number(step.place)}`;
    const cell = make("td", {
        class: step.stays ? "" : "lost",
        title: `level ${step.level}, node ${step.node}: rank ${step.rank}, `
            + `place ${step.place} of ${step.scored}, ${step.kept} are kept`,
    }, text);
    if (step.stays) {
        const near = 1 - Math.log(step.place) / Math.log(step.kept + 1);
        const share = Math.round(8 + 42 * near);
        cell.style.background =
            `color-mix(in srgb, var(--c0) ${share}%, var(--paper))`;
    }
    return cell;
}

function placesTable(person) {
    const levels = person.levels || [];
    const head = make("tr", {}, make("th", {}, "item"), make("th", {}, "later"),
        make("th", {}, "score"),
        ...levels.map(level => make("th", {}, `level ${level}`)));
    const rows = person.rows.map(row => make("tr", {},
        make("td", {title: called(row)}, called(row)),
        make("td", {}, row.later ? "yes" : ""),
        make("td", {}, row.rank.toFixed(2)),
        ...(row.steps || []).map(placeCell)));
    if (person.asked && person.asked.steps) {
        const asked = person.asked;
        rows.push(make("tr", {class: "asked"},
            make("td", {title: called(asked)}, called(asked)),
            make("td", {}, asked.later ? "yes" : ""), make("td", {}, ""),
            ...asked.steps.map(placeCell)));
    }
    return make("div", {class: "scroll"}, make("table", {}, head, ...rows));
}

function stepsTable(asked) {
    const titles = ["level", "node", "own score", "rank", "place", "scored",
        "kept", "last kept", "short by"];
    const rounded = x => x === null ? "–" : x.toFixed(3);
    const rows = asked.steps.map(step => make("tr", {},
        ...[step.level, step.node,
            rounded(asked.path[step.level - asked.first_level]),
            rounded(step.rank), step.place === null ? "–" : step.place,
            step.scored, step.kept, rounded(step.last_kept),
            step.stays || step.rank === null
                ? "" : rounded(step.last_kept - step.rank),
        ].map((text, i) => make(
            "td", {class: !step.stays && i > 2 ? "lost" : ""}, String(text)))));
    return make("details", {}, make("summary", {}, "Its path, in figures"),
        make("div", {class: "scroll"}, make("table", {},
            make("tr", {}, ...titles.map(t => make("th", {}, t))), ...rows)));
}

function showPerson(person) {
    const section = document.getElementById("person");
    section.hidden = false;
    const beam = person.beam_width
        ? ` with a beam of ${person.beam_width}` : ", all items scored";
    section.append(make("p", {},
        `User ${person.user} (${person.split}): ${person.known} behaviours `
        + `known, ${person.later} items later. Of ${person.num_results} `
        + `recommended${beam}, ${person.hits} were among the later ones.`));
    section.append(make("details", {},
        make("summary", {}, "The newest behaviours"),
        make("ul", {}, ...person.history.map(
            item => make("li", {}, called(item))))));
    if (person.levels) {
        section.append(make("p", {}, "Places of the items' ancestors on each "
            + "level, 1 for the best; ✕ where one falls out of the beam, – "
            + "where the search no longer sees it."));
    }
    section.append(placesTable(person));
    if (!person.asked) return;
    const why = person.asked.verdict.startsWith("Recommended")
        ? "Why this item" : "Why not this item";
    section.append(make("h3", {style: "margin-top:16px"},
        `${why}: ${called(person.asked)}`),
    make("p", {class: "verdict"}, person.asked.verdict));
    if (person.asked.steps) section.append(stepsTable(person.asked));
}
