"""What JupyterLab's own style gets wrong in a lesson; `ft.setup()` displays it with its table."""

# A lesson's concept figures are 760 pixels wide, with letters of 14. On a narrow page JupyterLab
# shrinks them to letters of 5 pixels; at 570 they have 10, and the figure scrolls sideways.
# JupyterLab leaves no room below an answer to unfold, so it seems to belong to the next question;
# it sets code larger than in cells and 28 pixels in on both sides, so that lines of 94 letters
# are broken where a cell has room for 100, and breaks printed text in the middle of words.
STYLE = """<style>
.jp-RenderedMarkdown p:has(> img[src*="figures/"]) {overflow-x: auto}
.jp-RenderedMarkdown img[src*="figures/"] {min-width: 570px}
.jp-RenderedMarkdown details {margin-bottom: 1em}
.jp-ThemedContainer .jp-RenderedMarkdown > pre {
  margin: 1em 0; font-size: var(--jp-code-font-size)}
.jp-Notebook .jp-OutputArea-output pre {word-break: normal; overflow-wrap: anywhere}
</style>"""
