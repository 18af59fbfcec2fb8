"""A stand-in of the Gevulot node, as far as a program in its guest sees it: tasks out, results in."""
