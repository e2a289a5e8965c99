"""The embedded stack: real servers and processes on one machine, in one directory."""
