"""`ftkit playground`: the page that fine-tunes the embedded model in a browser tab."""

import json
import webbrowser
from pathlib import Path

from ftkit.base import machine
from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.experiment import store
from ftkit.experiment.run import Run


def page() -> Path | None:
    """The built page: inside the package, or where a clone builds it. None if it is not built."""
    folder = machine.share("playground")
    built = (folder / "index.html", folder / "dist" / "index.html")
    return next((path for path in built if path.exists()), None)


def address() -> str:
    """The address of the page. Raises UserError if it is not built."""
    found = page()
    if found is None:
        raise UserError(f"the playground is not built in {machine.share('playground')}. In a clone "
                        "with Node 18 or later, run `make playground`.")
    return found.as_uri()


def show(browser: bool) -> str:
    url = address()
    opened = browser and webbrowser.open(url)
    return f"The playground is {'open' if opened else 'a page to open'} in your browser: {url}"


def stored(id: str) -> list:
    """Load a stored run by its id, or the runs in a file that the playground exported. New ones are
    added to the store. Raises UserError if there is no such run or the file has none."""
    if not id.endswith(".json"):
        return [store.load_run(id)]
    try:
        runs = [Run.from_dict(saved) for saved in json.loads(at_home(id).read_text("utf-8"))]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{id} has no playground runs ({error}). Use a file that the button "
                        "`Export runs` of the playground wrote.") from None
    for run in runs:
        if run.id not in store.ids():
            store.add(run)
    return runs
