// Small SVG charts: curves over steps and the frontier. Each has a sentence for screen readers.

const NS = "http://www.w3.org/2000/svg";
type Attributes = Record<string, string | number | undefined>;

export function svg(tag: string, attributes: Attributes = {}, children: (Node | string)[] = []): SVGElement {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

export interface Series {
  points: [number, number][];
  className: string;
  /** Written at its end. */
  label?: string;
  dots?: boolean;
}

/** A number with three digits that matter. */
export function digits(x: number): string {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "nan" : "∞";
  if (x === 0) return "0";
  const a = Math.abs(x);
  return a >= 100 ? x.toFixed(0) : a >= 10 ? x.toFixed(1) : a >= 0.1 ? x.toFixed(2) : a >= 0.001 ? x.toFixed(3) : x.toExponential(1);
}

/** Round marks between two numbers. */
function ticks(low: number, high: number, count: number): number[] {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw)!;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.max(0, Math.floor(high / step + 1e-9) - first + 1) }, (_, i) => (first + i) * step);
}

/** guessing: the loss of guessing evenly, drawn where the curves come near it. log: a logarithmic
 * axis. changes: steps from which another learning rate holds. */
export interface Curves { series: Series[]; steps: number; floor: number; guessing: number; log: boolean; changes: [number, string][]; description: string; title: string }
/** Losses above are marked at the upper edge. */
const HIGHEST = 12;
/** Losses below are marked at the lower edge of a logarithmic axis. */
const LOWEST = 0.001;
const MARGIN = { left: 44, right: 100, top: 8, bottom: 22 };

/** Draw curves into a host; returns the scale for the pointer. */
export function drawCurves(host: HTMLElement, { series, steps, floor, guessing, log, changes, description, title }: Curves) {
  const width = Math.max(260, host.clientWidth), height = Math.max(110, host.clientHeight);
  // The axes fit the run that is shown; a curve is cut where it leaves them, not drawn along the edge.
  const old = series.filter((s) => s.className === "old"), fitted = old.length < series.length ? series.filter((s) => !old.includes(s)) : series;
  const values = fitted.flatMap((s) => s.points.map((p) => p[1])).filter(Number.isFinite);
  const top = Math.max(floor, ...values.map((v) => Math.min(v, HIGHEST))) * 1.04;
  const x = (step: number) => MARGIN.left + (width - MARGIN.left - MARGIN.right) * step / Math.max(1, steps);
  const bottom = log ? Math.max(LOWEST, Math.min(0.1, ...values.map((v) => v * 0.8))) : 0;
  const part = (v: number) => log ? Math.log(Math.max(v, 1e-12) / bottom) / Math.log(top / bottom) : v / top;
  const y = (v: number) => MARGIN.top + (height - MARGIN.top - MARGIN.bottom) * (1 - part(v));
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${title}. ${description}` });
  const marks = log ? decades(bottom, top, top / bottom > 50 ? [1] : [1, 2, 5]) : ticks(0, top, height < 150 ? 3 : 4);
  for (const v of marks) {
    root.append(svg("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(v), y2: y(v), class: v ? "grid" : "axis" }),
      svg("text", { x: MARGIN.left - 6, y: y(v) + 4, class: "tick", "text-anchor": "end" }, [String(+v.toFixed(6))]));
  }
  for (const step of ticks(0, steps, Math.min(6, width / 80))) if (Number.isInteger(step)) {
    root.append(svg("text", { x: x(step), y: height - 6, class: "tick", "text-anchor": "middle" }, [step ? String(step) : "step 0"]));
  }
  const late: SVGElement[] = []; // over the curves
  if (top > 0.6 * guessing) {
    const above = Math.min(y(guessing), height);
    if (guessing < top) root.append(svg("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: above, y2: above, class: "guessing" }));
    if (guessing < top) late.push(svg("text", { x: width - MARGIN.right - 4, y: above + 15, class: "tick on-line", "text-anchor": "end" }, [`guessing evenly: ${guessing.toFixed(2)}`]));
  }
  for (const [step, words] of changes) root.append(svg("line", { x1: x(step - 0.5), x2: x(step - 0.5), y1: MARGIN.top, y2: height - MARGIN.bottom, class: "change" }),
    svg("text", { x: x(step - 0.5) + 4, y: height - MARGIN.bottom - 5, class: "tick" }, [words]));
  const plot = [MARGIN.left - 3, MARGIN.top - 2, width - MARGIN.left - MARGIN.right + 6, height - MARGIN.top - MARGIN.bottom + 4];
  const inner = svg("svg", { x: plot[0], y: plot[1], width: plot[2], height: plot[3], viewBox: plot.join(" "), class: "plot" });
  root.append(inner);
  const labels: { y: number; name: string; value: string; className: string }[] = [];
  for (const { points, className, label, dots } of series) {
    const kept = points.filter(([, v]) => Number.isFinite(v));
    if (!kept.length) continue;
    if (kept.length > 1) inner.append(svg("polyline", { points: kept.map(([s, v]) => `${x(s).toFixed(1)},${y(v).toFixed(1)}`).join(" "), class: `line ${className}` }));
    if (dots) for (const [s, v] of kept) if (v <= top && v >= bottom) root.append(svg("circle", { cx: x(s), cy: y(v), r: 2.6, class: `dot ${className}` }));
    // An earlier run has one mark, where it ends.
    for (const [s, v] of className === "old" ? kept.filter(([s]) => s <= steps).slice(-1) : kept) if (v > top || v < bottom) root.append(
      svg("path", { d: v > top ? `M${x(s)} 1l5 7h-10z` : `M${x(s)} ${height - MARGIN.bottom + 2}l5 -7h-10z`, class: `dot off-scale ${className}` }, [svg("title", {}, [`step ${s}: ${digits(v)}, ${v > top ? "above" : "below"} the scale`])]));
    const [, v] = kept[kept.length - 1];
    if (label) labels.push({ y: Math.min(height - MARGIN.bottom, Math.max(MARGIN.top, y(v))), name: label, value: `${digits(v)}${v > top ? " ▲" : v < bottom ? " ▼" : ""}`, className });
  }
  // Labels share the right margin, at the height of the ends of their lines, without overlapping.
  labels.sort((a, b) => a.y - b.y);
  labels.forEach((l, i) => { if (i) l.y = Math.max(l.y, labels[i - 1].y + 30); });
  const over = labels.length ? Math.max(0, labels[labels.length - 1].y + 14 - (height - MARGIN.bottom)) : 0;
  for (const l of labels) {
    const x = width - MARGIN.right + 7, y = Math.max(14, l.y - over);
    root.append(svg("text", { class: `end ${l.className}` }, [svg("tspan", { x, y: y - 3 }, [l.name]), svg("tspan", { x, y: y + 13 }, [l.value])]));
  }
  root.append(...late);
  host.replaceChildren(root);
  return { step: (pixel: number) => Math.round((pixel - MARGIN.left) / (width - MARGIN.left - MARGIN.right) * steps), x, root, height };
}

export interface Point { x: number; y: number; name: string; current: boolean; shape: string; id: number }
/** Where a number may stand beside its mark: shift and anchor. */
const BESIDE: [number, number, string][] = [[8, -5, "start"], [8, 13, "start"], [-8, -5, "end"], [-8, 13, "end"], [0, -10, "middle"], [0, 19, "middle"]];

/** Learning against forgetting: one point a run; lower left is best. */
export function drawFrontier(host: HTMLElement, points: Point[], start: { x: number; y: number } | undefined, choose: (point: Point) => void) {
  const width = Math.max(240, host.clientWidth), height = Math.max(150, host.clientHeight);
  const m = { left: 40, right: 22, top: 26, bottom: 32 }, all = start ? [...points, start] : points;
  // Both axes are logarithmic: good runs, which end near zero, would lie on one another.
  const ends = (k: "x" | "y", low: number, high: number) => [Math.max(1e-4, Math.min(low, ...all.map((p) => p[k] * 0.8))), Math.max(high, ...all.map((p) => Math.min(p[k], 100) * 1.2))];
  const [X0, X] = ends("x", 0.01, 4), [Y0, Y] = ends("y", 0.5, 3);
  const part = (v: number, low: number, high: number) => Math.log(Math.min(high, Math.max(low, v)) / low) / Math.log(high / low);
  const x = (v: number) => m.left + (width - m.left - m.right) * part(v, X0, X);
  const y = (v: number) => m.top + (height - m.top - m.bottom) * (1 - part(v, Y0, Y));
  const description = points.length
    ? points.map((p) => `${p.name}: val_loss ${digits(p.x)}, general_loss ${digits(p.y)}`).join("; ")
    : "No run has finished yet";
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Learning against forgetting. ${description}` });
  for (const v of decades(Y0, Y, [1, 2, 5])) root.append(svg("line", { x1: m.left, x2: width - m.right, y1: y(v), y2: y(v), class: "grid" }), svg("text", { x: m.left - 6, y: y(v) + 4, class: "tick", "text-anchor": "end" }, [String(v)]));
  for (const v of decades(X0, X, [1])) root.append(svg("text", { x: x(v), y: height - 16, class: "tick", "text-anchor": "middle" }, [String(v)]));
  root.append(svg("text", { x: width - m.right, y: height - 3, class: "tick", "text-anchor": "end" }, ["val_loss (log scale): left has learned more"]),
    svg("text", { x: 4, y: 12, class: "tick" }, ["general_loss (log scale): lower has forgotten less"]));
  for (const p of points) {
    const path = svg("path", { d: mark(p.shape, x(p.x), y(p.y)), class: p.current ? "point current" : "point" }, [svg("title", {}, [`${p.name}: val_loss ${digits(p.x)}, general_loss ${digits(p.y)}`])]);
    path.onclick = () => choose(p);
    root.append(path);
  }
  if (start) root.append(svg("path", { d: cross(x(start.x), y(start.y)), class: "start" }), svg("text", { x: x(start.x) - 8, y: y(start.y) - 8, class: "tick", "text-anchor": "end" }, ["before training"]));
  // Each mark has the number of its run where it is free of other marks and numbers, else none.
  const taken = points.map((p): [number, number, number] => [x(p.x), y(p.y), p.id]);
  for (const p of points) {
    const free = BESIDE.map(([dx, dy, anchor]) => ({ x: x(p.x) + dx, y: y(p.y) + dy, anchor, middle: x(p.x) + 1.75 * dx }))
      .find((at) => at.middle > m.left + 6 && at.middle < width - 6 && taken.every(([tx, ty, id]) => id === p.id || Math.abs(tx - at.middle) > 13 || Math.abs(ty - at.y + 4) > 12));
    if (!free) continue;
    taken.push([free.middle, free.y - 4, -1]);
    root.append(svg("text", { x: free.x, y: free.y, class: "tick", "text-anchor": free.anchor }, [String(p.id)]));
  }
  host.replaceChildren(root);
}
/** Round marks of a logarithmic axis. */
function decades(low: number, high: number, marks: number[]): number[] {
  return [-4, -3, -2, -1, 0, 1, 2].flatMap((k) => marks.map((n) => +(n * 10 ** k).toPrecision(1))).filter((v) => v >= low && v <= high);
}

const cross = (x: number, y: number) => `M${x - 4} ${y - 4}l8 8m0 -8l-8 8`;
function mark(shape: string, x: number, y: number): string {
  if (shape === "lora") return `M${x} ${y - 6}l6 11h-12z`;
  if (shape === "ia3") return `M${x - 5} ${y - 5}h10v10h-10z`;
  if (shape === "head") return `M${x} ${y - 6}l6 6l-6 6l-6 -6z`;
  return `M${x - 5} ${y}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0`;
}
