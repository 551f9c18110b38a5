"""One shop's box: the ledger and its views, the pricing cycle, and the socket through which it is asked."""
