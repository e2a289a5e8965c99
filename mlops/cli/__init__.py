"""The command line: nouns, then verbs, over the SDK only."""
