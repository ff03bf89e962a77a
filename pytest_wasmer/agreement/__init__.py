"""Whether every compiler did the same: what a test saw on each is recorded, compared and told."""
