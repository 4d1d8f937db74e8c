"""Networks: backbone, position encoding, encoder and decoder layers, heads, and how they are built."""
