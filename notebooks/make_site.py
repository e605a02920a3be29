"""The course as a web site: every lesson executed, one HTML page each, no server and no network.

    python notebooks/make_site.py                 site/index.html; executes what has changed
    python notebooks/make_site.py --no-execute    the pages without outputs, in seconds

An executed lesson is kept in .cache/site until its notebook, the package or the sample data change.
The pages are made by mistune and Pygments, which Jupyter brings along, and the template below:
jupyter-book and mystmd need node and load scripts from the network.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import mistune
import nbformat
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from ftkit.interview import paths as course

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CACHE = ROOT / ".cache" / "site"
SECONDS = 300  # that one cell may take
WIDGET = "application/vnd.jupyter.widget-view+json"
INTERACTIVE = '<p class="note">Interactive: open the notebook to use it.</p>'
COLOR_CODES = re.compile(r"\x1b\[[0-9;]*m")
PACKAGES = re.compile(r"\S*[/\\](?=site-packages[/\\])")  # a folder of the machine that built it
NUMBER = re.compile(r"<td(?=[^>]*>[-+−]?\d[^<]{0,20}</td>)")


class Page(NamedTuple):
    """`sections` are (anchor, heading, text without markup), for the sidebar and the search."""

    name: str  # file name
    title: str
    body: str
    sections: list[tuple[str, str, str]]


# ------------------------------------------------------------------------- executed lessons


def notebooks() -> list[Path]:
    return sorted(HERE.glob("*.ipynb"))


def package_hash() -> str:
    """Of everything that the outputs of a lesson can depend on, besides the lesson."""
    digest = hashlib.sha256()
    for folder in (ROOT / "ftkit", ROOT / "data_samples"):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def executed(path: Path, package: str, smoke: bool) -> nbformat.NotebookNode:
    """The lesson with its outputs; from the cache, or run now in an empty folder and home."""
    key = hashlib.sha256(f"{package}{smoke}".encode() + path.read_bytes()).hexdigest()[:16]
    kept = CACHE / f"{path.stem}-{key}.ipynb"
    if kept.exists():
        return nbformat.read(kept, 4)
    print(f"executing {path.stem} ...", flush=True)
    from nbclient import NotebookClient

    notebook = nbformat.read(path, 4)
    with tempfile.TemporaryDirectory(prefix="ftkit-site-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        models = ROOT / ".cache" / "home" / "models"
        if models.exists() and not smoke:
            (home / "models").symlink_to(models)
        shutil.copytree(HERE / "figures", Path(folder) / "figures")
        os.environ.update(FTKIT_HOME=str(home), FTKIT_TIER="smoke" if smoke else "cpu",
                          FTKIT_STRICT="0", JUPYTER_PREFER_ENV_PATH="1")
        # On a busy machine the last outputs of a cell come later than the 4 s of the default.
        NotebookClient(notebook, timeout=SECONDS, iopub_timeout=60, kernel_name="python3",
                       resources={"metadata": {"path": folder}}).execute()
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob(f"{path.stem}-*.ipynb"):
        old.unlink()
    nbformat.write(notebook, kept)
    return notebook


# ----------------------------------------------------------------------------------- cells


def anchor(text: str, used: set[str]) -> str:
    """As Jupyter names a heading: words joined by hyphens; a number makes it unique."""
    name = base = re.sub(r"[^\w.,:?'()·-]", "", re.sub(r"\s+", "-", plain(text)))
    number = 2
    while name in used:
        name, number = f"{base}-{number}", number + 1
    used.add(name)
    return name


def plain(markup: str) -> str:
    """The text of HTML, in one line."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", markup, flags=re.S)
    text = re.sub(r"</?(?:span|code|em|strong|a|b|i)\b[^>]*>", "", text)
    text = re.sub(r"<[^>]+>", " ", text)
    return " ".join(html.unescape(text).split())


def colored(code: str, language: str = "python") -> str:
    try:
        lexer = get_lexer_by_name(language or "text")
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    return highlight(code, lexer, HtmlFormatter(cssclass="code"))


def formula(tex: str, display: str) -> str:
    """MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    return convert(tex.strip(), display=display)


class Renderer(mistune.HTMLRenderer):
    """Markdown as HTML, with links between pages, colored code and MathML."""

    def __init__(self):
        super().__init__(escape=False)
        self.used: set[str] = set()

    def heading(self, text, level, **attrs):
        name = anchor(text, self.used)
        link = f' <a class="anchor" href="#{html.escape(name)}" aria-label="link here">#</a>'
        return f'<h{level} id="{html.escape(name)}">{text}{link}</h{level}>\n'

    def link(self, text, url, title=None):
        url = re.sub(r"^\.\./(\w+)\.ipynb(?=#|$)", r"\1.ipynb", url)  # of a reference page
        url = re.sub(r"^reference/(\w+)\.md$", r"\1.reference.html", url)
        return super().link(text, re.sub(r"\.ipynb(?=#|$)", ".html", url), title)

    def block_code(self, code, info=None):
        return colored(code, (info or "text").split()[0])

    def table(self, text):
        return f'<div class="wide"><table>{text}</table></div>\n'

    def inline_math(self, text):
        return formula(text, "inline")

    def block_math(self, text):
        return f'<div class="wide">{formula(text, "block")}</div>'


def _write_markdown():
    renderer = Renderer()
    return mistune.create_markdown(renderer=renderer, plugins=["table", "strikethrough", "math"])


def output(item) -> str:
    """An output as HTML. A widget shows what it shows without a kernel."""
    if item.output_type == "stream":
        return f"<pre>{html.escape(PACKAGES.sub('', COLOR_CODES.sub('', item.text)))}</pre>"
    if item.output_type == "error":
        return f'<pre class="error">{html.escape(f"{item.ename}: {item.evalue}")}</pre>'
    data = item.data
    if "text/html" in data:
        return f'<div class="wide">{NUMBER.sub("<td class=number", data["text/html"])}</div>'
    if WIDGET in data:
        text = data.get("text/plain", "")
        said = "" if "(children=" in text else f"<pre>{html.escape(text)}</pre>"
        return INTERACTIVE + said
    if "image/svg+xml" in data:
        return data["image/svg+xml"]
    if "image/png" in data:
        return f'<img alt="a figure" src="data:image/png;base64,{data["image/png"].strip()}">'
    if "text/markdown" in data:
        return _write_markdown()(data["text/markdown"])
    return f"<pre>{html.escape(data.get('text/plain', ''))}</pre>"


def outputs(cell) -> list:
    """Without the result of a guess below its options: the cell that finds it shows it too."""
    def has(item, kind, text):
        return text in item.get("data", {}).get(kind, "")

    asked = [item for item in cell.outputs if has(item, "text/html", "ftkit-question")]
    return [item for item in cell.outputs
            if not asked or item in asked or not has(item, "text/plain", "result: ")]


def lesson_page(notebook, name: str) -> Page:
    write, parts = _write_markdown(), []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"<!--.*?-->", "", cell.source, flags=re.S)
            parts.append(f"<section>{write(text)}</section>")
        elif cell.source.strip():
            shown = "".join(f'<div class="output">{output(item)}</div>' for item in outputs(cell))
            parts.append(colored(cell.source) + shown)
    body = "\n".join(parts)
    return Page(f"{name}.html", _title(body), body, sections(body))


def reference_pages() -> list[Page]:
    """The pages of notebooks/reference, with usual values, configurations and pitfalls."""
    pages = []
    for path in sorted((HERE / "reference").glob("*.md")):
        body = _write_markdown()(path.read_text("utf-8")).replace('href="../../', 'href="../')
        body = re.sub(r'href="(\d\w+)\.md"', r'href="\1.reference.html"', body)
        pages.append(Page(f"{path.stem}.reference.html", _title(body), body, sections(body)))
    return pages


def _title(body: str) -> str:
    found = re.search(r"<h1[^>]*>(.*?)</h1>", body, re.S)
    return plain(found.group(1)).removesuffix("#").strip() if found else "ftkit"


def sections(body: str) -> list[tuple[str, str, str]]:
    """Of each heading: its anchor, its words, and the text up to the next one."""
    found = []
    parts = re.split(r'(?=<h[1-3] id=")', body)
    for part in parts:
        head = re.match(r'<h([1-3]) id="([^"]+)">(.*?)</h\1>', part, re.S)
        if head:
            text = re.sub(r'<div class="output">.*?</div>', " ", part[head.end():], flags=re.S)
            found.append((html.unescape(head.group(2)),
                          plain(head.group(3)).removesuffix("#").strip(), plain(text)))
    return found


def glossary_page(lessons: list[Page]) -> Page:
    """Every term of the glossary, in alphabetical order, with the lesson that uses it first."""
    from ftkit.lessons.glossary import read

    names = {page.name.partition("_")[0]: page.name for page in lessons}
    write = _write_markdown()
    parts = ['<h1 id="Glossary">Glossary</h1>']
    for entry in read():
        also = f" Also: {', '.join(entry.names)}." if entry.names else ""
        where = names.get(entry.lesson)
        link = f" [Lesson {entry.lesson}]({where})" if where else ""
        parts.append(write(f"### {entry.term}\n\n{entry.text}{also}{link}"))
    body = "".join(parts)
    return Page("glossary.html", "Glossary", body, sections(body))


LINK_TO_FILE = re.compile(r'href="\.\./([^"#]+)"')


def with_sources(lessons: list[Page]) -> tuple[list[Page], list[Page]]:
    """The lessons with links to pages of the files that they point to (../ftkit/...), and those."""
    paths = sorted({path for page in lessons for path in LINK_TO_FILE.findall(page.body)
                    if (ROOT / path).is_file()})
    names = {path: path.replace("/", ".") + ".html" for path in paths}
    pages = [Page(names[path], path, f'<h1 id="file">{path}</h1>'
                  + colored((ROOT / path).read_text("utf-8"),
                            "python" if path.endswith(".py") else "text"), [])
             for path in paths]
    linked = [page._replace(body=LINK_TO_FILE.sub(
        lambda match: f'href="{names.get(match[1], match[0])}"', page.body)) for page in lessons]
    return linked, pages


def index_page(pages: list[Page]) -> Page:
    rows = "".join(
        f'<li><a href="{page.name}">{html.escape(page.title)}</a><br><span>'
        f'{html.escape(_claim(page))}</span></li>' for page in pages)
    ways = "".join(f"<li><code>{path.path}</code>: {html.escape(path.about)}; "
                   f"{sum(step.minutes for step in course.lessons_of(path.path)):,} minutes</li>"
                   for path in course.paths().values())
    body = ('<h1 id="ftkit">Fine-tuning language models, by doing it</h1><p>These are the lessons '
            'of ftkit with the outputs of one run. To run the cells, solve the exercises and make '
            'guesses yourself, install ftkit and type <code>ftkit lab</code>.</p>'
            '<p><a class="open" href="playground.html"><strong>Open the playground</strong></a>: '
            'fine-tune a language model in this browser, with nothing to install.</p>'
            f'<ol class="lessons">{rows}</ol><h2 id="paths">Paths</h2><ul>{ways}</ul>')
    return Page("index.html", "ftkit", body, sections(body))


def _claim(page: Page) -> str:
    found = re.search(r"<strong>(Claim[^:<]*:.*?)</strong>", page.body, re.S)
    return plain(found.group(1)) if found else ""


# ------------------------------------------------------------------------------------ pages


def document(page: Page, lessons: list[Page], extra: list[Page]) -> str:
    """The whole HTML of a page."""
    names = [lesson.name for lesson in lessons]
    place = names.index(page.name) if page.name in names else None
    near = []
    if place is not None:
        for word, other in (("previous", place - 1), ("next", place + 1)):
            if 0 <= other < len(lessons):
                near.append(f'<a rel="{word}" class="{word}" href="{names[other]}">'
                            f'<small>{word}</small>{html.escape(lessons[other].title)}</a>')
    contents = "".join(_entry(other, other.name == page.name) for other in [*lessons, *extra])
    return TEMPLATE.format(title=html.escape(page.title), body=page.body, contents=contents,
                           near="".join(near))


def _entry(page: Page, here: bool) -> str:
    inner = ""
    if here and page.name != "glossary.html":
        inner = "<ul>" + "".join(
            f'<li><a href="#{html.escape(name)}">{html.escape(text)}</a></li>'
            for name, text, _ in page.sections[1:]) + "</ul>"
    current = ' aria-current="page"' if here else ""
    return f'<li><a href="{page.name}"{current}>{html.escape(page.title)}</a>{inner}</li>'


def search_index(pages: list[Page]) -> str:
    rows = [[page.name, page.title, name, head, text]
            for page in pages for name, head, text in page.sections]
    return "const INDEX = " + json.dumps(rows, ensure_ascii=False, separators=(",", ":")) + ";\n"


def build(out: Path, execute: bool = True, smoke: bool = False) -> list[Page]:
    """Write the site into `out`, replacing what an earlier build wrote there; returns its pages."""
    if out.exists() and any(out.iterdir()) and not (out / "search.js").exists():
        raise SystemExit(f"{out} is not empty and holds no site of ours; give another folder")
    package = package_hash() if execute else ""
    lessons = []
    for path in notebooks():
        notebook = executed(path, package, smoke) if execute else nbformat.read(path, 4)
        lessons.append(lesson_page(notebook, path.stem))
    extra = [glossary_page(lessons)]
    linked, sources = with_sources([*lessons, *reference_pages()])
    lessons, reference = linked[:len(lessons)], linked[len(lessons):]
    pages = [index_page(lessons), *lessons, *extra, *sources, *reference]
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for page in pages:
        (out / page.name).write_text(document(page, lessons, extra), "utf-8")
    shutil.copytree(HERE / "figures", out / "figures")
    for name in ("site.css", "site.js"):
        shutil.copyfile(HERE / "site_files" / name, out / name)
    light, dark = (HtmlFormatter(style=style, cssclass="code")
                   for style in ("xcode", "github-dark"))
    (out / "code.css").write_text(
        light.get_style_defs(".code") + "\n" + dark.get_style_defs('[data-theme="dark"] .code'),
        "utf-8")
    (out / "playground.html").write_text(playground(), "utf-8")
    (out / "search.js").write_text(search_index([*lessons, *extra, *reference]), "utf-8")
    return pages


def playground() -> str:
    """The page of `make playground`, with links to the lessons; else a page that says it is not
    built."""
    from ftkit.cli import playground

    page = playground.page()
    if page is None:
        return ("<!doctype html><title>ftkit playground</title><p>The playground is not part of "
                "this site: it was built on a machine without Node.</p>")
    return page.read_text("utf-8").replace('name="lessons" content=""',
                                           'name="lessons" content="./"')


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the course as a static web site.")
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder (default: site)")
    parser.add_argument("--no-execute", action="store_true", help="pages without outputs")
    parser.add_argument("--smoke", action="store_true", help="runs of a few steps, for a test")
    given = parser.parse_args()
    pages = build(given.out, not given.no_execute, given.smoke)
    size = sum(path.stat().st_size for path in given.out.rglob("*") if path.is_file())
    print(f"{len(pages)} pages, {size / 1e6:.1f} MB: {given.out / 'index.html'}")
    return 0


TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="site.css">
<link rel="stylesheet" href="code.css">
<script>
document.documentElement.dataset.theme = localStorage.getItem("theme") ||
  (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
</script>
</head>
<body>
<header>
<button id="menu" aria-label="contents" aria-expanded="false">☰</button>
<a class="home" href="index.html">ftkit</a>
<input id="search" type="search" placeholder="Search" aria-label="Search the lessons">
<button id="theme" aria-label="light or dark">◐</button>
</header>
<ol id="found" hidden></ol>
<nav id="contents" aria-label="Contents"><ul>{contents}</ul></nav>
<main>
{body}
<div class="near">{near}</div>
</main>
<script src="search.js"></script>
<script src="site.js"></script>
</body>
</html>
"""


if __name__ == "__main__":
    sys.exit(main())
