"""Real clients put files into the inbox: each must arrive once and whole, and nothing else may ever be taken."""
