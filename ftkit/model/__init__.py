"""Models on disk and in memory: loading, download, PEFT methods, merge, export."""
