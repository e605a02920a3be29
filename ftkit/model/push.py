"""Upload a tuned model or adapter to the Hugging Face hub, with its card.

    push("my-adapter", "me/my-adapter")      # its page
"""

from pathlib import Path
from typing import Any

from ftkit.base.errors import UserError
from ftkit.base.files import at_home
from ftkit.model import adapter_folder, export


def push(folder: str | Path, name: str, public: bool = False, api: Any = None) -> str:
    """Upload a folder as OWNER/NAME; returns the address of its page.

    The file with the facts of the run stays here, since it has records and paths of this machine;
    the card has what others need. api: by default `huggingface_hub.HfApi()`. Raises UserError if
    there is nothing to upload, if the base of an adapter is a folder of this machine, without a
    login, or if the hub refuses.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    folder = at_home(folder)
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.gguf")):
        raise UserError(f"{folder} has no weights; expected a folder that `ftkit run --out` or "
                        "`ftkit export` wrote")
    if adapter_folder.is_adapter(folder):
        base = adapter_folder.base_of(folder)
        if base == "tiny" or Path(base).is_absolute():
            raise UserError(f"the base of the adapter is {base}, which the hub does not have. "
                            "Merge it with `ftkit export` and push the result")
    if api is None and huggingface_hub.get_token() is None:
        raise UserError("there is no login of the Hugging Face hub on this machine. Run `hf auth "
                        "login`")
    api = api or huggingface_hub.HfApi()
    try:
        api.create_repo(name, private=not public, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, ignore_patterns=[export.RECIPE],
                          commit_message="Upload with ftkit")
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip().splitlines() or ["?"])[0]
        raise UserError(f"the hub did not take {name}: {reason}. Check the name, the login and the "
                        "network") from None
    return f"https://huggingface.co/{name}"
