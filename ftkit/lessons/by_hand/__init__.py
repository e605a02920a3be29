"""Methods of the lessons written from scratch, tested against the libraries."""
