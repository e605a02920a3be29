"""Lesson 20c, distillation."""

from ftkit.lessons.checks import exercise
from ftkit.lessons.exercises._common import check_number, close, told


@exercise("distill_loss")
def _(distill_loss):
    import torch

    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 5, generator=generator) * 2
    mask = torch.tensor([[1.0, 1, 1], [1.0, 0, 0]])
    ours, theirs = student.log_softmax(-1), teacher.log_softmax(-1)

    def kl(p, q):
        """KL(p || q) of each token, from log-probabilities."""
        return (p.exp() * (p - q)).sum(-1)

    for reverse in (False, True):
        p, q = (ours, theirs) if reverse else (theirs, ours)
        got = distill_loss(student, teacher, mask, reverse)
        if getattr(got, "ndim", 0):
            return f"expected a scalar, got shape {tuple(got.shape)}: a mean over the real tokens"
        each = kl(p, q)
        case = f"reverse={reverse}"
        if not isinstance(got, torch.Tensor):
            return f"expected a scalar tensor, which can be trained on; got a {type(got).__name__}"
        if message := check_number(case, float(got), float((each * mask).sum() / mask.sum()), {
            float((kl(q, p) * mask).sum() / mask.sum()):
                "the two directions are exchanged: reverse is KL(student || teacher)",
            float(each.mean()): "padding counts: multiply by mask, divide by mask.sum()",
            float((each * mask).mean()): "divided by all positions; divide by mask.sum()",
            float((each * mask).sum()): "a sum; divide it by mask.sum()",
            float(((each * mask).sum(1) / mask.sum(1)).mean()):
                "each answer is averaged first; here every real token counts alike",
            float((each / 5 * mask).sum() / mask.sum()):
                "a mean over the vocabulary; the KL of a token is a SUM over it",
            float((-(p.exp() * q).sum(-1) * mask).sum() / mask.sum()):
                "this is the cross-entropy, which is not 0 where both agree: subtract the entropy",
            -float((each * mask).sum() / mask.sum()): "wrong sign: a KL is never negative",
            float(((p.exp() * (student - teacher) * (1 if reverse else -1)).sum(-1) * mask).sum()
                  / mask.sum()): "these are logits: take log_softmax over the vocabulary first",
            float(((kl(ours, theirs) + kl(theirs, ours)) / 2 * mask).sum() / mask.sum()):
                "the mean of both directions; `reverse` chooses one",
            -float((kl(q, p) * mask).sum() / mask.sum()):
                "the weights are those of the other distribution: p log(p / q) has p in front",
            float((each * mask).sum() / len(mask)): "divided by the answers; divide by mask.sum()",
            float(each.sum() / len(mask)): "batchmean divides by the answers and counts padding: "
                                           "multiply by mask, divide by mask.sum()",
            float(((student - teacher).square().mean(-1) * mask).sum() / mask.sum()):
                "squared differences of logits; the KL is of the probabilities",
        }):
            return message
    spacing = ours.exp() * mask[..., None] / mask.sum()
    slopes = {False: spacing - theirs.exp() * mask[..., None] / mask.sum(),
              True: spacing * (ours - theirs - kl(ours, theirs)[..., None])}
    for reverse, slope in slopes.items():
        far, other = student.clone().requires_grad_(), teacher.clone().requires_grad_()
        loss = distill_loss(far, other, mask, reverse)
        if not loss.requires_grad:
            return f"reverse={reverse}: the loss does not depend on student, so nothing is learned"
        loss.backward()
        if other.grad is not None and other.grad.abs().max() > 0:
            return f"reverse={reverse}: the teacher gets a gradient: use teacher.detach()"
        if far.grad is None:
            return f"reverse={reverse}: the student gets no gradient: detach the teacher alone"
        if not close(far.grad.float(), slope):
            return (f"reverse={reverse}: the value is right and its gradient is not: the student's "
                    "probabilities, where they are the weights, get a gradient too; detach the "
                    "teacher alone")
    wide = torch.tensor([[[200.0, 0.0]]])
    apart = float(distill_loss(wide, -wide, torch.ones(1, 1), False))
    if not abs(apart - 200) < 1:
        return (f"logits of 200 and 0 against -200 and 0 gave {apart}; expected 200. A probability "
                "is rounded to 0 there: use log_softmax, not the logarithm of softmax")


@exercise("token_rewards")
def _(token_rewards):
    import torch

    student = torch.tensor([[-1.0, -2.0, -0.5], [-0.2, -3.0, -7.0]], requires_grad=True)
    teacher = torch.tensor([[-0.5, -4.0, -0.5], [-0.1, -1.0, -9.0]], requires_grad=True)
    mask = torch.tensor([[1.0, 1, 1], [1.0, 1, 0]])
    got = token_rewards(student, teacher, mask)
    if not hasattr(got, "shape") or tuple(got.shape) != (2, 3):
        return f"expected one reward for each token, shape (2, 3), got {got!r:.60}"
    now, raw = student.detach(), (teacher - student).detach()
    expected = raw * mask
    found = got.detach()
    theirs = teacher.detach()
    message = told(found, expected, [
        (-expected, "wrong sign: a token that the teacher finds likelier earns more"),
        (raw, "padding earns something: multiply by mask"),
        (theirs * mask, "the teacher's log-probability alone: then the student repeats "
                         "the likeliest token for ever; subtract its own log-probability"),
        ((theirs.exp() - now.exp()) * mask,
         "a difference of probabilities; use log-probabilities"),
        (expected.sum(1, keepdim=True).expand(2, 3) * mask,
         "one reward for the whole answer; here each token has its own"),
        (now.exp() * expected, "weighted by the student's probability; the student drew the "
                               "tokens, so they come with that weight already"),
        (raw.exp() * mask, "the ratio; the reward is its logarithm"),
        (theirs / now * mask, "a quotient of logarithms; the logarithm of the ratio is their "
                              "DIFFERENCE"),
        (theirs.exp() * expected, "weighted by the teacher's probability; the student drew the "
                                  "tokens, so they come with its weight already"),
        (-now * mask, "the student's log-probability alone: that rewards surprise; add the "
                      "teacher's"),
        (expected.clamp(min=0), "a token that the teacher finds unlikely must cost something: no "
                                "clamp at 0"),
        (-expected.abs(), "the distance; a token that the teacher finds likelier earns MORE "
                          "than 0"),
        (-(raw.exp() - raw - 1) * mask, "this is k3, an estimate of the KL: its gradient as a "
                                        "reward is another one; use the difference"),
        (expected.flip(1).cumsum(1).flip(1) * mask, "later tokens are added; here each token has "
                                                    "its own reward"),
        (expected / mask.sum(), "divided by the number of tokens; a reward of a token is not a "
                                "mean"),
    ], f"got {found.tolist()}; expected {expected.tolist()}", close)
    if message is None and got.requires_grad:
        return "a gradient flows through the reward: use .detach()"
    return message


def _assert_copies(found):
    """AssertionError unless `found` are whole records; input is "of N" for instruction "qN"."""
    if any(isinstance(r, str) for r in found):
        raise AssertionError("it returned texts; return copies of the RECORDS, with the kept "
                             "answer as output")
    if any(isinstance(r, list) for r in found):
        raise AssertionError("it returned a list for each question; return one list of records")
    if any(r.get("input") != f"of {r['instruction'][1:]}" for r in found):
        raise AssertionError("the input of a record is lost: copy the whole record, "
                             "record | {\"output\": text}")


def _one_each(one) -> str | None:
    """The mistake in the (question, answer) that most=1 keeps of `keep_right`'s case, or None."""
    if ("q0", " one ") in one:
        return "the kept answer has spaces around it: compare and keep text.strip()"
    if any(r == "q1" for r, _ in one):
        return "q1 has no right answer and is kept"
    if ("q2", "six") in one and ("q2", "six.") not in one:
        return "q2: kept the record's own output, or not the first right answer: keep 'six.'"
    if ("q3", "six") in one and ("q3", "six.") not in one:
        return "q3: the most frequent right answer is kept; keep the first, 'six.'"
    if one == [("q2", "six."), ("q3", "six.")]:
        return "q0 is lost: its first answer is wrong. Filter first, then count up to `most`"
    if len(one) == 1:
        return "only one record is left: `most` counts the answers of ONE question"
    if len(one) > 3:
        return f"most=1 kept {one}: more than one answer of a question"
    if one == [("q0", "one"), ("q2", "six.")]:
        return "q3 is lost: it has the answer of q2, and only answers to ONE question must differ"
    if one != [("q0", "one"), ("q2", "six."), ("q3", "six.")]:
        return (f"most=1 kept {one}; expected q0 'one', q2 'six.' and q3 'six.', in the order of "
                "the records")
    return None


@exercise("keep_right")
def _(keep_right):
    records = [{"instruction": f"q{i}", "input": f"of {i}", "output": key}
               for i, key in enumerate(("one", "two", "six", "six"))]
    answers = [["nine", " one ", "one", "one.", "two"], ["four"], ["six.", "six", "six."],
               ["six.", "six", "six"]]

    def is_right(text, record):
        return text.strip(" .") == record["output"]

    def kept(most):
        found = keep_right(records, answers, is_right, most)
        _assert_copies(found)
        return [(r["instruction"], r["output"]) for r in found]

    before = [dict(record) for record in records]
    one = kept(1)
    if records != before:
        return "the records were changed: make copies, record | {\"output\": text}"
    if message := _one_each(one):
        return message
    many = kept(3)
    if many == one:
        return "most is not used: q0 has two different right answers"
    if len(set(many)) < len(many):
        return f"an answer is kept twice: {many}"
    if many != [("q0", "one"), ("q0", "one."), ("q2", "six."), ("q2", "six"), ("q3", "six."),
                ("q3", "six")]:
        return (f"most=3 kept {many}; expected 'one', 'one.' of q0, 'six.', 'six' of q2 and of q3")
    if len(kept(2)) != 6:
        return f"most=2 kept {kept(2)}: `most` counts the answers of ONE question"
