"""Results as markers and cuts for editing programs."""
