"""Code that computes the number or shows the effect behind an interview answer."""
