module example.org/norm

go 1.19

require git.example.org/private/lattice.git v1.0.0
