"""Language models on Triton Inference Server: the cluster profile's place for the lm host.

Read `repository` (what Triton reads, written by code into the object store), `model` (the program
that Triton runs for each model), `replica` (one server), `libs.lm.publish` (who tells it to load),
`fleet` (several servers as one), `client` (the port `Lm` met through them).
"""
