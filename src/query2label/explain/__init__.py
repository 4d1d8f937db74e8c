"""Where a model looked for each label, as numbers and as pictures."""
