"""Keys as administration looks at them: all of them, and what proposed ones would see."""
