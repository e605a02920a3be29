"""The parameters of FSRS: those of the package, or those fitted to the learner's own reviews.

    fit(Store().reviews())      # says whether it predicts better; also `ftkit drill --fit`

FSRS says for each review how probable it was that the card was still known. Parameters fitted to
the older reviews are kept only if they predict the newest fifth better than the package's own.
"""

from __future__ import annotations

import json
import math
import zlib
from datetime import UTC, datetime

from ftkit.base import files, machine
from ftkit.base.errors import UserError

ENOUGH = 640  # usable reviews: the optimizer of fsrs needs 512, and a fifth is held out


def _path():
    return machine.home() / "fsrs.json"


def parameters() -> list[float] | None:
    """The fitted parameters; None where nothing was fitted, or the file cannot be used."""
    try:
        values = json.loads(_path().read_text("utf-8"))["parameters"]
        scheduler(values)
        return values
    except (OSError, ValueError, KeyError, TypeError):
        return None


def scheduler(values: list[float] | None = None):
    """A Scheduler of the fsrs package without its random fuzz. ValueError for wrong parameters."""
    from fsrs import Scheduler

    return Scheduler(enable_fuzzing=False) if values is None else Scheduler(
        tuple(values), enable_fuzzing=False)


def usable(reviews: list[dict]) -> list[int]:
    """The indices of the reviews, sorted by time, that are at least a day after their card's last
    one: only these say something about memory."""
    last: dict[str, datetime] = {}
    indices = []
    for index, review in enumerate(reviews):
        at = datetime.fromisoformat(review["at"])
        if review["card"] in last and (at - last[review["card"]]).days >= 1:
            indices.append(index)
        last[review["card"]] = at
    return indices


def log_loss(reviews: list[dict], values: list[float] | None = None, since: int = 0) -> float:
    """Mean negative log-likelihood (nats) of whether a card was still known, over the usable
    reviews from index `since` on; nan where there are none."""
    from fsrs import Card, Rating

    made, schedule, losses = scheduler(values), {}, []
    counted = set(usable(reviews))
    for index, review in enumerate(reviews):
        key, at = review["card"], datetime.fromisoformat(review["at"]).astimezone(UTC)
        card = schedule.get(key) or Card(card_id=zlib.crc32(key.encode()), due=at)
        if index >= since and index in counted:
            known = min(max(made.get_card_retrievability(card, at), 1e-4), 1 - 1e-4)
            losses.append(-math.log(known if review["rating"] > 1 else 1 - known))
        schedule[key], _ = made.review_card(card, Rating(review["rating"]), review_datetime=at)
    return sum(losses) / len(losses) if losses else math.nan


def fit(reviews: list[dict]) -> str:
    """Fit FSRS to the older four fifths of the reviews with the optimizer of the fsrs package, and
    keep the result in `home()/fsrs.json` if it predicts the newest fifth better; returns a sentence
    that says so. reviews: by time, as `Store.reviews` gives them.

    Raises UserError if fewer than 640 of them are usable.
    """
    indices = usable(reviews)
    if len(indices) < ENOUGH:
        raise UserError(f"you have {len(indices)} reviews at least a day after the card's last "
                        f"one; {ENOUGH} are needed to fit FSRS to them. Until then the parameters "
                        "of the fsrs package are used")
    from fsrs import Optimizer, Rating, ReviewLog

    since = indices[len(indices) * 4 // 5]
    logs = [ReviewLog(zlib.crc32(r["card"].encode()), Rating(r["rating"]),
                      datetime.fromisoformat(r["at"]).astimezone(UTC), None)
            for r in reviews[:since]]
    fitted = [float(value) for value in Optimizer(logs).compute_optimal_parameters()]
    before, after = log_loss(reviews, None, since), log_loss(reviews, fitted, since)
    seen = (f"on your newest {len(reviews) - since} reviews: log loss {after:.3f}, before "
            f"{before:.3f}")
    if not after < before:
        return f"The fitted parameters predict no better {seen}. Nothing was changed."
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(path, json.dumps({"parameters": fitted, "reviews": len(reviews)}))
    return f"The fitted parameters predict better {seen}. They are used from now on ({path})."
