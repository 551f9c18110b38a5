"""What may leave the shop: identifiers removed, sums over windows, exact noise, and a ledger of what was spent."""
