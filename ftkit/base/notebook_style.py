"""CSS that adapts JupyterLab to the lessons; `ft.setup()` displays it together with its table."""

# Figures: on a narrow page JupyterLab would shrink a 760 px figure until its 14 px text is 5 px
# high. With a minimum width of 570 px the text stays at 10 px and the figure scrolls sideways.
# Details: JupyterLab leaves no space below a folded answer, so it seems part of the next paragraph.
# Code: JupyterLab indents it by 28 px in a larger font, so lines break at 94 characters, not 100.
# Output: JupyterLab breaks printed lines inside words.
STYLE = """<style>
.jp-RenderedMarkdown p:has(> img[src*="figures/"]) {overflow-x: auto}
.jp-RenderedMarkdown img[src*="figures/"] {min-width: 570px}
.jp-RenderedMarkdown details {margin-bottom: 1em}
.jp-ThemedContainer .jp-RenderedMarkdown > pre {
  margin: 1em 0; font-size: var(--jp-code-font-size)}
.jp-Notebook .jp-OutputArea-output pre {word-break: normal; overflow-wrap: anywhere}
</style>"""
