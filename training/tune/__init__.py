"""Settings of search chosen on judged queries, by cross-validation over the queries."""
