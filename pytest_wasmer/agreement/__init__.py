"""Whether every compiler did the same: what a test saw on each is recorded, compared and told."""

#: Where the goldens of a directory's test files are.
FOLDER = "__golden__"
