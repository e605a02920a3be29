// The picture: axes, curves, bands, the cursor and the values there.

class Drawing {
  whole() {
    const xs = this.spec.lines.flatMap((line) => line.points.map((p) => p[0]));
    const low = xs.reduce((a, b) => Math.min(a, b), Infinity);
    const high = Math.max(xs.reduce((a, b) => Math.max(a, b), -Infinity), this.spec.total ?? 0);
    return Number.isFinite(low) && high > low ? [low, high] : [0, Math.max(1, high)];
  }

  domain() { return this.zoom ?? this.whole(); }

  seen() { return this.spec.lines.filter((line) => !this.hidden.has(line.name)); }

  places() { // every x with a value, in order
    const [low, high] = this.domain();
    return [...new Set(this.seen().flatMap((l) => l.points.map((p) => p[0])))]
      .filter((x) => x >= low && x <= high).sort((a, b) => a - b);
  }

  values(index, log) { // all finite heights of a panel in the part of x that is seen
    const [low, high] = this.domain();
    return this.seen().filter((l) => l.panel === index).flatMap((l) => l.points
      .filter(([x, y]) => finite(y) && x >= low && x <= high)
      .flatMap(([, y, sd]) => sd ? [y, this.below(y, sd, log), y + sd] : [y]));
  }

  below(y, sd, log) { // the lower edge of a band; a logarithmic axis has no 0
    return log ? Math.max(y - sd, y / 4) : y - sd;
  }

  isWide(index) {
    const values = this.values(index, true), low = Math.min(...values);
    return values.length > 0 && low > 0 && Math.max(...values) >= WIDE * low;
  }

  colorOf(line) {
    if (line.color === "calm") return this.dark ? "#A8A8A8" : "#707070";
    return (this.dark ? DARK : LIGHT)[line.color % 7];
  }

  markOf(line) {
    const none = line.color === "calm" || this.spec.panels[line.panel].small;
    return none ? "" : MARKS[line.mark];
  }

  nameOf(line) { // with its panel, where several have a line of this name
    const again = this.spec.lines.some((l) => l !== line && l.name === line.name);
    return again ? `${line.name} · ${this.spec.panels[line.panel].label}` : line.name;
  }

  later() {
    cancelAnimationFrame(this.waiting);
    this.waiting = requestAnimationFrame(() => this.draw());
  }

  draw() {
    const width = this.plot.clientWidth;
    if (!this.spec || !width) return;
    const ink = getComputedStyle(this.host).color.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0];
    this.dark = ink[0] + ink[1] + ink[2] > 384;
    this.host.classList.toggle("fc-dark", this.dark);
    this.reset.disabled = !this.zoom;
    const panels = this.spec.panels, big = panels.filter((p) => !p.small).length;
    const each = big > 2 ? 120 : big > 1 ? 150 : 222;
    const heights = panels.map((p) => p.small ? 66 : each);
    const height = heights.reduce((a, b) => a + b, 0);
    this.left = 52;
    this.inner = width - this.left - 10;
    this.svg.replaceChildren();
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", height + 22);
    const wide = panels.some((panel, i) => panel.log && this.isWide(i));
    const log = this.scale === "log" || (this.scale === "auto" && wide);
    this.svg.dataset.scale = log ? "log" : "linear";
    let top = 0;
    this.frames = panels.map((panel, index) => {
      const frame = {top: top + 18, height: heights[index] - 28, index, panel}; // below its name
      top += heights[index];
      this.drawPanel(frame, log && panel.log, index === panels.length - 1);
      return frame;
    });
    for (const {x, text} of this.spec.marks ?? []) this.drawMark(x, text, height);
    this.select = make("rect", {class: "fc-select", y: 0, height, width: 0}, this.svg);
    this.rule = make("line", {class: "fc-rule", y1: 0, y2: height, visibility: "hidden"}, this.svg);
    this.dots = make("g", {}, this.svg);
    this.drawLegend();
    this.point(this.cursor);
  }

  drawMark(at, text, height) { // a change in flight: a line through all panels
    const [low, high] = this.domain(), {x, top} = this.frames[this.frames.length - 1];
    if (at < low || at > high) return;
    const right = x(at) > this.left + this.inner / 2;
    make("line", {class: "fc-change", x1: x(at), x2: x(at), y1: 14, y2: height - 10}, this.svg);
    make("text", {class: "fc-change-name", x: x(at) + (right ? -5 : 5), y: top + 12,
      "text-anchor": right ? "end" : "start"}, this.svg, text);
  }

  drawLegend() {
    for (const button of this.legend.children) {
      const line = this.spec.lines.find((l) => l.name === button.dataset.name);
      if (!line) continue;
      button.setAttribute("aria-pressed", String(!this.hidden.has(line.name)));
      const key = button.firstChild, color = this.colorOf(line);
      key.firstChild.style.background = stripes(DASHES[line.dash % 5], color);
      key.lastChild.textContent = this.markOf(line);
      key.lastChild.style.color = color;
    }
  }

  drawPanel(frame, log, last) {
    const svg = this.svg, values = this.values(frame.index, log);
    const positive = values.filter((v) => v > 0);
    log = log && positive.length > 0;
    let low = Math.min(...(log ? positive : values)), high = Math.max(...values);
    if (!values.length) [low, high] = [0, 1];
    if (log) {
      [low, high] = [low / 1.15, high * 1.15];
    } else {
      const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
      const fromZero = frame.panel.small || (low >= 0 && low < 0.4 * high);
      [low, high] = [fromZero ? Math.min(0, low) : low - room, high + room];
    }
    const scale = (v) => log ? Math.log(v) : v;
    const [x0, x1] = this.domain(), bottom = frame.top + frame.height;
    const y = (v) => bottom - frame.height * (scale(v) - scale(low)) / (scale(high) - scale(low));
    const x = (v) => this.left + this.inner * (v - x0) / (x1 - x0);
    Object.assign(frame, {x, y, log});
    const up = frame.panel.small ? [0, Math.max(0, ...values)] : ticks(low, high, log, 4);
    for (const v of up) {
      make("line", {class: "fc-grid", x1: this.left, x2: this.left + this.inner, y1: y(v),
        y2: y(v)}, svg);
      make("text", {x: this.left - 5, y: y(v) + 4, "text-anchor": "end"}, svg, number(v));
    }
    const whole = ["step", "tokens"].includes(this.spec.x); // there are no half steps
    const along = ticks(x0, x1, false, Math.max(4, this.inner / 90))
      .filter((v) => !whole || Number.isInteger(v));
    for (const v of along) {
      make("line", {class: "fc-grid", x1: x(v), x2: x(v), y1: frame.top, y2: bottom}, svg);
      if (last) { // the last number ends inside the picture
        const text = number(v), edge = this.left + this.inner + 10 - 3.4 * text.length;
        make("text", {x: Math.min(x(v), edge), y: bottom + 15, "text-anchor": "middle"}, svg, text);
      }
    }
    if (last) {
      make("text", {x: this.left - 10, y: bottom + 15, "text-anchor": "end", class: "fc-name"}, svg,
        this.spec.x);
    }
    const part = make("g", {}, svg);
    if (this.zoom) {
      const clip = make("clipPath", {id: `fc-${uid}-${frame.index}`}, svg);
      make("rect", {x: this.left - 3, y: frame.top - 4, width: this.inner + 6,
        height: frame.height + 8}, clip);
      part.setAttribute("clip-path", `url(#fc-${uid}-${frame.index})`);
    }
    for (const line of this.seen()) {
      if (line.panel === frame.index) this.drawLine(part, line, frame);
    }
    make("text", {x: this.left + this.inner, y: frame.top - 6, class: "fc-name",
      "text-anchor": "end"}, svg, frame.panel.label);
  }

  drawLine(part, line, {x, y, log}) {
    const good = ([, v]) => finite(v) && (!log || v > 0);
    const points = this.smooth ? smoothed(line.points, this.smooth) : line.points;
    const color = this.colorOf(line);
    const path = (list) => {
      let text = "", pen = "M";
      for (const p of list) {
        text += good(p) ? `${pen}${round(x(p[0]))} ${round(y(p[1]))}` : "";
        pen = good(p) ? "L" : "M";
      }
      return text;
    };
    const shown = points.filter(good);
    if (shown.some((p) => p[2])) {
      const edge = (p, v) => `${round(x(p[0]))} ${round(y(v))}`;
      const outline = [...shown.map((p) => edge(p, p[1] + (p[2] ?? 0))),
        ...shown.map((p) => edge(p, this.below(p[1], p[2] ?? 0, log))).reverse()];
      make("polygon", {class: "fc-band", fill: color, points: outline.join(" ")}, part);
    }
    const look = {fill: "none", stroke: color, "stroke-dasharray": DASHES[line.dash % 5]};
    if (points !== line.points) {
      make("path", {...look, d: path(line.points), opacity: 0.25, "stroke-width": 1}, part);
    }
    make("path", {...look, d: path(points), "data-line": line.id,
      "stroke-width": line.color === "calm" ? 1.1 : 1.9}, part);
    if (this.markOf(line)) { // of many points about eight, at other ones per line
      const every = shown.length <= 40 ? 1 : Math.floor(shown.length / 8);
      const first = Math.floor(line.color * every / 4) % every;
      for (let i = first; i < shown.length; i += every) {
        const at = `translate(${round(x(shown[i][0]))} ${round(y(shown[i][1]))}) scale(1.2)`;
        make("path", {d: SHAPES[line.mark], fill: color, transform: at, class: "fc-mark"},
          part);
      }
    }
    const end = shown[shown.length - 1];
    if (end && line.points.some(([, v]) => !finite(v))) {
      make("text", {x: x(end[0]), y: y(end[1]) + 5, "text-anchor": "middle", class: "fc-cross",
        style: `fill:${color}`}, part, "✕");
    } else if (line.best && shown.length > 2) {
      const best = shown.reduce((a, b) => b[1] < a[1] ? b : a);
      make("circle", {cx: x(best[0]), cy: y(best[1]), r: 5.5, fill: "none", stroke: color}, part);
    }
  }

  point(at) { // the cursor, and the values there
    const xs = this.frames && at !== null && at !== undefined ? this.places() : [];
    this.cursor = xs.length ? xs.reduce((a, b) => Math.abs(b - at) < Math.abs(a - at) ? b : a)
      : null;
    if (!this.dots) return;
    this.dots.replaceChildren();
    this.rule.setAttribute("visibility", this.cursor === null ? "hidden" : "visible");
    this.tip.hidden = this.cursor === null;
    if (this.cursor === null) return;
    const px = this.frames[0].x(this.cursor);
    this.rule.setAttribute("x1", px);
    this.rule.setAttribute("x2", px);
    this.tip.replaceChildren();
    make("b", {}, this.tip, `${this.spec.x} ${number(this.cursor)}`);
    for (const {line, value, sd, exact} of this.readings()) {
      const row = make("div", {class: "fc-row", "data-name": this.nameOf(line)}, this.tip);
      make("i", {style: `color:${this.colorOf(line)}`}, row, this.markOf(line) || "–");
      const older = exact < this.cursor ? ` (at ${number(exact)})` : "";
      make("span", {}, row, this.nameOf(line) + older);
      make("b", {}, row, number(value) + (sd ? ` ± ${number(sd)}` : ""));
      const {x, y, log} = this.frames[line.panel];
      if (finite(value) && (!log || value > 0)) {
        make("circle", {cx: x(exact), cy: y(value), r: 4, fill: this.colorOf(line),
          class: "fc-dot"}, this.dots);
      }
    }
    const room = this.left + this.inner - px > 190;
    this.tip.style.left = room ? `${px + 12}px` : "auto";
    this.tip.style.right = room ? "auto" : `${this.plot.clientWidth - px + 12}px`;
  }

  readings() { // of each line the value at the cursor, or the last one before it
    return this.seen().flatMap((line) => {
      const p = line.points.filter(([x]) => x <= this.cursor).pop();
      return p ? [{line, value: p[1], sd: p[2], exact: p[0]}] : [];
    });
  }
}
