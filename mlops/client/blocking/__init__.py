"""The synchronous client: thin twins of the asynchronous classes, driven through an event loop in a thread."""
