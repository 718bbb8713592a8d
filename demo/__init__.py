"""The demo: the whole of Souk as a newcomer meets it."""
