"""Radio sticks, one module each: a core that speaks the stick's host protocol."""
