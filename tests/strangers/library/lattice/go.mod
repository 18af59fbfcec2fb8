module git.example.org/private/lattice.git

go 1.19
