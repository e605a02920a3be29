// What the learner does with the chart: legend, tools, mouse, touch and keys.

class Chart extends Drawing {
  constructor(host) {
    super();
    this.host = host;
    this.hidden = new Set(); // names of lines
    this.scale = "auto";
    this.smooth = 0;
    this.zoom = null; // [low, high] of x
    this.cursor = null; // x
    this.resume();
    this.build();
    new ResizeObserver(() => this.later()).observe(this.plot);
    const theme = new MutationObserver(
      () => this.host.isConnected ? this.later() : theme.disconnect());
    theme.observe(document.body, {attributes: true});
  }

  resume() { // a live chart is drawn anew for each update of its cell: the choices are kept
    const charts = window.ftkitCharts ??= {}, old = charts[uid];
    charts[uid] = this;
    if (!old || old.host.isConnected) return;
    for (const name of ["hidden", "scale", "smooth", "zoom", "cursor", "said"]) {
      this[name] = old[name];
    }
    this.spec = old.spec;
    this.focus = old.focused;
  }

  build() {
    for (const old of this.host.querySelectorAll(".ftkit-static")) old.style.display = "none";
    make("style", {}, this.host, STYLE);
    const bar = make("div", {class: "fc-bar"}, this.host);
    this.legend = make("div", {class: "fc-legend", role: "group", "aria-label": "curves"}, bar);
    const tools = make("div", {class: "fc-tools"}, bar);
    const slider = make("input", {type: "range", min: 0, max: 0.95, step: 0.05, value: 0,
      class: "fc-smooth", "aria-label": "smoothing of the curves",
      title: "Smoothing: an exponential moving average; the measured values stay pale"},
    make("label", {}, tools, "smooth "));
    slider.addEventListener("input", () => { this.smooth = +slider.value; this.draw(); });
    const select = make("select", {class: "fc-scale", "aria-label": "scale of the losses",
      title: "Scale of the losses; auto is logarithmic where the largest is at least 20 times the "
        + "smallest"}, tools);
    for (const control of [slider, select]) control.dataset.lmSuppressShortcuts = "true"; // arrows
    for (const name of ["auto", "log", "linear"]) make("option", {value: name}, select, name);
    select.addEventListener("change", () => { this.scale = select.value; this.draw(); });
    this.reset = make("button", {type: "button", class: "fc-reset",
      title: "Show all steps again (key 0)"}, tools, "all steps");
    this.reset.addEventListener("click", () => {
      this.show(null);
      this.svg.focus({preventScroll: true}); // the button is switched off now
      this.speakRange();
    });
    this.plot = make("div", {class: "fc-plot"}, this.host);
    this.tip = make("div", {class: "fc-tip", hidden: ""}, this.plot);
    this.svg = make("svg", {tabindex: 0, role: "img"}, this.plot);
    this.spoken = make("div", {class: "fc-spoken", role: "status", "aria-live": "polite"},
      this.host);
    this.text = make("div", {class: "fc-text"}, this.host);
    slider.value = this.smooth;
    select.value = this.scale;
    this.listen();
    if (this.focus) this.svg.focus({preventScroll: true});
  }

  listen() {
    const svg = this.svg;
    svg.addEventListener("pointermove", (event) => {
      if (this.drag) this.dragged(event);
      this.point(this.toX(event));
    });
    svg.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse") {
        this.drag = {from: this.place(event), pan: event.shiftKey, domain: this.domain()};
        svg.setPointerCapture(event.pointerId);
      }
      this.point(this.toX(event));
    });
    svg.addEventListener("pointerup", (event) => {
      const drag = this.drag;
      this.drag = null;
      this.select.setAttribute("width", 0);
      if (drag && !drag.pan && Math.abs(this.place(event) - drag.from) > 8) {
        this.show([this.at(drag.from), this.toX(event)].sort((a, b) => a - b));
      }
    });
    svg.addEventListener("pointerleave", () => { if (!this.drag) this.point(null); });
    svg.addEventListener("dblclick", () => this.show(null));
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey) return; // else the page scrolls
      event.preventDefault();
      this.zoomBy((event.deltaY || event.deltaX) > 0 ? 1.25 : 0.8, this.toX(event));
    }, {passive: false});
    svg.addEventListener("focus", () => { this.focused = true; });
    svg.addEventListener("blur", () => setTimeout(() => { // it also comes when a cell is redrawn
      if (!this.host.isConnected) return;
      this.focused = false;
      this.point(null);
    }));
    svg.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const xs = this.spec ? this.places() : [];
    if (!xs.length) return;
    const [low, high] = this.domain(), center = this.cursor ?? (low + high) / 2;
    const at = xs.indexOf(this.cursor);
    const read = (index) => {
      this.point(xs[Math.max(0, Math.min(xs.length - 1, index))]);
      this.speak();
    };
    const keys = {
      ArrowRight: () => read(at + 1), ArrowLeft: () => read(at < 0 ? xs.length - 1 : at - 1),
      Home: () => read(0), End: () => read(xs.length - 1), Escape: () => this.point(null),
      "+": () => this.zoomBy(0.6, center), "=": () => this.zoomBy(0.6, center),
      "-": () => this.zoomBy(1 / 0.6, center), "0": () => this.show(null),
    };
    if (event.shiftKey && event.key.startsWith("Arrow")) {
      this.pan((high - low) / 5 * (event.key === "ArrowRight" ? 1 : -1), [low, high]);
      this.speakRange();
    } else if (keys[event.key]) {
      keys[event.key]();
      if ("+=-0".includes(event.key)) this.speakRange();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation(); // JupyterLab has commands on the same keys
  }

  place(event) { return event.clientX - this.svg.getBoundingClientRect().left; }

  at(px) {
    const [low, high] = this.domain();
    return low + Math.max(0, Math.min(1, (px - this.left) / this.inner)) * (high - low);
  }

  toX(event) { return this.spec ? this.at(this.place(event)) : null; }

  dragged(event) {
    const {from, pan, domain} = this.drag, to = this.place(event);
    if (pan) {
      this.pan((from - to) * (domain[1] - domain[0]) / this.inner, domain);
    } else {
      this.select.setAttribute("x", Math.min(from, to));
      this.select.setAttribute("width", Math.abs(to - from));
    }
  }

  pan(by, [low, high]) {
    if (!this.zoom) return;
    const [first, last] = this.whole();
    const moved = Math.max(first - low, Math.min(last - high, by));
    this.show([low + moved, high + moved]);
  }

  zoomBy(factor, center) {
    const [low, high] = this.domain(), [first, last] = this.whole();
    const range = [center - (center - low) * factor, center + (high - center) * factor];
    if (range[1] - range[0] >= last - first) this.show(null);
    else this.show([Math.max(first, range[0]), Math.min(last, range[1])]);
  }

  show(range) {
    this.zoom = range && range[1] - range[0] > 1e-9 ? range : null;
    this.draw();
  }

  set(spec) {
    if (this.spec && spec.run !== this.spec.run) this.zoom = null;
    this.spec = spec;
    const text = spec.text ?? "";
    const seen = spec.quiet ? "" : text;
    if (this.text.textContent !== seen) this.text.textContent = seen;
    this.svg.setAttribute("aria-label",
      `${text} Arrow keys read the values, plus and minus zoom.`.trim());
    if (spec.say && spec.say !== this.said) this.spoken.textContent = this.said = spec.say;
    this.list();
    this.draw();
  }

  list() { // the legend, built anew only where the names have changed
    const names = [...new Set(this.spec.lines.map((line) => line.name))];
    if (names.join("\n") === this.names) return;
    this.names = names.join("\n");
    this.legend.replaceChildren();
    for (const name of names) {
      const button = make("button", {type: "button", "aria-pressed": "true", "data-name": name,
        title: `Show or hide ${name}`}, this.legend);
      const key = make("span", {class: "fc-key", "aria-hidden": "true"}, button);
      make("i", {}, key);
      make("b", {}, key);
      make("span", {}, button, name);
      button.addEventListener("click", () => {
        if (!this.hidden.delete(name)) this.hidden.add(name);
        this.draw();
      });
    }
  }

  speakRange() {
    const [low, high] = this.domain().map(number);
    this.spoken.textContent = `${this.zoom ? "" : "all: "}${this.spec.x} ${low} to ${high}`;
  }

  speak() {
    this.spoken.textContent = `${this.spec.x} ${number(this.cursor)}: ` + this.readings()
      .map(({line, value}) => `${this.nameOf(line)} ${number(value)}`).join(", ");
  }
}
