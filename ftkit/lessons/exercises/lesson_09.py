"""Lesson 09, where the memory goes."""

from ftkit.lessons.checks import exercise, near
from ftkit.lessons.exercises._common import check_number, check_parts


@exercise("state_bytes")
def _(state_bytes):
    one = "one of the four parts is missing: weights 4, gradients 4, two moments 8"
    adamw = check_number("1,000 trained parameters with AdamW", state_bytes(0, 1000), 16_000, {
        12_000: one, 8_000: "with AdamW there are two moments as well, of 4 bytes each",
        4_000: "these are the weights alone; add gradients and moments",
        16: "that is for one parameter; multiply by their number",
        1.6e-5: "that is in GB; return bytes", 8_000 + 2_000: "the moments of plain AdamW are in "
        "fp32, 4 bytes each", 18_000: "18 bytes are those of mixed precision with a 16-bit copy of "
        "the weights; here weights and gradients are in fp32 alone"})
    if adamw:
        return adamw
    lora = check_number(
        "1,000 frozen parameters of 2 bytes and 10 trained ones", state_bytes(1000, 10), 2160, {
            16 * 1010: "frozen parameters have neither gradients nor moments",
            160: "the frozen weights are in memory too: 2 bytes each",
            4160: "the frozen weights have `frozen_bytes` bytes each, here 2",
            2160 - 40: "the trained weights themselves are missing: 4 bytes each",
            14 * 1000 + 160: "frozen parameters have neither gradients nor moments"})
    if lora:
        return lora
    return (check_number("1,000 frozen parameters of half a byte", state_bytes(1000, 0, 0.5), 500,
                         {2000: "`frozen_bytes` is ignored"})
            or check_number("1,000 trained parameters with adamw_8bit",
                            state_bytes(0, 1000, optimizer="adamw_8bit"), 10_000, {
                16_000: "`optimizer` is ignored; two moments of one byte are 2 bytes",
                9_000: "there are two moments, of one byte each",
                4_000: "only the moments are in 8 bits; weights and gradients stay in fp32"})
            or check_number("1,000 trained parameters with sgd",
                            state_bytes(0, 1000, optimizer="sgd"), 8_000, {
                16_000: "SGD without momentum stores no moments",
                12_000: "SGD without momentum stores no moments"}))


@exercise("token_bytes")
def _(token_bytes):
    made = token_bytes(100, 3, 1000)
    check_parts(made, 2, "expected two numbers, (activations, logits)")
    activations, logits = made
    if near(activations, 8000) and near(logits, 10_200):
        return "the two numbers are in the wrong order; expected (activations, logits)"
    return check_number("activations (hidden 100, 3 layers)", activations, 10_200, {
        3400: "that is one layer; every layer stores its own",
        20_400: "34 are bytes already, not values of two bytes",
        40_800: "34 are bytes already, not values of four bytes",
        34 * 3 * 1000: "activations grow with the hidden size, not with the vocabulary",
    }) or check_number("logits (vocabulary 1,000)", logits, 8_000, {
        4_000: "either the gradient is missing, which has the same size, or both are counted with "
               "2 bytes; these estimates have them in fp32",
        2_000: "these estimates count the logits in fp32, and their gradient",
        24_000: "there is one head, so the number of layers does not matter",
        12_000: "there is one head, and the gradient has the same size: 4 + 4 bytes",
        800_000: "one token has `vocabulary` logits; the hidden size does not matter",
        1_000: "each logit has 4 bytes, and its gradient as well"})


@exercise("longest")
def _(longest):
    short, long = (1000, 10.0e9), (3000, 14.0e9)  # 8 GB that do not grow, and 2 MB a token
    made = longest(20e9, short, long)
    message = check_number("20 GB, with 10 GB at 1,000 tokens and 14 GB at 3,000", made, 6000, {
        2000: "that ignores the part that does not grow with the tokens: use the slope between "
              "the two points",
        4285: "that ignores the part that does not grow with the tokens",
        10_000: "the fixed part needs memory too; start from one of the two points",
        5000: "these are the tokens to add to the short point; the total is asked for",
        3000: "these are the tokens to add to the long point; the total is asked for",
        8e9: "that is the part that does not grow, in bytes; tokens are asked for"}, 1e-6)
    if message:
        return message
    made = longest(20.0011e9, short, long)
    if made == 6001:
        return "6,000.55 tokens were rounded up, and 6,001 need more than the budget; round down"
    if made != 6000 or int(made) != made:
        return f"a budget for 6,000.55 tokens gave {made!r}; expected the whole number 6,000"
