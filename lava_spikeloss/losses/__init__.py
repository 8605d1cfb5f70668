"""The losses: one file per family, each with the functionals and the thin modules that call them."""
