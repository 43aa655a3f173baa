"""The pieces of the store that decide without a store around them."""
