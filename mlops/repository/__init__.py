"""The model repository: registered models as those who predict with them find them, in the platform's own storage."""
