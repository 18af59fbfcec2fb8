"""`init`: a commented project.yaml and a sample program that a new user can build at once."""
