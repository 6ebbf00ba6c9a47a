"""Commands on results that exist already."""
