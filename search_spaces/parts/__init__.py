"""Modules that several families build their networks from: operations, aggregations, blocks, and what they cost."""
