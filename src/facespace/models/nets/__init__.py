"""Networks, in torch: input float `(N, 3, S, S)` in -1..1, output float `(N, D)`, not normalised."""
