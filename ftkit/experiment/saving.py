"""Save the tuned weights of a run in a folder."""

import shutil

from ftkit.base import files
from ftkit.base.errors import UserError
from ftkit.experiment import store
from ftkit.model import export, loading, merge, peft_methods


def save(run, out):
    """Write the weights and the recipe of a run into the folder `out`, completely or not at all.

    If that fails, they are written to the run's folder, and UserError gives its path.
    """
    try:
        run.saved_to = str(loading.save(_to_save(run), run.tokenizer, out))
        export.keep_recipe(run, out)
    except BaseException as error:  # Ctrl-C too
        run.saved_to = None
        shutil.rmtree(out, ignore_errors=True)
        if (reason := files.why_not_written(error)) is None:
            raise
        kept = "complete and stored" if store.holds(run) else "complete"
        raise UserError(f"run {run.id} is {kept}, but its weights could not be written to {out}: "
                        f"{reason}. {_save_elsewhere(run)}") from None


def _to_save(run):
    """Return the model to save. An adapter is merged if its base was tuned in this process, since
    that base is not stored in any folder."""
    model = run.model
    if not hasattr(model, "peft_config") or model.name_or_path or peft_methods.is_virtual(model):
        return model
    run.notes.append("saved as a whole model with the adapter merged, since the base of the "
                     "adapter was tuned in this process and is in no folder")
    return merge.merged(model)


def _save_elsewhere(run) -> str:
    """Write the weights into the run's folder; returns advice for the user."""
    place = store.folder_of(run.id) / "weights"
    try:
        loading.save(_to_save(run), run.tokenizer, place)
        export.keep_recipe(run, place)
    except Exception as error:
        if files.why_not_written(error) is None:
            raise
        shutil.rmtree(place, ignore_errors=True)
        return "Free some disk space and run it again."
    return f"They are in {place}. Copy them from there."
