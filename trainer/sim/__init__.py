"""A simulator of shops (numpy only): pure step functions over frozen parameters."""
