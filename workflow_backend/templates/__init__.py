"""Ready workflows, and the catalogue that finds them."""
