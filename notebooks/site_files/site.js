// The menu on a narrow page, light and dark, and the search. No library, no server.
const root = document.documentElement, menu = document.getElementById("menu");
const box = document.getElementById("search"), found = document.getElementById("found");

document.getElementById("theme").onclick = () => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
};
menu.onclick = () => menu.setAttribute("aria-expanded", document.body.classList.toggle("open"));
document.getElementById("contents").onclick = event => {
  if (event.target.closest("a")) document.body.classList.remove("open");
};
document.querySelector("[aria-current]")?.scrollIntoView({ block: "center" });
scrollTo(0, location.hash ? scrollY : 0);

// What scrolls sideways gets the focus, so that the arrow keys scroll it.
const boxes = document.querySelectorAll("main pre, main .wide, main math, main p:has(> img)");
const watcher = new ResizeObserver(seen => {
  for (const { target } of seen) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
boxes.forEach(box => watcher.observe(box));

// Every word must occur; one in a heading counts ten times.
function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const hits = [];
  for (const [page, title, anchor, head, body] of words.length ? INDEX : []) {
    const heading = `${title} ${head}`.toLowerCase(), all = body.toLowerCase();
    let score = 0;
    for (const word of words) {
      const points = 10 * heading.includes(word) + Math.min(5, all.split(word).length - 1);
      if (!points) { score = 0; break; }
      score += points;
    }
    if (score) hits.push({ score, page, title, anchor, head, body, at: all.indexOf(words[0]) });
  }
  return hits.sort((a, b) => b.score - a.score).slice(0, 20);
}

function show() {
  const hits = search(box.value);
  found.hidden = !box.value.trim();
  found.replaceChildren(...(hits.length ? hits.map(hit => {
    const item = document.createElement("li"), link = document.createElement("a");
    const small = document.createElement("small");
    link.href = `${hit.page}#${encodeURIComponent(hit.anchor)}`;
    link.textContent = hit.title === hit.head ? hit.head : `${hit.title}: ${hit.head}`;
    const from = Math.max(0, hit.at - 60);
    small.textContent = hit.at < 0 ? "" : (from ? "… " : "") + hit.body.slice(from, from + 160) + " …";
    link.append(small);
    item.append(link);
    return item;
  }) : [document.createTextNode("Nothing found.")]));
}
box.oninput = show;
addEventListener("keydown", event => {
  if (event.key === "/" && document.activeElement !== box) { box.focus(); event.preventDefault(); }
  if (event.key === "Escape") { box.value = ""; show(); document.body.classList.remove("open"); }
  if (event.key === "Enter" && document.activeElement === box) found.querySelector("a")?.click();
});
addEventListener("click", event => {
  if (!event.target.closest("#found, #search")) found.hidden = true;
  // On a narrow page a figure fits, and a tap shows it large enough to read its words.
  event.target.closest("section img, .wide > :is(img, svg)")?.classList.toggle("full");
});
