"""How many bytes a training step needs: formula, simulation, measurement, and what fits."""
