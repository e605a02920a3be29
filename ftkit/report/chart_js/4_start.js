function follow(chart) { // the hidden elements may be drawn later, and anew after a reload
  const last = {};
  const read = (part) => {
    const value = document.querySelector(`.ftkit-wire-${uid}-${part} [data-v]`)?.dataset.v;
    if (!value || value === last[part]) return false;
    last[part] = value;
    last[part + "Data"] = JSON.parse(value);
    return true;
  };
  const update = () => {
    const fresh = [read("base"), read("more")];
    const base = last.baseData, more = last.moreData;
    if (!base || !fresh.some(Boolean)) return;
    const added = more && more.seq === base.seq ? more : {points: {}};
    chart.set({...base.spec, ...added.about, lines: base.spec.lines.map((line) => ({
      ...line, points: line.points.concat(added.points[line.id] ?? [])}))});
  };
  const observer = new MutationObserver(update);
  let watched = [];
  const timer = setInterval(() => {
    if (!chart.host.isConnected && chart.wasThere) return clearInterval(timer);
    chart.wasThere ||= chart.host.isConnected;
    const wires = [...document.querySelectorAll(`[class*="ftkit-wire-${uid}-"]`)];
    if (wires.length !== watched.length || wires.some((w, i) => w !== watched[i])) {
      observer.disconnect();
      wires.forEach((w) => observer.observe(w, {childList: true, subtree: true}));
      watched = wires;
      update();
    }
  }, 300);
}

function showTop(host) { // JupyterLab moves to the next cell, and may scroll half past this one
  const panel = host.closest(".jp-WindowedPanel-outer");
  if (panel) requestAnimationFrame(() => {
    const {top, bottom} = host.getBoundingClientRect(), edge = panel.getBoundingClientRect().top;
    if (top < edge && bottom > edge) panel.scrollTop -= edge - top + 60; // with the cell's code
  });
}

for (const host of document.querySelectorAll(`#ftkit-chart-${uid}`)) {
  if (host.dataset.drawn) continue;
  host.dataset.drawn = "yes";
  const begins = first?.total && !window.ftkitCharts?.[uid];
  const chart = new Chart(host);
  if (first) chart.set(first);
  else follow(chart);
  if (begins) showTop(host);
}
