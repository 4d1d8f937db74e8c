"""How good maps are: whether they lie on the labelled things. `inference` makes and draws them."""
