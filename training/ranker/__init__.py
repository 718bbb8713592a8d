"""The ranker: a Transformer over a shopper's events and heads over features, trained offline."""
