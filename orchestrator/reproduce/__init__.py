"""Why two builds of the same thing gave different bytes: which file, who wrote it, and the likely cause."""
