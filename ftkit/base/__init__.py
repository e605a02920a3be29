"""What every other room uses: Config, the machine, errors, numbers and text."""
