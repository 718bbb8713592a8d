"""Texts and items -> content vectors. Start with service.py; models.py has the path of one request."""
