// What ipywidgets leaves out of the page of a panel: accessible names, tooltips of drop-downs and
// text fields, live regions, and a line of help that follows the focus and the pointer.
//
// tips: selector inside the panel → [name, tip]. The panel is .<css>; it is drawn again when a page
// is loaded anew, so the script looks for it until its own output is gone.
(css, tips) => {
  "use strict";
  const own = document.currentScript?.parentElement;
  const FOCUS = "input, select, textarea, button, .noUi-handle";

  function label(root) {
    for (const [selector, [name, tip]] of Object.entries(tips)) {
      for (const box of root.querySelectorAll(selector)) {
        if (tip && !box.title) box.title = tip;
        for (const part of box.matches(FOCUS) ? [box] : box.querySelectorAll(FOCUS)) {
          if (part.tagName !== "BUTTON") part.setAttribute("aria-label", name);
          if (tip) part.setAttribute("aria-description", tip);
          if (part.tagName === "BUTTON") continue;
          const read = box.parentElement?.querySelector(".ftkit-readout")?.textContent.trim();
          if (read && part.className.includes("noUi")) part.setAttribute("aria-valuetext", read);
        }
      }
    }
    for (const box of root.querySelectorAll(".ftkit-choose")) {
      const run = box.parentElement?.querySelector(".ftkit-run-name")?.textContent;
      box.querySelector("input")?.setAttribute("aria-label", `show in the chart: ${run}`);
    }
    for (const line of root.querySelectorAll(".ftkit-error")) line.setAttribute("role", "alert");
    root.querySelector(".ftkit-progress [role=progressbar]")?.setAttribute("aria-label",
      "steps of the run");
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "what-if panel");
  }

  // A screen reader hears what has changed, but not each step: the chart tells the evaluations.
  function tell(root) {
    const answers = ".ftkit-answers caption, .ftkit-answers:not(:has(table))";
    for (const selector of [".ftkit-status", ".ftkit-owner", ".ftkit-result", answers]) {
      const text = root.querySelector(selector)?.innerText.trim() ?? "";
      const line = root.querySelector(`[data-tells="${selector}"]`) ?? live(root, selector);
      if (line.textContent !== text && !/^step \d/.test(text)) line.textContent = text;
    }
  }

  function live(root, selector) {
    const line = root.appendChild(document.createElement("div"));
    line.className = "ftkit-told";
    line.dataset.tells = selector;
    line.setAttribute("role", "status");
    return line;
  }

  // The control with the focus was drawn anew or switched off: its successor gets the focus, or an
  // enabled button beside it.
  function keepFocus(root, last) {
    if (!last || document.activeElement !== document.body) return;
    const name = (part) => part.getAttribute("aria-label") || part.title || part.className;
    const next = last.isConnected
      ? last.disabled && last.parentElement.querySelector("button:enabled")
      : [...root.querySelectorAll(FOCUS)].find((part) => name(part) === name(last));
    if (next) next.focus({preventScroll: true});
  }

  function copyButtons(root) { // above each code that the panel shows
    for (const code of root.querySelectorAll(".ftkit-text pre, .ftkit-reproduced pre")) {
      if (code.previousElementSibling) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "jupyter-button ftkit-copy-code";
      button.textContent = "Copy";
      button.addEventListener("click", () => {
        getSelection().selectAllChildren(code);
        button.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
      });
      code.before(button);
    }
  }

  function help(root, target) {
    const line = root.querySelector(".ftkit-help");
    if (!line || !target?.closest) return;
    const row = target.closest(".ftkit-row");
    const known = Object.entries(tips).filter(([, [, tip]]) => tip);
    const found = known.find(([selector]) => target.closest(selector))
      ?? known.find(([selector]) => row?.querySelector(selector));
    if (found) line.textContent = found[1].join(": ");
  }

  function attach(root) {
    root.dataset.labeled = "yes";
    let due = null, last = null; // last: the control that has or had the focus
    const update = () => {
      due = null;
      label(root);
      tell(root);
      copyButtons(root);
      keepFocus(root, last);
    };
    new MutationObserver(() => { due ??= setTimeout(update, 150); }).observe(
      root, {childList: true, subtree: true, attributes: true, attributeFilter: ["disabled"]});
    for (const event of ["focusin", "pointerover"]) {
      root.addEventListener(event, ({target}) => help(root, target));
    }
    root.addEventListener("focusin", ({target}) => { last = target; });
    root.addEventListener("focusout", ({relatedTarget}) => { if (relatedTarget) last = null; });
    update();
  }

  // Of a drop-down JupyterLab takes the arrow keys for itself; Notebook 7 even of a slider.
  if (!window.ftkitArrows) {
    window.ftkitArrows = true;
    const taken = ".ftkit-what-if select" + (document.body.dataset.notebook ? ", .noUi-handle" : "");
    document.addEventListener("focusin", ({target}) => {
      if (target.matches(taken)) target.dataset.lmSuppressShortcuts = "true";
    });
  }

  const timer = setInterval(() => {
    if (own && !own.isConnected && own.dataset.seen) return clearInterval(timer);
    if (own?.isConnected) own.dataset.seen = "yes";
    document.querySelectorAll(`.${css}:not([data-labeled])`).forEach(attach);
  }, 250);
}
