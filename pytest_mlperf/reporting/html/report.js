"use strict";
const results = document.getElementById("results");
const rows = [...results.tBodies[0].rows];

// Sorting: numbers by their exact value, everything else as text.
function valueOf(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value;
  return value === undefined ? cell.textContent.trim() : value === "" ? NaN : Number(value);
}
function compare(a, b) {
  if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
  return Number.isNaN(a) - Number.isNaN(b) || a - b || 0;
}
[...results.tHead.rows[0].cells].forEach((head, column) => {
  head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of results.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    rows.sort((a, b) => compare(valueOf(a, column), valueOf(b, column)) * (down ? -1 : 1));
    results.tBodies[0].append(...rows);
  });
});

// Filtering: every word has to be in the row; the run's section goes with it.
const runOf = (row) => document.getElementById(row.cells[0].firstElementChild.hash.slice(1));
const filter = document.getElementById("filter");
const outcome = document.getElementById("outcome");
function applyFilter() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const fits = words.every((word) => text.includes(word));
    row.hidden = !fits || (outcome.value !== "" && row.dataset.outcome !== outcome.value);
    shown += !row.hidden;
    runOf(row).hidden = row.hidden;
  }
  document.getElementById("shown").textContent = `${shown} of ${rows.length}`;
}
filter.addEventListener("input", applyFilter);
outcome.addEventListener("change", applyFilter);

// A link to a run opens it.
function openTarget() {
  const run = document.getElementById(location.hash.slice(1));
  if (run) run.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();

// Plots: the library is unpacked when the first one is seen.
let library = null;
function loadLibrary() {
  library ??= (async () => {
    const packed = Uint8Array.from(atob(document.getElementById("vega").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.type = "module";
    script.textContent = await new Response(stream).text();
    const ready = new Promise((resolve) => addEventListener("vega-ready", resolve, { once: true }));
    document.head.append(script);
    await ready;
  })();
  return library;
}
function fitTo(width) { // colors are the style sheet's, so that they follow light, dark and print
  return { background: null, font: "system-ui, sans-serif", axis: { labelLimit: Math.max(130, 0.4 * width) } };
}
async function draw(plot) {
  plot.dataset.drawn = "yes";
  await loadLibrary();
  const spec = JSON.parse(document.getElementById(plot.dataset.plot).textContent);
  const options = { actions: false, renderer: "svg", config: fitTo(plot.clientWidth) };
  await window.vegaEmbed(plot, spec, options);
}
const plots = [...document.querySelectorAll(".plot")];
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting && !entry.target.dataset.drawn) draw(entry.target);
  }
}, { rootMargin: "200px" });
plots.forEach((plot) => watcher.observe(plot));

// Printed is what is open: all runs of a large tree would be thousands of pages.
document.getElementById("open-all").addEventListener("click", () => {
  for (const run of document.querySelectorAll("details.run:not([hidden])")) {
    run.open = true;
    for (const plot of run.querySelectorAll(".plot:empty")) draw(plot);
  }
});
