"""Networks: who belongs to one, what each may see, which keys hold, and the connections of their members."""
