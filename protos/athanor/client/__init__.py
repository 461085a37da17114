"""What other programs import: `athanor.client.stream`, `batches`, and the command line's verbs.

Speaks gRPC only; needs neither the libraries nor the services of the tree. Import the modules
themselves: `stream` needs torch, the others do not.
"""
