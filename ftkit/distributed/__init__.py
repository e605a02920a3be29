"""More than one device: ZeRO on simulated ranks, launching real ranks, the training script."""
