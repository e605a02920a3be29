"""The `ftkit` command."""
