"use strict";

/* Theme: the system's until the reader chooses; the choice is remembered where the browser allows it. */
const root = document.documentElement;
const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const themeButton = document.querySelector(".theme");
const nameTheme = () => { themeButton.textContent = dark() ? "Light theme" : "Dark theme"; };
themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  try { localStorage.setItem("nas-report-theme", root.dataset.theme); } catch { /* storage is off: not remembered */ }
  nameTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
nameTheme();

/* Tables: a header's button sorts by its column, numbers by value, empty cells last whichever way. */
function sortBy(table, column) {
  const headers = [...table.tHead.rows[0].cells];
  const ascending = headers[column].getAttribute("aria-sort") !== "ascending";
  headers.forEach((th, i) => th.setAttribute("aria-sort", i !== column ? "none" : ascending ? "ascending" : "descending"));
  const numeric = headers[column].classList.contains("number");
  const text = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const order = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true }));
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [x, y] = [text(a), text(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    return ascending ? order(x, y) : order(y, x);
  });
  table.tBodies[0].append(...rows);
}
for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((th, i) => th.firstElementChild.addEventListener("click", () => sortBy(table, i)));
}

/* Plots: the values of the point nearest to the pointer, or, with the arrow keys, of one point after the other. */
function describePoints(figure) {
  const svg = figure.querySelector("svg");
  let parsed;
  const data = () => (parsed ??= JSON.parse(figure.querySelector("script").textContent)); // points: [series, x, y, ...values]
  const tip = figure.querySelector(".tip");
  const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  ring.setAttribute("class", "ring");
  ring.setAttribute("r", "6");
  let at = -1;
  const hide = () => { tip.hidden = true; ring.remove(); };
  const show = (index) => {
    at = index;
    const { series, points } = data();
    const [which, x, y, ...values] = points[index];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    svg.append(ring);
    tip.textContent = [series[which].name, ...series[which].columns.map((c, i) => `${c}: ${values[i]}`)].join("\n");
    tip.hidden = false;
    const [box, frame] = [ring.getBoundingClientRect(), figure.getBoundingClientRect()];
    const left = box.right - frame.left + 8;
    const fits = left + tip.offsetWidth <= figure.clientWidth;
    tip.style.left = `${Math.max(0, fits ? left : box.left - frame.left - tip.offsetWidth - 8)}px`;
    tip.style.top = `${box.top - frame.top}px`;
  };
  svg.addEventListener("pointermove", (event) => {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    let [best, least] = [-1, 20 * 20]; // farther away than 20 points is beside all of them
    data().points.forEach(([, px, py], i) => {
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) [best, least] = [i, distance];
    });
    if (best >= 0) show(best);
    else hide();
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const count = data().points.length;
    const next = { ArrowRight: at + 1, ArrowLeft: at < 0 ? -1 : at - 1 }[event.key];
    if (next !== undefined && count) {
      event.preventDefault();
      show((next + count) % count);
    } else if (event.key === "Escape") hide();
  });
}
for (const figure of document.querySelectorAll("figure.plot")) describePoints(figure);
