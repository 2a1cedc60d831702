"""Cards, embedders, the zoo; networks live in `nets`, which needs torch."""
