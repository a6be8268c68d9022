"use strict";

const PIXELS = 3; // of a PNG, for each of the page's

// Every column of the results sorts the rows inside their groups; what is not known stands last.
for (const table of document.querySelectorAll(".results")) {
  const heads = [...table.tHead.rows[0].cells];
  for (const [place, head] of heads.entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, heads, place));
    head.append(button);
  }
  document.getElementById("reading").append(" A heading sorts the rows of each group.");
}

function sort(table, heads, place) {
  const up = heads[place].getAttribute("aria-sort") === "descending" || (place === 0 && !heads[place].ariaSort);
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[place].setAttribute("aria-sort", up ? "ascending" : "descending");
  const compare = place === 0 ? byName : byNumber;
  for (const group of table.tBodies) {
    const rows = [...group.rows].slice(1);
    group.append(...rows.sort((one, other) => compare(one.cells[place], other.cells[place], up ? 1 : -1)));
  }
}

function byName(one, other, sign) {
  return sign * one.textContent.localeCompare(other.textContent, "en", { numeric: true });
}

function byNumber(one, other, sign) {
  const [first, second] = [one, other].map((cell) => cell.dataset.order);
  if (first === undefined || second === undefined) return (first === undefined) - (second === undefined);
  return sign * (first - second);
}

// A figure can be kept as it is, or as pixels for slides.
for (const figure of document.querySelectorAll("figure")) {
  const image = figure.querySelector("img");
  const links = document.createElement("span");
  links.className = "downloads";
  links.append("Keep as ", link("SVG", image.src, `${figure.id}.svg`), " ", png(image, `${figure.id}.png`));
  figure.querySelector("figcaption").append(links);
}

function link(text, href, name) {
  return Object.assign(document.createElement("a"), { textContent: text, href, download: name });
}

function png(image, name) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "PNG" });
  button.addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    canvas.width = PIXELS * image.naturalWidth;
    canvas.height = PIXELS * image.naturalHeight;
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    link("", canvas.toDataURL("image/png"), name).click();
  });
  return button;
}

// A link into a folded part unfolds it.
function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (const folded of [target.querySelector(":scope > details"), target.closest("details")]) {
    if (folded) folded.open = true;
  }
  target.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();
