// An interactive chart of curves, as SVG: hover, zoom, pan, legend, smoothing, log or linear axis.
//
// The files of this folder are joined by chart.py into one function (uid, first) of a page. It turns
// the element #ftkit-chart-<uid> into a chart of the spec `first`: {x, run, total, text, panels:
// [{label, log, small}], quiet, marks: [{x, text}], lines}; a line has {id, name, panel, color, mark,
// dash, best, points: [[x, y, sd]]}, with null for a value that is not finite. Without a spec the chart follows two
// hidden elements that the kernel writes: .ftkit-wire-<uid>-base holds a spec, .ftkit-wire-<uid>-more
// the points that came after it. Nothing is fetched.

const DASHES = ["", "7 4", "9 3 2 3", "2 3", "9 3 2 3 2 3"];
// Lines differ in their marks, too, for readers who cannot tell the colors apart. STYLE, MARKS (signs
// in the legend, in the order of SHAPES), WIDE (ratio from which an axis is logarithmic), LIGHT and
// DARK (colors) are constants that chart.py writes.
const SHAPES = ["M-2.6 0a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0 -5.2 0", "M-2.5 -2.5h5v5h-5z",
  "M0 -3.4L3.3 2.6H-3.3z", "M0 -3.7L3.4 0L0 3.7L-3.4 0z", "M0 3.4L3.3 -2.6H-3.3z",
  "M-1.1 -3.3h2.2v2.2h2.2v2.2h-2.2v2.2h-2.2v-2.2h-2.2v-2.2h2.2z"];
const SVG = new Set(["svg", "g", "path", "line", "text", "rect", "circle", "polygon", "clipPath"]);
const NS = "http://www.w3.org/2000/svg";
const finite = (v) => v !== null && Number.isFinite(v);
const round = (v) => Math.round(v * 10) / 10;
const number = (v) => !finite(v) ? "diverged" : v === 0 ? "0"
  : Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3 ? v.toExponential(2) : String(+v.toPrecision(4));

function make(tag, attributes = {}, parent = null, text = null) {
  const element = SVG.has(tag) ? document.createElementNS(NS, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  if (parent) parent.appendChild(element);
  return element;
}

function stripes(dash, color) { // a dash as the background of a key in the legend
  if (!dash) return color;
  let at = 0;
  const stops = dash.split(" ").flatMap((long, i) => {
    const paint = i % 2 ? "transparent" : color, from = at;
    at += +long;
    return [`${paint} ${from}px`, `${paint} ${at}px`];
  });
  return `repeating-linear-gradient(90deg,${stops.join(",")})`;
}

function ticks(low, high, log, count) {
  if (log) {
    const found = [];
    const steps = Math.log10(high / low) < 2.2 ? [1, 2, 5] : [1];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
      for (const m of steps) {
        const v = +`${m}e${e}`;
        if (v >= low && v <= high) found.push(v);
      }
    }
    if (found.length > 1) return found;
  }
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= raw * 0.999);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) {
    found.push(+v.toPrecision(10));
  }
  return found;
}

function smoothed(points, weight) { // exponential mean, corrected for its start
  let mean = 0, total = 0;
  return points.map(([x, y, sd]) => {
    if (!finite(y)) return [x, y, sd];
    mean = weight * mean + (1 - weight) * y;
    total = weight * total + (1 - weight);
    return [x, mean / total, sd];
  });
}
