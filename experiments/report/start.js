// Fills the page from the report; a part that is missing stays hidden.
const report = JSON.parse(document.getElementById("report").textContent);
for (const [name, value] of report.facts) {
    document.getElementById("facts").append(make("div", {},
        make("dt", {}, name), make("dd", {}, value)));
}
if (report.notes.length) {
    document.getElementById("notes").hidden = false;
    document.getElementById("notes").append(
        ...report.notes.map(note => make("li", {}, note)));
}
if (report.trees.length) {
    document.getElementById("tree").hidden = false;
    new Icicle(report);
}
showCharts(report.charts);
if (report.person) showPerson(report.person);
