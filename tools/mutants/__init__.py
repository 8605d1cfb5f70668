"""Mutation testing, ``make mutants``: small changes are made to the code, and the tests have to notice them."""
