"""The small registry that a person may read and edit: tills and device labels."""
