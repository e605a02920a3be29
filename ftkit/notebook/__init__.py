"""What is drawn in JupyterLab beyond plots: the what-if lab, widgets, the memory calculator."""
