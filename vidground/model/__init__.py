"""D2VLM and its parts."""
