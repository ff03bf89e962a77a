"""Several backends asked at once, inside one test."""
