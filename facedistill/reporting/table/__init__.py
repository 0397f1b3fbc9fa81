"""Tables of results, of one run and of many."""
