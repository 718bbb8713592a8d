"""A shopper's context and candidates -> an order. Start with service.py; ranking.py has the path of one request."""
