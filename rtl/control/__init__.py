"""The operation controller: instruction queue, decoder and sequencing."""
