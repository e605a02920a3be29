"""Code that computes the number or shows the effect behind an interview answer.

A proof is in the file of its topic: `evaluation`, `lora`, `loss`, `memory`, `numbers`,
`preferences`, `rewards`, or `runs` where it fine-tunes a model. `registry` has the decorator,
`core` runs and draws them.
"""
